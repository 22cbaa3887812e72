// Open boundaries of a mesh: the edges that one face alone has, and the voxels that a segment runs through.
#pragma once

#include <cmath>
#include <utility>
#include <vector>

#include "lattice.hpp"

namespace tk::voxel {

// Unordered vertex pairs (smaller index first) that occur once among the sides of `faces`, in ascending order.
std::vector<std::pair<int32_t, int32_t>> boundary_edges(const int32_t* faces, int64_t face_count, int64_t vertex_count);

// Shorter segments have no direction worth the name.
inline float shortest_segment(const Lattice& lattice) {
    return 1e-6f * greater(lattice.cell.x * static_cast<float>(lattice.size.x), lattice.cell.y * static_cast<float>(lattice.size.y),
                           lattice.cell.z * static_cast<float>(lattice.size.z));
}

// Calls visit(voxel) for each voxel of the grid that the segment from a to b runs through, in order.
//
// Amanatides and Woo, "A fast voxel traversal algorithm for ray tracing", Eurographics 1987.
template <class Visit>
TK_INLINE void walk_segment(const Vec3f& a, const Vec3f& b, const Lattice& lattice, Visit&& visit) {
    const Vec3d delta = static_cast<Vec3d>(b - a);
    const double length = tk::length(delta);
    if (!(length > 0 && std::isfinite(length))) return;
    // Cells as doubles: far outside the grid their numbers do not fit in an integer.
    double at[3], step[3], next[3], stride[3], skip = 0;
    for (int k = 0; k < 3; ++k) {
        const double slope = delta[k] / length;
        at[k] = std::floor(a[k] / lattice.cell[k]);
        if (!std::isfinite(at[k])) return;
        step[k] = slope > 0 ? 1 : -1;
        if (slope == 0) {
            if (at[k] < 0 || at[k] >= lattice.size[k]) return;
            next[k] = stride[k] = INFINITY;
            continue;
        }
        const float border = lattice.cell[k] * static_cast<float>(at[k] + (slope > 0 ? 1 : 0));
        next[k] = (border - a[k]) / slope;
        stride[k] = lattice.cell[k] / std::abs(slope);
        // Steps along this axis from outside the grid to its first or last layer.
        const double steps = slope > 0 ? -at[k] : at[k] - (lattice.size[k] - 1);
        if (steps > 0) skip = greater(skip, next[k] + (steps - 1) * stride[k]);
    }
    if (skip > length) return;
    if (skip > 0)  // Each axis takes the steps that lie before the way into the grid.
        for (int k = 0; k < 3; ++k) {
            if (next[k] < skip) {
                const double steps = std::ceil((skip - next[k]) / stride[k]);
                at[k] += step[k] * steps;
                next[k] += steps * stride[k];
            }
            // So far away that rounding hides where the segment meets the grid.
            if (step[k] > 0 ? at[k] < -2 : at[k] > lattice.size[k] + 1) return;
        }
    for (;;) {
        bool inside = true;
        for (int k = 0; k < 3; ++k) {
            if (step[k] > 0 ? at[k] >= lattice.size[k] : at[k] < 0) return;
            inside = inside && at[k] >= 0 && at[k] < lattice.size[k];
        }
        if (inside) visit(Vec3i{static_cast<int>(at[0]), static_cast<int>(at[1]), static_cast<int>(at[2])});
        const int k = next[0] < next[1] ? (next[0] < next[2] ? 0 : 2) : (next[1] < next[2] ? 1 : 2);
        if (next[k] > length) return;
        at[k] += step[k];
        next[k] += stride[k];
    }
}

}  // namespace tk::voxel
