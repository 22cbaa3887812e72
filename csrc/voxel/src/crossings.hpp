// Where a triangle crosses the lines of the lattice: scan conversion of the triangle along each axis. For host and
// device.
#pragma once

#include "lattice.hpp"

namespace tk::voxel {

// A point where a triangle meets a lattice line parallel to axis w. The line runs between the cells
// (i[u], i[u] + 1) and (i[v], i[v] + 1); i[w] is the cell along it.
struct Crossing {
    Vec3i i;
    Vec3d at;
};

// f at t on the line through (a, fa) and (b, fb).
TK_INLINE double interpolate(double a, double b, double t, double fa, double fb) {
    if (a == b) return fa;
    const double s = (t - a) / (b - a);
    return (1 - s) * fa + s * fb;
}

// Calls visit(crossing) for each crossing of `t` with lattice lines parallel to axis W that touches a voxel of
// `window`, in a fixed order. Lines on the outer border of the grid count as outside. A crossing less than one
// cell below the grid counts for the lowest cell: the cell is the quotient rounded towards zero.
template <int W, class Visit>
TK_INLINE void cross_lattice_lines(const Triangle& t, const Lattice& lattice, const CellBox& window, Visit&& visit) {
    constexpr int U = (W + 1) % 3, V = (W + 2) % 3;
    struct Corner {
        double u, v, w;
    };
    Corner c[3];
    for (int k = 0; k < 3; ++k) c[k] = {t.v[k][U], t.v[k][V], t.v[k][W]};
    // A stable sort by v: corners level with each other must keep their order, or roundings change.
    if (c[1].v < c[0].v) exchange(c[0], c[1]);
    if (c[2].v < c[1].v) {
        exchange(c[1], c[2]);
        if (c[1].v < c[0].v) exchange(c[0], c[1]);
    }
    const int bottom = lattice.clamped_cell(V, c[0].v), top = lattice.clamped_cell(V, c[2].v);
    if (bottom == top) return;
    const int middle = lattice.clamped_cell(V, c[1].v);
    const double depth = lattice.cell[W], depth_cells = lattice.size[W];

    // Rows of lines between two edges that leave corner a: one to b, one to far.
    auto rows = [&](int begin, int end, const Corner& a, const Corner& b, const Corner& far) {
        begin = greater(begin, window.low[V] - 1);
        end = lesser(end, window.high[V]);
        for (int row = begin; row < end; ++row) {
            const double v = lattice.plane(V, row + 1);
            double left = interpolate(a.v, b.v, v, a.u, b.u), left_w = interpolate(a.v, b.v, v, a.w, b.w);
            double right = interpolate(a.v, far.v, v, a.u, far.u), right_w = interpolate(a.v, far.v, v, a.w, far.w);
            if (left > right) {
                exchange(left, right);
                exchange(left_w, right_w);
            }
            const int first = greater(lattice.clamped_cell(U, left), window.low[U] - 1);
            const int last = lesser(lattice.clamped_cell(U, right), window.high[U]);
            for (int column = first; column < last; ++column) {
                const double u = lattice.plane(U, column + 1);
                const double w = interpolate(left, right, u, left_w, right_w);
                const double layer = w / depth;
                if (!(layer > -1 && layer < depth_cells)) continue;
                Crossing crossing;
                crossing.i[U] = column;
                crossing.i[V] = row;
                crossing.i[W] = static_cast<int>(layer);
                if (!window.contains(W, crossing.i[W])) continue;
                crossing.at[U] = u;
                crossing.at[V] = v;
                crossing.at[W] = w;
                visit(crossing);
            }
        }
    };
    rows(bottom, middle, c[0], c[1], c[2]);
    rows(middle, top, c[2], c[1], c[0]);
}

}  // namespace tk::voxel
