// One texture look-up, on host and device.
//
// Filters as in the OpenGL 4.6 specification, section 8.14 (texel centres at half-integers, trilinear between the
// two nearest levels).
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "mips.hpp"
#include "trellis/vec.hpp"
#include "trellis_raster.h"

namespace tk::raster {

// floor() without a call into the mathematics library; from 2^52 on every double is an integer.
TK_BOTH inline double floor_of(double t) {
    if (!(fabs(t) < 4503599627370496.0)) return t;
    const double whole = static_cast<double>(static_cast<int64_t>(t));
    return whole > t ? whole - 1 : whole;
}

// Brings a coordinate into [0, 1] (repeat), [0, 2] (mirror) or [-1, 2] without changing what it names.
TK_BOTH inline double reduce_coordinate(double t, int wrap) {
    if (wrap == TK_RASTER_REPEAT) return t - floor_of(t);
    if (wrap == TK_RASTER_MIRROR) return t - 2 * floor_of(t * 0.5);
    return t < -1 ? -1 : t > 2 ? 2 : t;
}

// Texel number i, from a reduced coordinate, of a row of n; -1 for none.
TK_BOTH inline int64_t wrap_texel(int64_t i, int64_t n, int wrap) {
    switch (wrap) {
        case TK_RASTER_REPEAT: return i < 0 ? i + n : i >= n ? i - n : i;
        case TK_RASTER_CLAMP: return i < 0 ? 0 : i >= n ? n - 1 : i;
        case TK_RASTER_MIRROR: return i < 0 ? -1 - i : i < n ? i : i < 2 * n ? 2 * n - 1 - i : i - 2 * n;
        default: return i < 0 || i >= n ? -1 : i;
    }
}

struct SampleTexture {
    MipLayout layout;
    const float* pyramid;
    int64_t texture_stride;  // floats from one texture to the next; 0 when all share one
    int64_t channels;
    const float* uv;
    const float* lod;
    int64_t points;
    int filter, wrap;
    float* out;

    // Adds scale * (the value at (u, v) of a level) to o.
    TK_BOTH void add_linear(const float* texture, int level, double u, double v, float scale, float* o) const {
        const int64_t h = layout.height[level], w = layout.width[level];
        const double x = u * static_cast<double>(w) - 0.5, y = v * static_cast<double>(h) - 0.5;
        const double fx = floor_of(x), fy = floor_of(y);
        const float ax = static_cast<float>(x - fx), ay = static_cast<float>(y - fy);
        const int64_t x0 = wrap_texel(static_cast<int64_t>(fx), w, wrap), x1 = wrap_texel(static_cast<int64_t>(fx) + 1, w, wrap);
        const int64_t y0 = wrap_texel(static_cast<int64_t>(fy), h, wrap), y1 = wrap_texel(static_cast<int64_t>(fy) + 1, h, wrap);
        add(texture, level, y0, x0, scale * (1 - ay) * (1 - ax), o);
        add(texture, level, y0, x1, scale * (1 - ay) * ax, o);
        add(texture, level, y1, x0, scale * ay * (1 - ax), o);
        add(texture, level, y1, x1, scale * ay * ax, o);
    }
    TK_BOTH void add(const float* texture, int level, int64_t y, int64_t x, float weight, float* o) const {
        if (y < 0 || x < 0) return;
        const float* t = texture + (layout.begin[level] + y * layout.width[level] + x) * channels;
        for (int64_t c = 0; c < channels; ++c) o[c] += weight * t[c];
    }

    // Point i of the batch.
    TK_BOTH void operator()(int64_t i) const {
        float* o = out + i * channels;
        for (int64_t c = 0; c < channels; ++c) o[c] = 0;
        if (!(fabsf(uv[i * 2]) <= FLT_MAX && fabsf(uv[i * 2 + 1]) <= FLT_MAX)) return;
        const double u = reduce_coordinate(uv[i * 2], wrap), v = reduce_coordinate(uv[i * 2 + 1], wrap);
        const float* texture = texture_stride == 0 ? pyramid : pyramid + (i / points) * texture_stride;
        if (filter == TK_RASTER_NEAREST) {
            const int64_t h = layout.height[0], w = layout.width[0];
            add(texture, 0, wrap_texel(static_cast<int64_t>(floor_of(v * static_cast<double>(h))), h, wrap),
                wrap_texel(static_cast<int64_t>(floor_of(u * static_cast<double>(w))), w, wrap), 1, o);
            return;
        }
        const float top = static_cast<float>(layout.levels - 1);
        float level = filter == TK_RASTER_MIP && lod != nullptr ? lod[i] : 0;
        level = !(level > 0) ? 0 : level > top ? top : level;
        const int low = static_cast<int>(level);
        const float part = level - static_cast<float>(low);
        add_linear(texture, low, u, v, 1 - part, o);
        if (part > 0) add_linear(texture, low + 1, u, v, part, o);
    }
};

// Mip level from differences of uv (OpenGL 4.6, equations 8.7 and 8.8). On each axis the smaller of the differences
// to the two neighbours counts, so that a jump between charts does not blur the pixels beside it.
struct UvLod {
    const float* uv;
    int64_t height, width;
    double texture_height, texture_width;
    float* lod;

    TK_BOTH double texels_between(int64_t i, int64_t j) const {
        const double du = (double{uv[i * 2]} - uv[j * 2]) * texture_width;
        const double dv = (double{uv[i * 2 + 1]} - uv[j * 2 + 1]) * texture_height;
        return du * du + dv * dv;
    }
    TK_BOTH void operator()(int64_t i) const {
        const int64_t x = i % width, y = i / width % height;
        const double none = 1e300;
        double across = none, along = none;
        // Comparisons this way round leave out differences that are not numbers.
        for (int side = -1; side <= 1; side += 2) {
            if (x + side >= 0 && x + side < width) {
                const double d = texels_between(i, i + side);
                if (d < across) across = d;
            }
            if (y + side >= 0 && y + side < height) {
                const double d = texels_between(i, i + side * width);
                if (d < along) along = d;
            }
        }
        if (across == none) across = 0;
        if (along == none) along = 0;
        const double squared = across > along ? across : along;
        lod[i] = squared > 1 ? static_cast<float>(0.5 * log2(squared)) : 0;
    }
};

}  // namespace tk::raster
