// The lattice that a voxel grid spans: cell sizes, planes, and which cell a coordinate falls in. For host and device.
#pragma once

#include <cstdint>

#include "numeric.hpp"
#include "trellis/vec.hpp"

namespace tk::voxel {

// Half-open ranges of voxels, one for each axis.
struct CellBox {
    Vec3i low, high;

    TK_INLINE bool empty() const { return low.x >= high.x || low.y >= high.y || low.z >= high.z; }
    TK_INLINE bool contains(int axis, int i) const { return i >= low[axis] && i < high[axis]; }
    TK_INLINE void add(const CellBox& other) {
        for (int a = 0; a < 3; ++a) {
            low[a] = lesser(low[a], other.low[a]);
            high[a] = greater(high[a], other.high[a]);
        }
    }
    TK_INLINE CellBox clipped(const CellBox& other) const {
        CellBox out;
        for (int a = 0; a < 3; ++a) {
            out.low[a] = greater(low[a], other.low[a]);
            out.high[a] = lesser(high[a], other.high[a]);
        }
        return out;
    }
    static TK_INLINE CellBox nothing() { return {{INT32_MAX, INT32_MAX, INT32_MAX}, {INT32_MIN, INT32_MIN, INT32_MIN}}; }
};

// The order of these additions is part of the definition (see below).
TK_INLINE float dot_tail_first(const Vec3f& a, const Vec3f& b) { return a.x * b.x + (a.y * b.y + a.z * b.z); }

// Positions are relative to the grid's lower corner. Which voxels a surface crosses depends on rounding, so
// the types here are part of the definition: planes are float32 products, quotients are float64.
struct Lattice {
    Vec3f cell;
    Vec3i size;

    TK_INLINE CellBox all() const { return {{0, 0, 0}, size}; }
    TK_INLINE float plane(int axis, int i) const { return static_cast<float>(i) * cell[axis]; }
    TK_INLINE Vec3f corner(const Vec3i& c) const { return {plane(0, c.x), plane(1, c.y), plane(2, c.z)}; }
    // The cell along `axis` that holds x, moved into the grid when x is outside.
    TK_INLINE int clamped_cell(int axis, double x) const {
        return static_cast<int>(clamped(x / cell[axis], 0.0, static_cast<double>(size[axis] - 1)));
    }
};

struct Triangle {
    Vec3f v[3];
};

}  // namespace tk::voxel
