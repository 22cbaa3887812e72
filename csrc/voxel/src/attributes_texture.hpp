// Textures with a box-filtered mip pyramid, and trilinear sampling of them. For host and device.
//
// The pyramid follows Williams, "Pyramidal parametrics" (1983). A level halves each size, rounding down;
// an odd size is halved with the three-tap box weights that keep the mean exact. Levels above the first
// hold 16 bits a channel, so that halving many times neither darkens nor brightens.
#pragma once

#include <cmath>
#include <cstdint>

#include "numeric.hpp"

namespace tk::voxel {

enum class Wrap : int64_t { repeat = 0, clamp = 1, mirror = 2 };

constexpr int max_channels = 4, max_levels = 17;  // of a side of 65536

// A view of a texture in memory of another's.
struct Texture {
    const uint8_t* base;      // [height, width, channels]; row 0 is the top of the image, v = 1
    const uint16_t* levels;   // those above the first
    int64_t begins[max_levels];  // of each level in `levels`, which level 0 is not in
    double log2_size;         // of the side of a square with as many texels
    int width, height, channels, last_level;
    Wrap wrap_u, wrap_v;
    bool linear;

    // Without its levels: they need `level_values()` values at `levels`.
    Texture(const uint8_t* base, int height, int width, int channels, Wrap wrap_u, Wrap wrap_v, bool linear)
        : base(base), levels(nullptr), begins{}, log2_size(0.5 * log2_of(static_cast<double>(width) * height)), width(width), height(height),
          channels(channels), last_level(0), wrap_u(wrap_u), wrap_v(wrap_v), linear(linear) {
        while (linear && (width_of(last_level) > 1 || height_of(last_level) > 1)) {
            ++last_level;
            begins[last_level] = last_level == 1 ? 0 : begins[last_level - 1] + values_of(last_level - 1);
        }
    }
    int64_t level_values() const { return last_level == 0 ? 0 : begins[last_level] + values_of(last_level); }

    TK_INLINE int width_of(int level) const { return greater(1, width >> level); }
    TK_INLINE int height_of(int level) const { return greater(1, height >> level); }
    TK_INLINE int64_t values_of(int level) const { return int64_t{width_of(level)} * height_of(level) * channels; }

    // Mip level at which one texel covers `log2_side` = log2 of the side, in UV units, of the square to average.
    TK_INLINE double level(double log2_side) const { return log2_side + log2_size; }

    // Values in [0, 1] at (u, v).
    TK_BOTH void sample(double u, double v, double level, float* out) const {
        u = wrapped(u, wrap_u);
        v = 1.0 - wrapped(v, wrap_v);
        if (!linear) return nearest(u, v, out);
        const int last = last_level;
        // A comparison that NaN fails, too.
        if (!(level > 0.0) || last == 0) return bilinear(0, u, v, out);
        if (level >= last) return bilinear(last, u, v, out);
        const int lower = static_cast<int>(level);
        const float t = static_cast<float>(level - lower);
        float upper[max_channels];
        bilinear(lower, u, v, out);
        bilinear(lower + 1, u, v, upper);
        for (int c = 0; c < channels; ++c) out[c] += (upper[c] - out[c]) * t;
    }

    // Texel (x, y) of a level above the first, from the level below it.
    TK_BOTH void halve(int level, int x, int y, uint16_t* out) const {
        if (level == 1) halve_from(base, byte_to_16_bit, 0, x, y, out);
        else halve_from(levels + begins[level - 1], 1.0f, level - 1, x, y, out);
    }

private:
    // Box filter of one output texel along one axis: weights of inputs 2i, 2i+1, 2i+2.
    struct Taps {
        float weight[3];
    };
    static constexpr float byte_to_16_bit = 257.0f;

    static TK_INLINE double wrapped(double t, Wrap wrap) {
        if (wrap == Wrap::clamp) return t < 0.0 ? 0.0 : t > 1.0 ? 1.0 : t;
        if (wrap == Wrap::repeat) return t - std::floor(t);
        t -= 2.0 * std::floor(t / 2.0);
        return t > 1.0 ? 2.0 - t : t;
    }

    static TK_INLINE int neighbour(int i, int n, Wrap wrap) {
        if (i < 0) return wrap == Wrap::repeat ? n - 1 : 0;
        if (i >= n) return wrap == Wrap::repeat ? 0 : n - 1;
        return i;
    }

    static TK_INLINE Taps taps(int from, int to, int i) {
        if (from == 1) return {{1.0f, 0.0f, 0.0f}};
        if (from % 2 == 0) return {{0.5f, 0.5f, 0.0f}};
        return {{static_cast<float>(to - i) / from, static_cast<float>(to) / from, static_cast<float>(i + 1) / from}};
    }

    template <class T>
    TK_BOTH void halve_from(const T* texels, float scale, int from, int x, int y, uint16_t* out) const {
        const Taps across = taps(width_of(from), width_of(from + 1), x), down = taps(height_of(from), height_of(from + 1), y);
        const int64_t stride = int64_t{width_of(from)} * channels;
        float sum[max_channels] = {};
        for (int j = 0; j < 3; ++j) {
            if (down.weight[j] == 0.0f) continue;
            const T* row = texels + (2 * int64_t{y} + j) * stride + 2 * int64_t{x} * channels;
            for (int i = 0; i < 3; ++i) {
                const float weight = down.weight[j] * across.weight[i] * scale;
                if (weight == 0.0f) continue;
                for (int c = 0; c < channels; ++c) sum[c] += weight * static_cast<float>(row[i * channels + c]);
            }
        }
        for (int c = 0; c < channels; ++c) out[c] = static_cast<uint16_t>(lesser(sum[c] + 0.5f, 65535.0f));
    }

    TK_BOTH void nearest(double u, double v, float* out) const {
        const int x = lesser(static_cast<int>(u * width), width - 1), y = lesser(static_cast<int>(v * height), height - 1);
        const uint8_t* texel = base + (static_cast<int64_t>(y) * width + x) * channels;
        for (int c = 0; c < channels; ++c) out[c] = static_cast<float>(texel[c]) / 255.0f;
    }

    TK_BOTH void bilinear(int level, double u, double v, float* out) const {
        if (level == 0) blend(base, 1.0f / 255.0f, 0, u, v, out);
        else blend(levels + begins[level], 1.0f / 65535.0f, level, u, v, out);
    }

    template <class T>
    TK_BOTH void blend(const T* texels, float scale, int level, double u, double v, float* out) const {
        const int width = width_of(level), height = height_of(level);
        const double x = u * width - 0.5, y = v * height - 0.5;
        const int left = static_cast<int>(std::floor(x)), top = static_cast<int>(std::floor(y));
        const float s = static_cast<float>(x - left), t = static_cast<float>(y - top);
        const int64_t x0 = neighbour(left, width, wrap_u), x1 = neighbour(left + 1, width, wrap_u);
        const int64_t y0 = neighbour(top, height, wrap_v), y1 = neighbour(top + 1, height, wrap_v);
        const T* a = texels + (y0 * width + x0) * channels;
        const T* b = texels + (y0 * width + x1) * channels;
        const T* c = texels + (y1 * width + x0) * channels;
        const T* d = texels + (y1 * width + x1) * channels;
        for (int k = 0; k < channels; ++k) {
            const float upper = a[k] + s * (static_cast<float>(b[k]) - a[k]);
            const float lower = c[k] + s * (static_cast<float>(d[k]) - c[k]);
            out[k] = (upper + t * (lower - upper)) * scale;
        }
    }
};

}  // namespace tk::voxel
