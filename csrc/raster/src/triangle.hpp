// A snapped triangle ready to be filled: three edge functions and a depth plane.
//
// Edge functions: J. Pineda, A parallel algorithm for polygon rasterization, SIGGRAPH 1988. A pixel is covered
// when all three are positive at its centre, or zero on an edge that is a top edge (horizontal, the face on the
// side of growing rows) or a left edge: so a centre on an edge shared by two faces belongs to exactly one.
#pragma once

#include <cstdint>

#include "clip.hpp"
#include "viewport.hpp"

namespace tk::raster {

struct Edge {
    int32_t x, y;    // a vertex on it
    int32_t dx, dy;  // direction; the face is on the left in (column, row) axes, so E >= 0 inside
    int32_t bias;    // 0 where the edge belongs to the face, -1 where it does not

    Edge() = default;
    TK_BOTH Edge(const Projected& a, const Projected& b)
        : x(a.sx), y(a.sy), dx(b.sx - a.sx), dy(b.sy - a.sy), bias(dy < 0 || (dy == 0 && dx > 0) ? 0 : -1) {}
    // Not negative where the subpixel (px, py) is covered.
    TK_BOTH int64_t at(int64_t px, int64_t py) const { return int64_t{dx} * (py - y) - int64_t{dy} * (px - x) + bias; }
};

// Pixels whose centres a triangle may cover, bounds included; empty when x1 < x0 or y1 < y0.
struct Box {
    int32_t x0, y0, x1, y1;
    TK_BOTH static Box none() { return {INT32_MAX, INT32_MAX, INT32_MIN, INT32_MIN}; }
    TK_BOTH bool empty() const { return x1 < x0 || y1 < y0; }
    TK_BOTH void add(const Box& o) {
        x0 = lower(x0, o.x0);
        y0 = lower(y0, o.y0);
        x1 = higher(x1, o.x1);
        y1 = higher(y1, o.y1);
    }
    TK_BOTH void cut(const Box& o) {
        x0 = higher(x0, o.x0);
        y0 = higher(y0, o.y0);
        x1 = lower(x1, o.x1);
        y1 = lower(y1, o.y1);
    }
};

// Centres in [low, high] of one axis: centre i lies at i * 2^bits + 2^(bits-1).
TK_BOTH inline int32_t first_centre(int32_t low, int bits) { return (low + (1 << (bits - 1)) - 1) >> bits; }
TK_BOTH inline int32_t last_centre(int32_t high, int bits) { return (high - (1 << (bits - 1))) >> bits; }

TK_BOTH inline Box pixel_box(const Viewport& view, int32_t ax, int32_t ay, int32_t bx, int32_t by, int32_t cx,
                             int32_t cy) {
    return {higher(0, first_centre(lower(ax, lower(bx, cx)), view.bits)),
            higher(0, first_centre(lower(ay, lower(by, cy)), view.bits)),
            lower(view.width - 1, last_centre(higher(ax, higher(bx, cx)), view.bits)),
            lower(view.height - 1, last_centre(higher(ay, higher(by, cy)), view.bits))};
}
TK_BOTH inline Box pixel_box(const Viewport& view, const Projected& a, const Projected& b, const Projected& c) {
    return pixel_box(view, a.sx, a.sy, b.sx, b.sy, c.sx, c.sy);
}

// Twice the signed area of three snapped points, in squared subpixels.
TK_BOTH inline int64_t snapped_area(int32_t ax, int32_t ay, int32_t bx, int32_t by, int32_t cx, int32_t cy) {
    return (int64_t{bx} - ax) * (int64_t{cy} - ay) - (int64_t{by} - ay) * (int64_t{cx} - ax);
}

struct Triangle {
    Edge edges[3];
    Box box;
    double x0, y0, z0, gx, gy;  // depth z0 + gx (x - x0) + gy (y - y0), x and y in pixels
    double z_min, z_max;        // depths of the vertices: a sliver's plane may not reach beyond them
};

// False when no pixel can be covered. The order of a, b, c does not matter.
TK_BOTH inline bool make_triangle(const Viewport& view, const Projected& a, Projected b, Projected c, Triangle* t) {
    const int64_t area = snapped_area(a.sx, a.sy, b.sx, b.sy, c.sx, c.sy);
    if (area == 0) return false;
    t->box = pixel_box(view, a, b, c);
    if (t->box.empty()) return false;
    if (area < 0) {
        const Projected other = b;
        b = c;
        c = other;
    }
    t->edges[0] = Edge(a, b);
    t->edges[1] = Edge(b, c);
    t->edges[2] = Edge(c, a);
    const double ux = b.x - a.x, uy = b.y - a.y, uz = b.z - a.z, vx = c.x - a.x, vy = c.y - a.y, vz = c.z - a.z;
    const double exact_area = ux * vy - uy * vx;
    const bool sloped = exact_area != 0 && (uz != 0 || vz != 0);
    t->x0 = a.x;
    t->y0 = a.y;
    t->z0 = a.z;
    t->gx = sloped ? (uz * vy - vz * uy) / exact_area : 0;
    t->gy = sloped ? (vz * ux - uz * vx) / exact_area : 0;
    // Clipping may end an ulp beyond the near or far plane.
    t->z_min = higher(-1.0, lower(a.z, lower(b.z, c.z)));
    t->z_max = lower(1.0, higher(a.z, higher(b.z, c.z)));
    return true;
}

// Pixels of a row that share one evaluation of the depth plane in double; the step from there is in float.
constexpr int depth_step = 4;

// Depth at the centre of pixel (x, y). `fill` of tile.cpp computes the same for depth_step pixels at once.
TK_BOTH inline float depth_at(const Triangle& t, int32_t x, int32_t y) {
    const int32_t first = x & ~(depth_step - 1);
    const double row = t.z0 + t.gy * (y + 0.5 - t.y0);
    float z = static_cast<float>(row + t.gx * (first + 0.5 - t.x0));
    z = z + static_cast<float>(t.gx) * static_cast<float>(x - first);
    const float z_min = static_cast<float>(t.z_min), z_max = static_cast<float>(t.z_max);
    z = z < z_min ? z_min : z;
    return z > z_max ? z_max : z;
}

// What clipping leaves of a face: a fan of triangles (points[0], points[i], points[i + 1]), drawn where bit i is set.
struct Fan {
    uint32_t drawn = 0;
    Projected points[max_clipped];
};

// `planes`: those that any corner is outside of; none of the corners is not_finite.
TK_BOTH inline void clip_to_fan(const Viewport& view, const Vertex corners[3], uint32_t planes, Fan* fan) {
    Vertex polygon[max_clipped];
    const int n = clip_triangle(view, corners, planes, polygon);
    Projected* p = fan->points;
    int64_t total = 0, areas[max_clipped] = {};
    for (int i = 0; i < n; ++i) p[i] = project(view, polygon[i]);
    for (int i = 1; i + 1 < n; ++i)
        total += areas[i] = snapped_area(p[0].sx, p[0].sy, p[i].sx, p[i].sy, p[i + 1].sx, p[i + 1].sy);
    // Snapping may dent the polygon by less than a subpixel; the others then already cover the part that turned over.
    fan->drawn = 0;
    for (int i = 1; i + 1 < n; ++i)
        if (areas[i] != 0 && (areas[i] > 0) == (total > 0)) fan->drawn |= 1u << i;
}

struct SnappedVertex {
    int32_t x, y;
    uint32_t outside;  // bits of Plane, or not_finite
};

// The mesh of one image, as every stage sees it.
struct Scene {
    Viewport view;
    const float* clip;
    const int32_t* faces;
    int64_t num_vertices, num_faces;
    const SnappedVertex* snapped;

    Vertex vertex(int32_t i) const {
        const float* p = clip + int64_t{i} * 4;
        return {p[0], p[1], p[2], p[3]};
    }
};

// Calls body(a, b, c) with the projected triangles of face f: itself, or a fan of what clipping leaves of it.
template <class Body>
void for_each_part(const Scene& scene, int64_t f, Body&& body) {
    const int32_t* v = scene.faces + f * 3;
    const SnappedVertex* s[3] = {scene.snapped + v[0], scene.snapped + v[1], scene.snapped + v[2]};
    const uint32_t any = s[0]->outside | s[1]->outside | s[2]->outside;
    if (any == 0) {
        body(project(scene.view, scene.vertex(v[0])), project(scene.view, scene.vertex(v[1])),
             project(scene.view, scene.vertex(v[2])));
        return;
    }
    if ((any & not_finite) != 0 || (s[0]->outside & s[1]->outside & s[2]->outside) != 0) return;
    const Vertex corners[3] = {scene.vertex(v[0]), scene.vertex(v[1]), scene.vertex(v[2])};
    Fan fan;
    clip_to_fan(scene.view, corners, any, &fan);
    for (int i = 1; fan.drawn >> i != 0; ++i)
        if (fan.drawn >> i & 1) body(fan.points[0], fan.points[i], fan.points[i + 1]);
}

// Pixels that face f may cover.
inline Box face_box(const Scene& scene, int64_t f) {
    const int32_t* v = scene.faces + f * 3;
    const SnappedVertex &a = scene.snapped[v[0]], &b = scene.snapped[v[1]], &c = scene.snapped[v[2]];
    if ((a.outside | b.outside | c.outside) == 0)
        return snapped_area(a.x, a.y, b.x, b.y, c.x, c.y) == 0 ? Box::none()
                                                               : pixel_box(scene.view, a.x, a.y, b.x, b.y, c.x, c.y);
    Box box = Box::none();
    for_each_part(scene, f, [&](const Projected& p, const Projected& q, const Projected& r) {
        const Box part = pixel_box(scene.view, p, q, r);
        if (!part.empty()) box.add(part);
    });
    return box;
}

}  // namespace tk::raster
