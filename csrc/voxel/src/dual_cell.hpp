// What a voxel gathers of the surface around it, and the dual vertex that follows. For host and device: as the
// order of the additions is part of the result, both add crossings, then overlaps, then boundaries.
#pragma once

#include <cstdint>

#include "box_quadric.hpp"

namespace tk::voxel {

struct Weights {
    bool faces;  // whether a triangle counts in every voxel that it overlaps
    float boundary, regularization;
};

struct DualCell {
    Quadric quadric;
    Vec3f sum{0, 0, 0};  // of the crossings
    float crossings = 0;
    uint8_t intersected = 0;  // bit a: the lattice edge along axis a

    TK_INLINE void add_crossing(const Vec3f& at, const Quadric& plane) {
        sum += at;
        crossings += 1;
        quadric += plane;
    }
    // At least one crossing must have been added.
    TK_BOTH Vec3f dual(const Vec3i& c, const Lattice& lattice, float regularization) const {
        const Vec3f low = lattice.corner(c), high = lattice.corner({c.x + 1, c.y + 1, c.z + 1});
        const float n = crossings;
        Vec3f mean{sum.x / n, sum.y / n, sum.z / n};
        Quadric q = quadric;
        if (regularization > 0) q += point_quadric(mean) * (regularization * n);
        for (int a = 0; a < 3; ++a) mean[a] = clamped(mean[a], low[a], high[a]);
        return minimum_in_box(q, low, high, mean);
    }
};

}  // namespace tk::voxel
