// One texture look-up, on host and device.
//
// Filters as in the OpenGL 4.6 specification, section 8.14 (texel centres at half-integers, trilinear between the
// two nearest levels).
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "mips.hpp"
#include "trellis/vec.hpp"
#include "trellis_raster.h"

namespace tk::raster {

// floor(); on the CPU without a call into the mathematics library. From 2^52 on every double is an integer.
TK_BOTH inline double floor_of(double t) {
#ifdef __CUDA_ARCH__
    return floor(t);
#else
    if (!(fabs(t) < 4503599627370496.0)) return t;
    const double whole = static_cast<double>(static_cast<int64_t>(t));
    return whole > t ? whole - 1 : whole;
#endif
}

// Brings a coordinate into [0, 1] (repeat), [0, 2] (mirror) or [-1, 2] without changing what it names.
TK_BOTH inline double reduce_coordinate(double t, int wrap) {
    if (wrap == TK_RASTER_REPEAT) return t - floor_of(t);
    if (wrap == TK_RASTER_MIRROR) return t - 2 * floor_of(t * 0.5);
    return t < -1 ? -1 : t > 2 ? 2 : t;
}

// Texel number i, from a reduced coordinate, of a row of n; -1 for none.
TK_BOTH inline int wrap_texel(int i, int n, int wrap) {
    switch (wrap) {
        case TK_RASTER_REPEAT: return i < 0 ? i + n : i >= n ? i - n : i;
        case TK_RASTER_CLAMP: return i < 0 ? 0 : i >= n ? n - 1 : i;
        case TK_RASTER_MIRROR: return i < 0 ? -1 - i : i < n ? i : i < 2 * n ? 2 * n - 1 - i : i - 2 * n;
        default: return i < 0 || i >= n ? -1 : i;
    }
}

// Channels that are read and written at once.
template <int width>
struct alignas(width == 3 ? 4 : 4 * width) Channels {
    float v[width];
};

// go(std::integral_constant<int, width>) with the most of 4 channels that `channels` is a multiple of and that `memory`,
// addresses put together by |, is aligned for.
template <class Go>
void with_width(int64_t channels, uintptr_t memory, const Go& go) {
    if (channels % 4 == 0 && memory % sizeof(Channels<4>) == 0) return go(std::integral_constant<int, 4>{});
    if (channels % 3 == 0) return go(std::integral_constant<int, 3>{});
    if (channels % 2 == 0 && memory % sizeof(Channels<2>) == 0) return go(std::integral_constant<int, 2>{});
    go(std::integral_constant<int, 1>{});
}

template <int width>
struct SampleTexture {
    MipLayout layout;
    const float* pyramid;
    int64_t texture_stride;  // floats from one texture to the next; 0 when all share one
    int64_t channels;        // a multiple of width
    const float* uv;
    const float* lod;
    int64_t points;
    int filter, wrap;
    float* out;

    // Texels of the pyramid that a point reads of a level (-1 for none), and their weights.
    struct Taps {
        int texel[4];
        float weight[4];
    };

    TK_BOTH int texel(int level, int y, int x) const {
        return y < 0 || x < 0 ? -1 : static_cast<int>(layout.begin[level]) + y * static_cast<int>(layout.width[level]) + x;
    }
    TK_BOTH Taps nearest_tap(double u, double v) const {
        const int h = static_cast<int>(layout.height[0]), w = static_cast<int>(layout.width[0]);
        return {{texel(0, wrap_texel(static_cast<int>(floor_of(v * h)), h, wrap), wrap_texel(static_cast<int>(floor_of(u * w)), w, wrap))}, {1}};
    }
    // The four texels around (u, v) of a level; their weights add up to `scale`.
    TK_BOTH Taps linear_taps(int level, double u, double v, float scale) const {
        const int h = static_cast<int>(layout.height[level]), w = static_cast<int>(layout.width[level]);
        const double x = u * w - 0.5, y = v * h - 0.5;
        const double fx = floor_of(x), fy = floor_of(y);
        const float ax = static_cast<float>(x - fx), ay = static_cast<float>(y - fy);
        const int x0 = wrap_texel(static_cast<int>(fx), w, wrap), x1 = wrap_texel(static_cast<int>(fx) + 1, w, wrap);
        const int y0 = wrap_texel(static_cast<int>(fy), h, wrap), y1 = wrap_texel(static_cast<int>(fy) + 1, h, wrap);
        return {{texel(level, y0, x0), texel(level, y0, x1), texel(level, y1, x0), texel(level, y1, x1)},
                {scale * (1 - ay) * (1 - ax), scale * (1 - ay) * ax, scale * ay * (1 - ax), scale * ay * ax}};
    }
    // Adds channels of the first `count` taps to `sum`.
    template <int count>
    TK_BOTH static void add(const float* texture, const Taps& taps, int64_t channels, Channels<width>& sum) {
        // All reads are on their way before the first is waited for; where there is no texel, of some other.
        Channels<width> read[count];
        for (int k = 0; k < count; ++k) {
            const int64_t there = taps.texel[k] < 0 ? 0 : taps.texel[k];
            read[k] = *reinterpret_cast<const Channels<width>*>(texture + there * channels);
        }
        for (int k = 0; k < count; ++k) {
            if (taps.texel[k] < 0) continue;
            for (int j = 0; j < width; ++j) sum.v[j] += taps.weight[k] * read[k].v[j];
        }
    }

    // Point i of the batch.
    TK_BOTH void operator()(int64_t i) const {
        const float* texture = texture_stride == 0 ? pyramid : pyramid + (i / points) * texture_stride;
        const float at_u = uv[i * 2], at_v = uv[i * 2 + 1];
        const bool finite = fabsf(at_u) <= FLT_MAX && fabsf(at_v) <= FLT_MAX;
        const double u = reduce_coordinate(at_u, wrap), v = reduce_coordinate(at_v, wrap);
        Taps taps, smaller;  // of the level above the point's and of the one below it
        float part = 0;      // of the latter
        if (finite && filter == TK_RASTER_NEAREST) {
            taps = nearest_tap(u, v);
        } else if (finite) {
            const float top = static_cast<float>(layout.levels - 1);
            float level = filter == TK_RASTER_MIP && lod != nullptr ? lod[i] : 0;
            level = !(level > 0) ? 0 : level > top ? top : level;
            const int low = static_cast<int>(level);
            part = level - static_cast<float>(low);
            taps = linear_taps(low, u, v, 1 - part);
            if (part > 0) smaller = linear_taps(low + 1, u, v, part);
        }
        for (int64_t c = 0; c < channels; c += width) {
            Channels<width> sum{};
            if (finite && filter == TK_RASTER_NEAREST) {
                add<1>(texture + c, taps, channels, sum);
            } else if (finite) {
                add<4>(texture + c, taps, channels, sum);
                if (part > 0) add<4>(texture + c, smaller, channels, sum);
            }
            *reinterpret_cast<Channels<width>*>(out + i * channels + c) = sum;
        }
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
