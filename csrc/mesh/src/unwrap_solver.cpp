#include "unwrap_solver.hpp"

#include <algorithm>
#include <cmath>

namespace tk::uv {
namespace {

class Dissection {
public:
    Dissection(const std::vector<Vec3d>& where, const std::vector<int32_t>& edges) : where_(where) {
        const int64_t n = static_cast<int64_t>(where.size());
        first_.assign(n + 1, 0);
        for (int32_t v : edges) ++first_[v + 1];
        for (int64_t v = 0; v < n; ++v) first_[v + 1] += first_[v];
        neighbour_.resize(edges.size());
        std::vector<int64_t> at(first_.begin(), first_.end() - 1);
        for (size_t e = 0; e < edges.size(); e += 2) {
            neighbour_[at[edges[e]]++] = edges[e + 1];
            neighbour_[at[edges[e + 1]]++] = edges[e];
        }
        side_.assign(n, 0);
        all_.resize(n);
        for (int64_t v = 0; v < n; ++v) all_[v] = static_cast<int32_t>(v);
    }
    std::vector<int32_t> order() {
        result_.reserve(all_.size());
        divide(all_.data(), static_cast<int64_t>(all_.size()));
        return std::move(result_);
    }

private:
    void divide(int32_t* list, int64_t count) {
        if (count <= 24) {
            result_.insert(result_.end(), list, list + count);
            return;
        }
        Vec3d low = where_[list[0]], high = low;
        for (int64_t i = 1; i < count; ++i)
            for (int k = 0; k < 3; ++k) {
                low[k] = std::min(low[k], where_[list[i]][k]);
                high[k] = std::max(high[k], where_[list[i]][k]);
            }
        const Vec3d size = high - low;
        const int axis = size.x >= size.y && size.x >= size.z ? 0 : size.y >= size.z ? 1 : 2;
        const int64_t half = count / 2;
        std::nth_element(list, list + half, list + count, [&](int32_t a, int32_t b) {
            const double x = where_[a][axis], y = where_[b][axis];
            return x < y || (x == y && a < b);
        });
        const int32_t left = ++stamp_, right = ++stamp_;
        for (int64_t i = 0; i < count; ++i) side_[list[i]] = i < half ? left : right;
        // The left half's vertices with a neighbour on the right separate the two.
        auto separates = [&](int32_t v) {
            for (int64_t i = first_[v]; i < first_[v + 1]; ++i)
                if (side_[neighbour_[i]] == right) return true;
            return false;
        };
        int32_t* middle = std::stable_partition(list, list + half, [&](int32_t v) { return !separates(v); });
        const std::vector<int32_t> separator(middle, list + half);
        divide(list, middle - list);
        divide(list + half, count - half);
        result_.insert(result_.end(), separator.begin(), separator.end());
    }

    const std::vector<Vec3d>& where_;
    std::vector<int64_t> first_;
    std::vector<int32_t> neighbour_, side_, all_, result_;
    int32_t stamp_ = 0;
};

bool invert(const double (&a)[1][1], double (&out)[1][1]) {
    if (!(a[0][0] > 0) || !std::isfinite(a[0][0])) return false;
    out[0][0] = 1.0 / a[0][0];
    return std::isfinite(out[0][0]);
}

bool invert(const double (&a)[2][2], double (&out)[2][2]) {
    const double det = a[0][0] * a[1][1] - a[0][1] * a[1][0];
    if (!(a[0][0] > 0) || !(det > 0) || !std::isfinite(det)) return false;
    const double s = 1.0 / det;
    out[0][0] = a[1][1] * s;
    out[1][1] = a[0][0] * s;
    out[0][1] = -a[0][1] * s;
    out[1][0] = -a[1][0] * s;
    return std::isfinite(s);
}

}  // namespace

std::vector<int32_t> nested_dissection(const std::vector<Vec3d>& where, const std::vector<int32_t>& edges) {
    return Dissection(where, edges).order();
}

template <int B>
BlockSolver<B>::BlockSolver(int64_t vertices, const std::vector<int32_t>& edges, const std::vector<int32_t>& order)
    : n_(vertices), order_(order), rank_(vertices) {
    for (int64_t k = 0; k < n_; ++k) rank_[order_[k]] = static_cast<int32_t>(k);
    const int64_t num_edges = static_cast<int64_t>(edges.size()) / 2;
    column_.assign(n_ + 1, 0);
    for (int64_t e = 0; e < num_edges; ++e) ++column_[std::max(rank_[edges[2 * e]], rank_[edges[2 * e + 1]]) + 1];
    for (int64_t k = 0; k < n_; ++k) column_[k + 1] += column_[k];
    row_.resize(num_edges);
    edge_.resize(num_edges);
    std::vector<int64_t> at(column_.begin(), column_.end() - 1);
    for (int64_t e = 0; e < num_edges; ++e) {
        const int32_t a = rank_[edges[2 * e]], b = rank_[edges[2 * e + 1]];
        const int64_t to = at[std::max(a, b)]++;
        row_[to] = std::min(a, b);
        edge_[to] = static_cast<int32_t>(e);
    }
    // Elimination tree and the number of entries in each column of the factor.
    parent_.assign(n_, -1);
    std::vector<int32_t> seen(n_, -1);
    factor_column_.assign(n_ + 1, 0);
    for (int32_t k = 0; k < n_; ++k) {
        seen[k] = k;
        for (int64_t p = column_[k]; p < column_[k + 1]; ++p)
            for (int32_t i = row_[p]; seen[i] != k; i = parent_[i]) {
                if (parent_[i] < 0) parent_[i] = k;
                ++factor_column_[i + 1];
                seen[i] = k;
            }
    }
    for (int64_t k = 0; k < n_; ++k) factor_column_[k + 1] += factor_column_[k];
    factor_row_.resize(factor_column_[n_]);
    factor_.resize(factor_column_[n_]);
    inverse_diagonal_.resize(n_);
}

template <int B>
bool BlockSolver<B>::factor(const std::vector<Block>& diagonal, const std::vector<Block>& off_diagonal) {
    std::vector<Block> y(n_, Block{});
    std::vector<int32_t> pattern(n_), path(n_), seen(n_, -1);
    std::vector<int64_t> filled(factor_column_.begin(), factor_column_.end() - 1);
    for (int32_t k = 0; k < n_; ++k) {
        seen[k] = k;
        int64_t top = n_;
        for (int64_t p = column_[k]; p < column_[k + 1]; ++p) {
            const Block& a = off_diagonal[edge_[p]];
            Block& to = y[row_[p]];
            for (int r = 0; r < B; ++r)
                for (int c = 0; c < B; ++c) to.m[r][c] += a.m[r][c];
            int64_t length = 0;
            for (int32_t i = row_[p]; seen[i] != k; i = parent_[i]) {
                path[length++] = i;
                seen[i] = k;
            }
            while (length > 0) pattern[--top] = path[--length];
        }
        Block d = diagonal[order_[k]];
        for (; top < n_; ++top) {
            const int32_t i = pattern[top];
            const Block yi = y[i];
            y[i] = Block{};
            for (int64_t p = factor_column_[i]; p < filled[i]; ++p) {
                const Block& l = factor_[p];
                Block& to = y[factor_row_[p]];
                for (int r = 0; r < B; ++r)
                    for (int c = 0; c < B; ++c) {
                        double sum = to.m[r][c];
                        for (int j = 0; j < B; ++j) sum -= l.m[r][j] * yi.m[j][c];
                        to.m[r][c] = sum;
                    }
            }
            // Row k of L: (y_i)^T D_i^-1.
            Block l{};
            for (int r = 0; r < B; ++r)
                for (int c = 0; c < B; ++c)
                    for (int j = 0; j < B; ++j) l.m[r][c] += yi.m[j][r] * inverse_diagonal_[i].m[j][c];
            for (int r = 0; r < B; ++r)
                for (int c = 0; c < B; ++c)
                    for (int j = 0; j < B; ++j) d.m[r][c] -= l.m[r][j] * yi.m[j][c];
            factor_row_[filled[i]] = k;
            factor_[filled[i]++] = l;
        }
        if (!invert(d.m, inverse_diagonal_[k].m)) return false;
    }
    return true;
}

template <int B>
void BlockSolver<B>::solve(std::vector<double>& x) const {
    std::vector<double> z(n_ * B);
    for (int64_t k = 0; k < n_; ++k)
        for (int r = 0; r < B; ++r) z[k * B + r] = x[int64_t{order_[k]} * B + r];
    for (int64_t i = 0; i < n_; ++i)
        for (int64_t p = factor_column_[i]; p < factor_column_[i + 1]; ++p)
            for (int r = 0; r < B; ++r)
                for (int c = 0; c < B; ++c) z[int64_t{factor_row_[p]} * B + r] -= factor_[p].m[r][c] * z[i * B + c];
    for (int64_t i = n_ - 1; i >= 0; --i) {
        double v[B];
        for (int r = 0; r < B; ++r) {
            v[r] = 0;
            for (int c = 0; c < B; ++c) v[r] += inverse_diagonal_[i].m[r][c] * z[i * B + c];
        }
        for (int64_t p = factor_column_[i]; p < factor_column_[i + 1]; ++p)
            for (int r = 0; r < B; ++r)
                for (int c = 0; c < B; ++c) v[r] -= factor_[p].m[c][r] * z[int64_t{factor_row_[p]} * B + c];
        for (int r = 0; r < B; ++r) z[i * B + r] = v[r];
    }
    for (int64_t k = 0; k < n_; ++k)
        for (int r = 0; r < B; ++r) x[int64_t{order_[k]} * B + r] = z[k * B + r];
}

template class BlockSolver<1>;
template class BlockSolver<2>;

}  // namespace tk::uv
