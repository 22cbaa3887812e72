// The mip pyramid: its layout, and one texel of it, on host and device.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::raster {

constexpr int max_mip_levels = 16;  // 1 + log2(TK_RASTER_MAX_SIDE)

struct MipLayout {
    int levels;
    int64_t height[max_mip_levels], width[max_mip_levels];
    int64_t begin[max_mip_levels + 1];  // in texels

    MipLayout(int64_t h, int64_t w, int levels_) : levels(levels_) {
        begin[0] = 0;
        for (int l = 0; l < levels; ++l) {
            height[l] = h;
            width[l] = w;
            begin[l + 1] = begin[l] + h * w;
            h = h / 2 > 1 ? h / 2 : 1;
            w = w / 2 > 1 ? w / 2 : 1;
        }
    }
    int64_t texels() const { return begin[levels]; }
};

// Texels of a row of n that one of m texels (m = max(1, n / 2)) covers, weighted by the share of it they fill: two,
// or three when n is odd. In units of 1/(n m) of the row, texel i of n is [i m, (i + 1) m) and texel j of m is
// [j n, (j + 1) n).
struct Footprint {
    int64_t first;
    int count;
    float weight[4];

    TK_BOTH Footprint(int64_t j, int64_t n, int64_t m) : first(2 * j), count(0) {
        if (n == 2 * m) {
            count = 2;
            weight[0] = weight[1] = 0.5f;
            return;
        }
        for (int64_t i = first; i < n && i * m < (j + 1) * n && count < 4; ++i) {
            const int64_t low = i * m > j * n ? i * m : j * n, high = (i + 1) * m < (j + 1) * n ? (i + 1) * m : (j + 1) * n;
            weight[count++] = static_cast<float>(high - low) / static_cast<float>(n);
        }
    }
};

// Texel i of level `level`, counted over the batch, from the level above it.
struct BuildMip {
    MipLayout layout;
    int level;
    int64_t channels;
    float* pyramid;

    TK_BOTH void operator()(int64_t i) const {
        const int64_t h = layout.height[level], w = layout.width[level];
        const int64_t x = i % w, y = i / w % h, b = i / (w * h);
        float* image = pyramid + b * layout.begin[layout.levels] * channels;
        const float* from = image + layout.begin[level - 1] * channels;
        float* to = image + (layout.begin[level] + y * w + x) * channels;
        const Footprint rows(y, layout.height[level - 1], h), columns(x, layout.width[level - 1], w);
        for (int64_t c = 0; c < channels; ++c) to[c] = 0;
        for (int r = 0; r < rows.count; ++r)
            for (int k = 0; k < columns.count; ++k) {
                const float weight = rows.weight[r] * columns.weight[k];
                const float* texel = from + ((rows.first + r) * layout.width[level - 1] + columns.first + k) * channels;
                for (int64_t c = 0; c < channels; ++c) to[c] += weight * texel[c];
            }
    }
};

}  // namespace tk::raster
