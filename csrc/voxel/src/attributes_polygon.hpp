// Convex pieces of a triangle, cut along the planes of the voxel lattice.
#pragma once

#include <algorithm>
#include <cmath>

#include "trellis/vec.hpp"

namespace tk::voxel {

// A corner of a piece: its position in voxel units, and the triangle's second and third barycentric weight.
struct Corner {
    Vec3d position;
    double b1, b2;
};

// A triangle cut by the six planes of a box, and once more, has at most ten corners.
struct Polygon {
    static constexpr int capacity = 12;
    Corner corner[capacity];
    int size = 0;

    void add(const Corner& c) {
        if (size < capacity) corner[size++] = c;
    }
};

struct Range {
    double low, high;
};

inline Range extent(const Polygon& polygon, int axis) {
    Range range{polygon.corner[0].position[axis], polygon.corner[0].position[axis]};
    for (int i = 1; i < polygon.size; ++i) {
        range.low = std::min(range.low, polygon.corner[i].position[axis]);
        range.high = std::max(range.high, polygon.corner[i].position[axis]);
    }
    return range;
}

// Splits `polygon` at position[axis] = plane. A corner on the plane goes to both sides.
inline void cut(const Polygon& polygon, int axis, double plane, Polygon& below, Polygon& above) {
    below.size = above.size = 0;
    for (int i = 0; i < polygon.size; ++i) {
        const Corner& a = polygon.corner[i];
        const Corner& b = polygon.corner[i + 1 == polygon.size ? 0 : i + 1];
        const double da = a.position[axis] - plane, db = b.position[axis] - plane;
        if (da <= 0.0) below.add(a);
        if (da >= 0.0) above.add(a);
        if ((da < 0.0 && db > 0.0) || (da > 0.0 && db < 0.0)) {
            const double t = da / (da - db);
            Corner middle{a.position + (b.position - a.position) * t, a.b1 + (b.b1 - a.b1) * t, a.b2 + (b.b2 - a.b2) * t};
            middle.position[axis] = plane;
            below.add(middle);
            above.add(middle);
        }
    }
}

// Calls piece(k, part) for each slab k <= position[axis] <= k+1, low <= k < high, that the polygon reaches into.
// A polygon that lies in a lattice plane belongs to the slab above it.
template <class Piece>
void for_each_slab(const Polygon& polygon, int axis, int low, int high, Piece&& piece) {
    const Range range = extent(polygon, axis);
    if (!(range.high >= low) || !(range.low <= high)) return;
    int first = range.low < low ? low : static_cast<int>(range.low);
    int last = range.high >= high ? high - 1 : std::max(first, static_cast<int>(std::ceil(range.high)) - 1);
    if (first > last) return;
    Polygon part, rest, scratch;
    const Polygon* remaining = &polygon;
    if (range.low < first) {
        cut(polygon, axis, first, scratch, rest);
        remaining = &rest;
    }
    for (int k = first; k <= last; ++k) {
        if (k == last && !(range.high > last + 1)) {
            if (remaining->size >= 3) piece(k, *remaining);
            return;
        }
        scratch = *remaining;
        cut(scratch, axis, k + 1, part, rest);
        remaining = &rest;
        if (part.size >= 3) piece(k, part);
    }
}

// Area of the piece as a fraction of its triangle's, and the barycentric weights of its centroid.
struct Moments {
    double area, b1, b2;
};

inline Moments moments(const Polygon& polygon) {
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
