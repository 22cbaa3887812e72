// A snapped triangle ready to be filled: three edge functions and a depth plane.
//
// Edge functions: J. Pineda, A parallel algorithm for polygon rasterization, SIGGRAPH 1988. A pixel is covered
// when all three are positive at its centre, or zero on an edge that is a top edge (horizontal, the face on the
// side of growing rows) or a left edge: so a centre on an edge shared by two faces belongs to exactly one.
#pragma once

#include <algorithm>
#include <cstdint>

#include "clip.hpp"
#include "viewport.hpp"

namespace tk::raster {

struct Edge {
    int32_t x, y;    // a vertex on it
    int32_t dx, dy;  // direction; the face is on the left in (column, row) axes, so E >= 0 inside
    int32_t bias;    // 0 where the edge belongs to the face, -1 where it does not

    Edge() = default;
    Edge(const Projected& a, const Projected& b)
        : x(a.sx), y(a.sy), dx(b.sx - a.sx), dy(b.sy - a.sy), bias(dy < 0 || (dy == 0 && dx > 0) ? 0 : -1) {}
    // Not negative where the subpixel (px, py) is covered.
    int64_t at(int64_t px, int64_t py) const { return int64_t{dx} * (py - y) - int64_t{dy} * (px - x) + bias; }
};

// Pixels whose centres a triangle may cover, bounds included; empty when x1 < x0 or y1 < y0.
struct Box {
    int32_t x0, y0, x1, y1;
    bool empty() const { return x1 < x0 || y1 < y0; }
    void add(const Box& o) {
        x0 = std::min(x0, o.x0);
        y0 = std::min(y0, o.y0);
        x1 = std::max(x1, o.x1);
        y1 = std::max(y1, o.y1);
    }
};
constexpr Box no_pixels{INT32_MAX, INT32_MAX, INT32_MIN, INT32_MIN};

// Centres in [low, high] of one axis: centre i lies at i * 2^bits + 2^(bits-1).
inline int32_t first_centre(int32_t low, int bits) { return (low + (1 << (bits - 1)) - 1) >> bits; }
inline int32_t last_centre(int32_t high, int bits) { return (high - (1 << (bits - 1))) >> bits; }

inline Box pixel_box(const Viewport& view, int32_t ax, int32_t ay, int32_t bx, int32_t by, int32_t cx, int32_t cy) {
    return {std::max(0, first_centre(std::min({ax, bx, cx}), view.bits)),
            std::max(0, first_centre(std::min({ay, by, cy}), view.bits)),
            std::min(view.width - 1, last_centre(std::max({ax, bx, cx}), view.bits)),
            std::min(view.height - 1, last_centre(std::max({ay, by, cy}), view.bits))};
}

// Twice the signed area of three snapped points, in squared subpixels.
inline int64_t snapped_area(int32_t ax, int32_t ay, int32_t bx, int32_t by, int32_t cx, int32_t cy) {
    return (int64_t{bx} - ax) * (int64_t{cy} - ay) - (int64_t{by} - ay) * (int64_t{cx} - ax);
}

struct Triangle {
    Edge edges[3];
    Box box;
    double x0, y0, z0, gx, gy;  // depth z0 + gx (x - x0) + gy (y - y0), x and y in pixels
    double z_min, z_max;        // depths of the vertices: a sliver's plane may not reach beyond them
};

// False when no pixel can be covered. The order of a, b, c does not matter.
inline bool make_triangle(const Viewport& view, const Projected& a, Projected b, Projected c, Triangle* t) {
    const int64_t area = snapped_area(a.sx, a.sy, b.sx, b.sy, c.sx, c.sy);
    if (area == 0) return false;
    t->box = pixel_box(view, a.sx, a.sy, b.sx, b.sy, c.sx, c.sy);
    if (t->box.empty()) return false;
    if (area < 0) std::swap(b, c);
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
    t->z_min = std::max(-1.0, std::min({a.z, b.z, c.z}));
    t->z_max = std::min(1.0, std::max({a.z, b.z, c.z}));
    return true;
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
    Vertex polygon[max_clipped];
    Projected p[max_clipped];
    const int n = clip_triangle(scene.view, corners, any, polygon);
    int64_t total = 0, areas[max_clipped] = {};
    for (int i = 0; i < n; ++i) p[i] = project(scene.view, polygon[i]);
    for (int i = 1; i + 1 < n; ++i)
        total += areas[i] = snapped_area(p[0].sx, p[0].sy, p[i].sx, p[i].sy, p[i + 1].sx, p[i + 1].sy);
    // Snapping may dent the polygon by less than a subpixel; the others then already cover the part that turned over.
    for (int i = 1; i + 1 < n; ++i)
        if (areas[i] != 0 && (areas[i] > 0) == (total > 0)) body(p[0], p[i], p[i + 1]);
}

// Pixels that face f may cover.
inline Box face_box(const Scene& scene, int64_t f) {
    const int32_t* v = scene.faces + f * 3;
    const SnappedVertex &a = scene.snapped[v[0]], &b = scene.snapped[v[1]], &c = scene.snapped[v[2]];
    if ((a.outside | b.outside | c.outside) == 0)
        return snapped_area(a.x, a.y, b.x, b.y, c.x, c.y) == 0 ? no_pixels
                                                               : pixel_box(scene.view, a.x, a.y, b.x, b.y, c.x, c.y);
    Box box = no_pixels;
    for_each_part(scene, f, [&](const Projected& p, const Projected& q, const Projected& r) {
        const Box part = pixel_box(scene.view, p.sx, p.sy, q.sx, q.sy, r.sx, r.sy);
        if (!part.empty()) box.add(part);
    });
    return box;
}

}  // namespace tk::raster
