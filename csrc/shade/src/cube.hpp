// Cube maps on host and device: directions, solid angles, look-ups that are continuous across faces.
#pragma once

#include <cmath>
#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::shade {

// The point (a, b) of face `face` of the cube [-1, 1]^3 (OpenGL 4.6 specification, table 8.19, solved for the
// direction), with its distance from the centre along the face's axis.
TK_BOTH inline Vec3f on_face(int face, float a, float b, float axis = 1) {
    switch (face) {
        case 0: return {axis, -b, -a};
        case 1: return {-axis, -b, a};
        case 2: return {a, axis, b};
        case 3: return {a, -axis, -b};
        case 4: return {a, -b, axis};
        default: return {-a, -b, -axis};
    }
}

struct CubePoint {
    int face;
    float a, b;  // in [-1, 1]
};

TK_BOTH inline CubePoint to_face(const Vec3f& d) {
    const float x = fabsf(d.x), y = fabsf(d.y), z = fabsf(d.z);
    if (x >= y && x >= z) return d.x > 0 ? CubePoint{0, -d.z / x, -d.y / x} : CubePoint{1, d.z / x, -d.y / x};
    if (y >= z) return d.y > 0 ? CubePoint{2, d.x / y, d.z / y} : CubePoint{3, d.x / y, -d.z / y};
    return d.z > 0 ? CubePoint{4, d.x / z, -d.y / z} : CubePoint{5, -d.x / z, -d.y / z};
}

TK_BOTH inline float texel_centre(int64_t i, int64_t side) {
    return (static_cast<float>(2 * i + 1)) / static_cast<float>(side) - 1.0f;
}

// Solid angle of a texel: the area function of a rectangle at distance 1, at its four corners.
TK_BOTH inline double corner_angle(double a, double b) { return atan2(a * b, sqrt(a * a + b * b + 1)); }
TK_BOTH inline double texel_angle(int64_t i, int64_t j, int64_t side) {
    const double step = 2.0 / static_cast<double>(side);
    const double a = static_cast<double>(i) * step - 1, b = static_cast<double>(j) * step - 1;
    return corner_angle(a, b) - corner_angle(a + step, b) - corner_angle(a, b + step) + corner_angle(a + step, b + step);
}

// The unit vector of d; false when it has none.
TK_BOTH inline bool unit(const Vec3f& d, Vec3f* out) {
    const float largest = fmaxf(fabsf(d.x), fmaxf(fabsf(d.y), fabsf(d.z)));
    if (!(largest > 0 && largest <= 3.402823466e+38f)) return false;
    if (!(fabsf(d.x) <= largest && fabsf(d.y) <= largest && fabsf(d.z) <= largest)) return false;  // NaN
    const Vec3f scaled{d.x / largest, d.y / largest, d.z / largest};
    *out = normalized(scaled);
    return true;
}

struct Cube {
    const float* texels;  // [6, side, side, 3]
    int64_t side;

    TK_BOTH Vec3f at(int face, int64_t i, int64_t j) const {
        const float* t = texels + ((face * side + j) * side + i) * 3;
        return {t[0], t[1], t[2]};
    }

    // Texel (i, j) of a face, or of the neighbour that continues it when one index is one step outside.
    TK_BOTH Vec3f beyond(int face, int64_t i, int64_t j) const {
        if (i >= 0 && i < side && j >= 0 && j < side) return at(face, i, j);
        // Fold the cube's surface flat over the edge: what sticks out by e lies on the neighbour, e from the edge.
        const float e = 1.0f / static_cast<float>(side);
        float a = texel_centre(i, side), b = texel_centre(j, side);
        a = i < 0 ? -1 : i >= side ? 1 : a;
        b = j < 0 ? -1 : j >= side ? 1 : b;
        const CubePoint p = to_face(on_face(face, a, b, 1 - e));
        return at(p.face, nearest(p.a), nearest(p.b));
    }
    TK_BOTH int64_t nearest(float a) const {
        const int64_t i = static_cast<int64_t>((a + 1) * 0.5f * static_cast<float>(side));
        return i < 0 ? 0 : i >= side ? side - 1 : i;
    }

    TK_BOTH Vec3f sample(const Vec3f& direction) const {
        const CubePoint p = to_face(direction);
        const float x = (p.a + 1) * 0.5f * static_cast<float>(side) - 0.5f;
        const float y = (p.b + 1) * 0.5f * static_cast<float>(side) - 0.5f;
        const int64_t i = static_cast<int64_t>(x + 1) - 1, j = static_cast<int64_t>(y + 1) - 1;  // floors: x > -1
        const float ax = x - static_cast<float>(i), ay = y - static_cast<float>(j);
        const bool cut_i = i < 0 || i + 1 >= side, cut_j = j < 0 || j + 1 >= side;
        Vec3f t[4];
        if (!cut_i && !cut_j) {
            for (int k = 0; k < 4; ++k) t[k] = at(p.face, i + (k & 1), j + (k >> 1));
        } else {
            // Three faces meet at a corner of the cube; a fourth texel is missing there and is the mean of the three.
            int missing = -1;
            for (int k = 0; k < 4; ++k) {
                const int64_t u = i + (k & 1), v = j + (k >> 1);
                if ((u < 0 || u >= side) && (v < 0 || v >= side))
                    missing = k;
                else
                    t[k] = beyond(p.face, u, v);
            }
            if (missing >= 0) {
                Vec3f sum{0, 0, 0};
                for (int k = 0; k < 4; ++k)
                    if (k != missing) sum += t[k];
                t[missing] = sum * (1.0f / 3.0f);
            }
        }
        return (t[0] * (1 - ax) + t[1] * ax) * (1 - ay) + (t[2] * (1 - ax) + t[3] * ax) * ay;
    }
};

// Cubes one after the other, each with half the side of the one before.
struct Pyramid {
    const float* texels;
    int64_t side;
    int levels;

    TK_BOTH Cube level(int index) const {
        const float* t = texels;
        int64_t s = side;
        for (int l = 0; l < index; ++l, s /= 2) t += 6 * s * s * 3;
        return {t, s};
    }
    TK_BOTH Vec3f sample(const Vec3f& direction, float level_) const {
        const float top = static_cast<float>(levels - 1);
        const float l = !(level_ > 0) ? 0 : level_ > top ? top : level_;
        const int low = static_cast<int>(l);
        const float part = l - static_cast<float>(low);
        const Vec3f a = level(low).sample(direction);
        return part > 0 ? a * (1 - part) + level(low + 1).sample(direction) * part : a;
    }
};

}  // namespace tk::shade
