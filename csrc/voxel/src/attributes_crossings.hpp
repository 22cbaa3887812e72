// Which voxels a triangle occupies, and which bricks of voxels it can touch. For host and device.
#pragma once

#include <cmath>

#include "numeric.hpp"
#include "trellis/vec.hpp"

namespace tk::voxel {

// Bricks are processed one by one, each by one thread: small enough to stay in cache.
constexpr int brick_side = 16;

struct Point2 {
    double along, height;
};

// The edge a-b at `row` of axis v: its position along axis u and its height along axis w. Always computed from
// the lower end, so that two triangles that share the edge agree on it.
TK_INLINE Point2 on_edge(const Vec3d& a, const Vec3d& b, int u, int v, int w, double row) {
    const double t = (row - a[v]) / (b[v] - a[v]);
    return {a[u] + (b[u] - a[u]) * t, a[w] + (b[w] - a[w]) * t};
}

// Calls stamp(voxel) for the four voxels around each inner lattice edge that the triangle crosses, as far as
// those voxels lie in [low, high). On each axis a lattice line at p is crossed by the interval (begin, end]
// that contains p.
template <class Stamp>
TK_BOTH void for_each_crossing(const Vec3d (&corner)[3], const int (&grid)[3], const Vec3i& low, const Vec3i& high, Stamp&& stamp) {
    for (int w = 0; w < 3; ++w) {
        const int u = (w + 1) % 3, v = (w + 2) % 3;
        const Vec3d* sorted[3] = {&corner[0], &corner[1], &corner[2]};
        // Stable: corners level with each other keep their order.
        if ((*sorted[1])[v] < (*sorted[0])[v]) exchange(sorted[0], sorted[1]);
        if ((*sorted[2])[v] < (*sorted[1])[v]) {
            exchange(sorted[1], sorted[2]);
            if ((*sorted[1])[v] < (*sorted[0])[v]) exchange(sorted[0], sorted[1]);
        }
        const Vec3d &bottom = *sorted[0], &middle = *sorted[1], &top = *sorted[2];
        const auto lines = [](double begin, double end, int first, int last, int& from, int& to) {
            from = begin < first ? first : begin >= last ? last + 1 : static_cast<int>(begin) + 1;
            to = end >= last ? last : end < first ? first - 1 : static_cast<int>(end);
        };
        // A line at p touches the voxels p-1 and p of its axis.
        int row, row_end;
        lines(bottom[v], top[v], greater(low[v], 1), lesser(high[v], grid[v] - 1), row, row_end);
        for (; row <= row_end; ++row) {
            Point2 left = on_edge(bottom, top, u, v, w, row);
            Point2 right = row <= middle[v] ? on_edge(bottom, middle, u, v, w, row) : on_edge(middle, top, u, v, w, row);
            if (left.along > right.along) exchange(left, right);
            int column, column_end;
            lines(left.along, right.along, greater(low[u], 1), lesser(high[u], grid[u] - 1), column, column_end);
            for (; column <= column_end; ++column) {
                const double t = (column - left.along) / (right.along - left.along);
                const double height = left.height + (right.height - left.height) * t;
                if (!(height >= low[w] && height < high[w])) continue;
                Vec3i voxel;
                voxel[w] = static_cast<int>(height);
                for (int i = 0; i < 4; ++i) {
                    voxel[u] = column - (i & 1);
                    voxel[v] = row - (i >> 1);
                    if (voxel[u] >= low[u] && voxel[u] < high[u] && voxel[v] >= low[v] && voxel[v] < high[v]) stamp(voxel);
                }
            }
        }
    }
}

// Calls touch(brick) for every brick the triangle reaches into or touches, and perhaps for a few of their
// neighbours: a column of bricks along the axis nearest the normal is cut to where the plane passes through it.
template <class Touch>
TK_BOTH void for_each_brick(const Vec3d (&corner)[3], const int (&grid)[3], Touch&& touch) {
    constexpr double margin = 1e-6;
    Vec3i first, last;
    for (int axis = 0; axis < 3; ++axis) {
        const double low = lesser(corner[0][axis], corner[1][axis], corner[2][axis]) - margin;
        const double high = greater(corner[0][axis], corner[1][axis], corner[2][axis]) + margin;
        if (!(low < grid[axis]) || !(high > 0.0)) return;
        first[axis] = static_cast<int>(greater(low, 0.0)) / brick_side;
        last[axis] = static_cast<int>(lesser(high, grid[axis] - 1.0)) / brick_side;
    }
    const Vec3d n = cross(corner[1] - corner[0], corner[2] - corner[0]);
    const int w = std::abs(n.x) >= std::abs(n.y) && std::abs(n.x) >= std::abs(n.z) ? 0 : std::abs(n.y) >= std::abs(n.z) ? 1 : 2;
    const int u = (w + 1) % 3, v = (w + 2) % 3;
    const double turn = n[w] < 0.0 ? -1.0 : 1.0;
    Vec3i brick;
    for (brick[u] = first[u]; brick[u] <= last[u]; ++brick[u])
        for (brick[v] = first[v]; brick[v] <= last[v]; ++brick[v]) {
            const double half = 0.5 * brick_side + margin;
            const double cu = (brick[u] + 0.5) * brick_side, cv = (brick[v] + 0.5) * brick_side;
            // Half-plane of each edge in the (u, v) projection, against the column's farthest corner.
            bool outside = false;
            for (int i = 0; i < 3 && !outside; ++i) {
                const Vec3d &a = corner[i], &b = corner[(i + 1) % 3];
                const double nu = (a[v] - b[v]) * turn, nv = (b[u] - a[u]) * turn;
                outside = nu * (cu - a[u]) + nv * (cv - a[v]) + half * (std::abs(nu) + std::abs(nv)) < 0.0;
            }
            if (outside) continue;
            int from = first[w], to = last[w];
            if (n[w] != 0.0) {
                const double middle = corner[0][w] - (n[u] * (cu - corner[0][u]) + n[v] * (cv - corner[0][v])) / n[w];
                const double reach = half * (std::abs(n[u]) + std::abs(n[v])) / std::abs(n[w]) + margin;
                const auto whole = [](double x, int low, int high) { return static_cast<int>(x < low ? low : x > high ? high : x); };
                from = whole(std::floor((middle - reach) / brick_side), from, last[w] + 1);
                to = whole(std::floor((middle + reach) / brick_side), first[w] - 1, to);
            }
            for (brick[w] = from; brick[w] <= to; ++brick[w]) touch(brick);
        }
}

}  // namespace tk::voxel
