// Direct solver for the symmetric positive definite systems of one chart, with B unknowns per vertex.
//
// Up-looking block L D L^T after Davis, "Algorithm 849: A Concise Sparse Cholesky Factorization Package"
// (2005), in the order of geometric nested dissection (George 1973): a chart is nearly planar, so halving
// it along its longest axis leaves small separators.
#pragma once

#include <cstdint>
#include <vector>

#include "unwrap_chart.hpp"

namespace tk::uv {

// Elimination order of vertices at `where` joined by `edges` (pairs of vertex numbers).
std::vector<int32_t> nested_dissection(const std::vector<Vec3d>& where, const std::vector<int32_t>& edges);

template <int B>
class BlockSolver {
public:
    struct Block {
        double m[B][B];
    };

    // `edges`: pairs of distinct vertices; a pair may be there more than once, its blocks then add up.
    BlockSolver(int64_t vertices, const std::vector<int32_t>& edges, const std::vector<int32_t>& order);

    // diagonal[v] and off_diagonal[e] (which must be a symmetric block). False when the matrix is not
    // positive definite.
    bool factor(const std::vector<Block>& diagonal, const std::vector<Block>& off_diagonal);

    // Replaces x, B values a vertex, by the solution. With several right-hand sides call it several times.
    void solve(std::vector<double>& x) const;

private:
    int64_t n_;
    std::vector<int32_t> order_, rank_;          // order_[k] is the vertex eliminated as number k
    std::vector<int64_t> column_;                // upper triangle by columns, in elimination order
    std::vector<int32_t> row_, edge_;
    std::vector<int32_t> parent_;                // elimination tree
    std::vector<int64_t> factor_column_;
    std::vector<int32_t> factor_row_;
    std::vector<Block> factor_, inverse_diagonal_;
};

extern template class BlockSolver<1>;
extern template class BlockSolver<2>;

}  // namespace tk::uv
