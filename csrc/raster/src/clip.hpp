// Clipping of a triangle in homogeneous coordinates, before the division by w.
//
// I. E. Sutherland, G. W. Hodgman: Reentrant polygon clipping, CACM 17(1), 1974; for homogeneous coordinates
// J. F. Blinn, M. E. Newell: Clipping using homogeneous coordinates, SIGGRAPH 1978.
//
// A crossing is always computed from the inner vertex to the outer one, so two faces that share an edge cut it
// at the same point, bit for bit.
#pragma once

#include "viewport.hpp"

namespace tk::raster {

constexpr int max_clipped = 3 + plane_count;

// Clips against the planes in `planes` and writes at most max_clipped vertices; returns how many (0: nothing left).
TK_BOTH inline int clip_triangle(const Viewport& view, const Vertex corners[3], uint32_t planes, Vertex out[max_clipped]) {
    Vertex buffer[2][max_clipped];
    int n = 3, from = 0;
    for (int i = 0; i < 3; ++i) buffer[0][i] = corners[i];
    for (int p = 0; p < plane_count && n > 0; ++p) {
        if (!(planes >> p & 1)) continue;
        const Vertex* in = buffer[from];
        Vertex* kept = buffer[1 - from];
        int m = 0;
        for (int i = 0; i < n && m < max_clipped; ++i) {
            const Vertex &a = in[i], &b = in[i + 1 == n ? 0 : i + 1];
            const double da = view.distance(p, a), db = view.distance(p, b);
            if (da >= 0) kept[m++] = a;
            if ((da >= 0) != (db >= 0) && m < max_clipped) {
                const Vertex &inner = da >= 0 ? a : b, &outer = da >= 0 ? b : a;
                const double di = da >= 0 ? da : db, dv = da >= 0 ? db : da;
                const double t = di / (di - dv);
                kept[m++] = {inner.x + (outer.x - inner.x) * t, inner.y + (outer.y - inner.y) * t,
                             inner.z + (outer.z - inner.z) * t, inner.w + (outer.w - inner.w) * t};
            }
        }
        n = m;
        from = 1 - from;
    }
    for (int i = 0; i < n; ++i) {
        out[i] = buffer[from][i];
        if (!(out[i].w > 0)) return 0;  // the eye point itself
    }
    return n < 3 ? 0 : n;
}

}  // namespace tk::raster
