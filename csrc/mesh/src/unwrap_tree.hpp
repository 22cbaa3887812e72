// A tree of boxes over triangles of the plane and the test of pairs, for host and device.
//
// Separating-axis test: in two dimensions two triangles have disjoint interiors exactly when a line through an edge
// of one of them has the other on its outer side, so six lines decide. Corners on the grid of 2^-24 make every
// product here exact.
#pragma once

#include <cmath>
#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::uv {

struct Vec2d {
    double x = 0, y = 0;
    TK_BOTH Vec2d operator+(const Vec2d& o) const { return {x + o.x, y + o.y}; }
    TK_BOTH Vec2d operator-(const Vec2d& o) const { return {x - o.x, y - o.y}; }
    TK_BOTH Vec2d operator*(double s) const { return {x * s, y * s}; }
};
TK_BOTH inline double cross(const Vec2d& a, const Vec2d& b) { return a.x * b.y - a.y * b.x; }
TK_BOTH inline double dot(const Vec2d& a, const Vec2d& b) { return a.x * b.x + a.y * b.y; }

constexpr int64_t tree_leaf_size = 4;
constexpr int tree_stack_size = 96;

struct TreeBox {
    double low_x, low_y, high_x, high_y;
};
TK_BOTH inline TreeBox empty_box() { return {INFINITY, INFINITY, -INFINITY, -INFINITY}; }
TK_BOTH inline TreeBox united(const TreeBox& a, const TreeBox& b) {
    return {fmin(a.low_x, b.low_x), fmin(a.low_y, b.low_y), fmax(a.high_x, b.high_x), fmax(a.high_y, b.high_y)};
}
TK_BOTH inline TreeBox box_of(const Vec2d* p) {
    return {fmin(p[0].x, fmin(p[1].x, p[2].x)), fmin(p[0].y, fmin(p[1].y, p[2].y)), fmax(p[0].x, fmax(p[1].x, p[2].x)), fmax(p[0].y, fmax(p[1].y, p[2].y))};
}

TK_BOTH inline uint64_t spread_bits(uint64_t x) {
    x &= 0xffffffffULL;
    x = (x | x << 16) & 0x0000ffff0000ffffULL;
    x = (x | x << 8) & 0x00ff00ff00ff00ffULL;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fULL;
    x = (x | x << 2) & 0x3333333333333333ULL;
    return (x | x << 1) & 0x5555555555555555ULL;
}
// Place along a Morton curve of a triangle's centre, at `scale` cells a unit from (low_x, low_y).
TK_BOTH inline uint64_t morton_key(const Vec2d* p, double low_x, double low_y, double scale) {
    const double x = (p[0].x + p[1].x + p[2].x) / 3 - low_x, y = (p[0].y + p[1].y + p[2].y) / 3 - low_y;
    const uint64_t cx = static_cast<uint64_t>(fmin(fmax(x * scale, 0.0), 4294967295.0));
    const uint64_t cy = static_cast<uint64_t>(fmin(fmax(y * scale, 0.0), 4294967295.0));
    return spread_bits(cx) | spread_bits(cy) << 1;
}

// The smallest height of a triangle, negative when it is turned over (clockwise).
TK_BOTH inline double height_of(const Vec2d& a, const Vec2d& b, const Vec2d& c) {
    const Vec2d u = b - a, v = c - a, w = c - b;
    const double longest = sqrt(fmax(dot(u, u), fmax(dot(v, v), dot(w, w))));
    return longest > 0 ? cross(u, v) / longest : 0.0;
}
// Triangles that are no taller than the tolerance cover nothing.
TK_BOTH inline bool is_tall(const Vec2d* p, double tolerance) { return fabs(height_of(p[0], p[1], p[2])) > tolerance; }

// False when a line through an edge of `p` has `q` on its outer side, but for the tolerance.
TK_BOTH inline bool edges_reach(const Vec2d* p, const Vec2d* q, double tolerance) {
    const double turn = cross(p[1] - p[0], p[2] - p[0]) > 0 ? 1 : -1;
    for (int k = 0; k < 3; ++k) {
        const Vec2d from = p[k], along = p[(k + 1) % 3] - from;
        double deepest = -INFINITY;
        for (int j = 0; j < 3; ++j) deepest = fmax(deepest, turn * cross(along, q[j] - from));
        if (deepest <= tolerance * sqrt(dot(along, along))) return false;
    }
    return true;
}

// An implicit binary tree: children of box i are 2i and 2i + 1, leaves from `leaves` on, each of tree_leaf_size
// triangles in the order of `order`. Triangle t has corners corners[3t..3t+2].
struct TreeView {
    const Vec2d* corners;
    const int32_t* order;
    int64_t count;  // of triangles in the tree
    const TreeBox* boxes;
    int64_t leaves;
    double tolerance;

    // A triangle of the tree other than `except` that `p`, which is tall, reaches into, or -1.
    TK_BOTH int64_t find(const Vec2d* p, int64_t except) const {
        const TreeBox own = box_of(p);
        int64_t stack[tree_stack_size], depth = 0;
        if (count > 0) stack[depth++] = 1;
        while (depth > 0) {
            const int64_t i = stack[--depth];
            const TreeBox& b = boxes[i];
            if (b.low_x >= own.high_x || b.high_x <= own.low_x || b.low_y >= own.high_y || b.high_y <= own.low_y) continue;
            if (i < leaves) {
                stack[depth++] = 2 * i + 1;
                stack[depth++] = 2 * i;
                continue;
            }
            const int64_t begin = (i - leaves) * tree_leaf_size, end = begin + tree_leaf_size < count ? begin + tree_leaf_size : count;
            for (int64_t j = begin; j < end; ++j) {
                if (order[j] == except) continue;
                const Vec2d* q = corners + 3 * int64_t{order[j]};
                if (is_tall(q, tolerance) && edges_reach(p, q, tolerance) && edges_reach(q, p, tolerance)) return order[j];
            }
        }
        return -1;
    }
};

inline int64_t tree_leaves(int64_t count) {
    const int64_t groups = (count + tree_leaf_size - 1) / tree_leaf_size;
    int64_t leaves = 1;
    while (leaves < groups) leaves *= 2;
    return leaves;
}

}  // namespace tk::uv
