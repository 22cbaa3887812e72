// Perspective-correct barycentric weights of a pixel centre in a triangle, on host and device.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::raster {

// The centre of pixel i of a row or column of n in normalised device coordinates.
TK_BOTH inline double pixel_centre(int32_t i, int32_t n) { return (2.0 * i + 1.0) / n - 1.0; }

// Weights of vertices 0 and 1 at the point (px, py) of normalised device coordinates, for homogeneous clip
// positions a, b, c = (x, y, z, w). A point of the triangle's plane with weights u projects to p when
// sum u_i (x_i - p w_i) = 0, so each weight is proportional to the 2D cross product of the other two vertices
// moved to p (M. Olano, T. Greer: Triangle scan conversion using 2D homogeneous coordinates, Graphics Hardware
// 1997). No division by w, so it holds for vertices behind the eye too.
//
// The pixel may lie outside the triangle by the rounding of its vertices to subpixels: each of the two weights is
// clamped to [0, 1], then both are scaled so that their sum is at most 1.
TK_BOTH inline void pixel_weights(const float* a, const float* b, const float* c, double px, double py, float* u,
                                  float* v) {
    const double ax = a[0] - px * a[3], ay = a[1] - py * a[3];
    const double bx = b[0] - px * b[3], by = b[1] - py * b[3];
    const double cx = c[0] - px * c[3], cy = c[1] - py * c[3];
    const double wa = bx * cy - by * cx, wb = cx * ay - cy * ax, wc = ax * by - ay * bx;
    const double sum = wa + wb + wc;
    double s = wa / sum, t = wb / sum;
    if (!(sum != 0)) s = t = 1.0 / 3.0;  // the exact triangle has no area: its middle
    s = s < 0 ? 0 : s > 1 ? 1 : s;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    const double total = s + t;
    if (total > 1) {
        s /= total;
        t /= total;
    }
    *u = static_cast<float>(s);
    *v = static_cast<float>(t);
}

}  // namespace tk::raster
