// One texel of each step of pull-push, on host and device.
//
// S. J. Gortler, R. Grzeszczuk, R. Szeliski, M. F. Cohen: The Lumigraph, SIGGRAPH 1996, section 3.4.2.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::raster {

constexpr int max_pull_levels = 16;

// The levels above the image, each with half the sides of the one below, rounded up: colours, then weights.
struct PullLayout {
    int levels = 0;
    int64_t height[max_pull_levels], width[max_pull_levels];
    int64_t color[max_pull_levels], weight[max_pull_levels];  // offsets in floats
    int64_t floats = 0;

    PullLayout(int64_t h, int64_t w, int64_t channels) {
        while (h > 1 || w > 1) {
            h = (h + 1) / 2;
            w = (w + 1) / 2;
            height[levels] = h;
            width[levels] = w;
            color[levels] = floats;
            weight[levels] = floats + h * w * channels;
            floats += h * w * (channels + 1);
            ++levels;
        }
    }
};

// One level seen from its neighbours: the image itself has a mask for weights.
struct PullLevel {
    int64_t height, width;
    const float* weight;  // [height, width] in [0, 1], or null
    const uint8_t* mask;  // [height, width]

    TK_BOTH float weight_of(int64_t i) const { return weight != nullptr ? weight[i] : mask[i] != 0 ? 1.0f : 0.0f; }
};

// Texel i of the level above: the weighted mean of the (up to) four below it; weights add up and saturate.
struct Pull {
    PullLevel level;
    const float* color;
    int64_t channels, up_width;
    float* up_color;
    float* up_weight;

    TK_BOTH void operator()(int64_t i) const {
        const int64_t x = i % up_width, y = i / up_width;
        float* to = up_color + i * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] = 0;
        float total = 0;
        for (int64_t v = 2 * y; v < 2 * y + 2 && v < level.height; ++v)
            for (int64_t u = 2 * x; u < 2 * x + 2 && u < level.width; ++u) {
                const float w = level.weight_of(v * level.width + u);
                if (w == 0) continue;
                total += w;
                for (int64_t c = 0; c < channels; ++c) to[c] += w * color[(v * level.width + u) * channels + c];
            }
        if (total > 0)
            for (int64_t c = 0; c < channels; ++c) to[c] /= total;
        up_weight[i] = total < 1.0f ? total : 1.0f;
    }
};

// Blends into texel i, if its weight is below 1, the bilinear value of the level above.
struct Push {
    PullLevel level;
    const float* up_color;
    int64_t up_height, up_width, channels;
    float* color;
    const float* any;  // null, or zero when nothing is valid: then nothing is changed

    TK_BOTH static int64_t beside(int64_t i, int64_t n) {
        // Child 2i lies a quarter texel before the centre of its parent i, child 2i + 1 a quarter after it.
        const int64_t j = i % 2 != 0 ? i / 2 + 1 : i / 2 - 1;
        return j < 0 ? 0 : j >= n ? n - 1 : j;
    }
    TK_BOTH void operator()(int64_t i) const {
        const float w = level.weight_of(i);
        if (w >= 1 || (any != nullptr && *any == 0)) return;
        const int64_t x = i % level.width, y = i / level.width;
        const int64_t x0 = x / 2, x1 = beside(x, up_width), y0 = y / 2, y1 = beside(y, up_height);
        const float* near = up_color + (y0 * up_width + x0) * channels;
        const float* side = up_color + (y0 * up_width + x1) * channels;
        const float* below = up_color + (y1 * up_width + x0) * channels;
        const float* far = up_color + (y1 * up_width + x1) * channels;
        float* to = color + i * channels;
        for (int64_t c = 0; c < channels; ++c) {
            const float smooth = 0.5625f * near[c] + 0.1875f * (side[c] + below[c]) + 0.0625f * far[c];
            to[c] = w > 0 ? w * to[c] + (1 - w) * smooth : smooth;
        }
    }
};

// All steps, up and down; `run(n, body)` calls body(i) for each i in [0, n). `memory` holds layout.floats.
template <class Run>
void pull_push(Run&& run, const float* image, const uint8_t* mask, int64_t height, int64_t width, int64_t channels,
               const PullLayout& layout, float* memory, const float* any, float* out) {
    auto level = [&](int l) {  // -1 is the image
        return l < 0 ? PullLevel{height, width, nullptr, mask}
                     : PullLevel{layout.height[l], layout.width[l], memory + layout.weight[l], nullptr};
    };
    for (int l = 0; l < layout.levels; ++l)
        run(layout.height[l] * layout.width[l],
            Pull{level(l - 1), l == 0 ? image : memory + layout.color[l - 1], channels, layout.width[l],
                 memory + layout.color[l], memory + layout.weight[l]});
    for (int l = layout.levels; l-- > 0;) {
        const PullLevel below = level(l - 1);
        run(below.height * below.width, Push{below, memory + layout.color[l], layout.height[l], layout.width[l],
                                             channels, l == 0 ? out : memory + layout.color[l - 1], any});
    }
}

}  // namespace tk::raster
