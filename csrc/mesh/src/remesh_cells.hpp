// How a surface passes through a cell of the grid, for each of the 256 ways in which its corners can be inside.
//
// The crossings of the cell's edges are joined on its faces to closed loops, one vertex of the new mesh for each
// loop (Nielson, "Dual Marching Cubes", 2004). Where a face has inside corners on one diagonal only, the rule
// is that they are joined and each of the outside ones is cut off; both cells of a face follow it, so that the
// loops fit together to a closed manifold.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::mesh {

// Corner c of a cell is at (c & 1, c >> 1 & 1, c >> 2). Edge axis * 4 + u + 2 v runs along `axis` from the corner
// that has u and v on the next two axes (in cyclic order).
TK_BOTH inline int corner_at(int axis, int along, int u, int v) {
    return along << axis | u << (axis + 1) % 3 | v << (axis + 2) % 3;
}

struct CellLoops {
    int8_t loops;          // 0 to 4
    int8_t loop[12];       // of each edge; -1 for an edge without crossing
    uint8_t doubled;       // faces (axis * 2 + upper) that one and the same loop passes twice
};

class CellTable {
public:
    CellTable() {
        for (int mask = 0; mask < 256; ++mask) cells_[mask] = trace(mask);
    }
    const CellLoops& operator[](int mask) const { return cells_[mask]; }
    const CellLoops* data() const { return cells_; }

private:
    static CellLoops trace(int mask) {
        auto inside = [mask](int corner) { return mask >> corner & 1; };
        int parent[12];
        for (int e = 0; e < 12; ++e) parent[e] = e;
        auto root = [&parent](int e) {
            while (parent[e] != e) e = parent[e];
            return e;
        };
        auto join = [&](int a, int b) {
            a = root(a), b = root(b);
            parent[a > b ? a : b] = a > b ? b : a;
        };
        int first[6], second[6];  // an edge of either piece of surface on a face with two pieces
        for (int face = 0; face < 6; ++face) {
            const int axis = face / 2, upper = face % 2, p = (axis + 1) % 3, q = (axis + 2) % 3;
            // Around the face; edge k joins corner k and the one after it.
            const int corner[4] = {corner_at(axis, upper, 0, 0), corner_at(axis, upper, 1, 0), corner_at(axis, upper, 1, 1),
                                   corner_at(axis, upper, 0, 1)};
            // Along p the next axes are q and `axis`; along q they are `axis` and p.
            const int edge[4] = {p * 4 + 0 + 2 * upper, q * 4 + upper + 2, p * 4 + 1 + 2 * upper, q * 4 + upper + 0};
            int crossed[4], count = 0;
            for (int k = 0; k < 4; ++k)
                if (inside(corner[k]) != inside(corner[(k + 1) % 4])) crossed[count++] = edge[k];
            first[face] = second[face] = -1;
            if (count == 2) join(crossed[0], crossed[1]);
            if (count == 4) {
                const int outside = inside(corner[0]) ? 1 : 0;
                join(edge[outside], edge[(outside + 3) % 4]);
                join(edge[outside + 2], edge[outside + 1]);
                first[face] = edge[outside];
                second[face] = edge[outside + 2];
            }
        }
        CellLoops cell{};
        int number[12];
        for (int e = 0; e < 12; ++e) {
            const int axis = e / 4, u = e % 2, v = e / 2 % 2;
            const bool crossing = inside(corner_at(axis, 0, u, v)) != inside(corner_at(axis, 1, u, v));
            if (crossing && root(e) == e) number[e] = cell.loops++;
            cell.loop[e] = static_cast<int8_t>(crossing ? number[root(e)] : -1);
        }
        for (int face = 0; face < 6; ++face)
            if (first[face] >= 0 && cell.loop[first[face]] == cell.loop[second[face]]) cell.doubled |= 1 << face;
        return cell;
    }

    CellLoops cells_[256];
};

inline const CellTable& cell_table() {
    static const CellTable table;
    return table;
}

}  // namespace tk::mesh
