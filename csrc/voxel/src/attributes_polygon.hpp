// Convex pieces of a triangle, cut along the planes of the voxel lattice. For host and device.
#pragma once

#include <cmath>

#include "numeric.hpp"
#include "trellis/vec.hpp"

namespace tk::voxel {

// A corner of a piece: its position in voxel units, and the triangle's second and third barycentric weight.
struct Corner {
    Vec3d position;
    double b1, b2;
};

// A triangle cut by the six planes of a box has at most nine corners.
struct Polygon {
    static constexpr int capacity = 10;
    Corner corner[capacity];
    int size = 0;

    TK_INLINE void add(const Corner& c) {
        if (size < capacity) corner[size++] = c;
    }
};

struct Range {
    double low, high;
};

TK_INLINE Range extent(const Polygon& polygon, int axis) {
    Range range{polygon.corner[0].position[axis], polygon.corner[0].position[axis]};
    for (int i = 1; i < polygon.size; ++i) {
        range.low = lesser(range.low, polygon.corner[i].position[axis]);
        range.high = greater(range.high, polygon.corner[i].position[axis]);
    }
    return range;
}

// The part of `polygon` with side * position[axis] >= side * plane, for a side of 1 or -1.
TK_BOTH inline void clip(const Polygon& polygon, int axis, double plane, double side, Polygon& out) {
    out.size = 0;
    double da = side * (polygon.corner[0].position[axis] - plane);
    for (int i = 0; i < polygon.size; ++i) {
        const Corner& a = polygon.corner[i];
        const Corner& b = polygon.corner[i + 1 == polygon.size ? 0 : i + 1];
        const double db = side * (b.position[axis] - plane);
        if (da >= 0.0) out.add(a);
        if ((da < 0.0 && db > 0.0) || (da > 0.0 && db < 0.0)) {
            const double t = da / (da - db);
            Corner middle{a.position + (b.position - a.position) * t, a.b1 + (b.b1 - a.b1) * t, a.b2 + (b.b2 - a.b2) * t};
            middle.position[axis] = plane;
            out.add(middle);
        }
        da = db;
    }
}

// The slabs k <= position <= k+1, low <= k < high, that a range reaches into, from `first` to `last`; false if none. A
// range of no length on a lattice plane belongs to the slab above it.
TK_INLINE bool slabs_of(const Range& range, int low, int high, int& first, int& last) {
    if (!(range.high >= low) || !(range.low <= high)) return false;
    first = range.low < low ? low : static_cast<int>(range.low);
    last = range.high >= high ? high - 1 : greater(first, static_cast<int>(std::ceil(range.high)) - 1);
    return first <= last;
}

// Calls piece(k, part) for each slab k <= position[axis] <= k+1, low <= k < high, that the polygon reaches into.
// `scratch` is free for use in piece(). The part of one slab does not depend on low and high.
template <class Piece>
TK_BOTH void for_each_slab(const Polygon& polygon, int axis, int low, int high, Polygon& scratch, Piece&& piece) {
    const Range range = extent(polygon, axis);
    int first, last;
    if (!slabs_of(range, low, high, first, last)) return;
    Polygon part;
    for (int k = first; k <= last; ++k) {
        const bool below = range.low < k, above = range.high > k + 1;
        if (below && above) {
            clip(polygon, axis, k, 1.0, scratch);
            clip(scratch, axis, k + 1, -1.0, part);
        } else if (below) {
            clip(polygon, axis, k, 1.0, part);
        } else if (above) {
            clip(polygon, axis, k + 1, -1.0, part);
        }
        const Polygon& clipped = below || above ? part : polygon;
        if (clipped.size >= 3) piece(k, clipped);
    }
}

// Area of the piece as a fraction of its triangle's, and the barycentric weights of its centroid.
struct Moments {
    double area, b1, b2;
};

TK_INLINE Moments moments(const Polygon& polygon) {
    const Corner& a = polygon.corner[0];
    double area = 0.0, s1 = 0.0, s2 = 0.0;
    for (int i = 1; i + 1 < polygon.size; ++i) {
        const Corner &b = polygon.corner[i], &c = polygon.corner[i + 1];
        // Twice the area in barycentric coordinates, where the whole triangle has area 1/2.
        const double part = std::abs((b.b1 - a.b1) * (c.b2 - a.b2) - (b.b2 - a.b2) * (c.b1 - a.b1));
        area += part;
        s1 += part * (a.b1 + b.b1 + c.b1);
        s2 += part * (a.b2 + b.b2 + c.b2);
    }
    if (!(area > 0.0)) return {0.0, a.b1, a.b2};
    return {area, s1 / (3.0 * area), s2 / (3.0 * area)};
}

}  // namespace tk::voxel
