// Smooth filling of gaps: averages are pulled up a pyramid, then pushed down into what is empty.
//
// S. J. Gortler, R. Grzeszczuk, R. Szeliski, M. F. Cohen: The Lumigraph, SIGGRAPH 1996, section 3.4.2.
#include <algorithm>
#include <cstring>
#include <vector>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis_raster.h"

namespace {

struct Level {
    int64_t height, width;
    std::vector<float> color;   // [height, width, channels]
    std::vector<float> weight;  // [height, width], in [0, 1]
};

// Weighted mean of the (up to) four texels below each texel; weights add up and saturate.
template <class Color, class Weight>
void pull(const Color& color, const Weight& weight, int64_t height, int64_t width, int64_t channels, Level* up) {
    tk::parallel_for(up->height, 8, [&](int64_t y) {
        for (int64_t x = 0; x < up->width; ++x) {
            float total = 0;
            float* to = up->color.data() + (y * up->width + x) * channels;
            for (int64_t j = 2 * y; j < std::min(2 * y + 2, height); ++j)
                for (int64_t i = 2 * x; i < std::min(2 * x + 2, width); ++i) {
                    const float w = weight(j * width + i);
                    if (w == 0) continue;
                    total += w;
                    for (int64_t c = 0; c < channels; ++c) to[c] += w * color[(j * width + i) * channels + c];
                }
            if (total > 0)
                for (int64_t c = 0; c < channels; ++c) to[c] /= total;
            up->weight[y * up->width + x] = std::min(total, 1.0f);
        }
    });
}

// Blends into texels of weight below 1 the bilinear value of the level above.
template <class Weight>
void push(const Level& up, const Weight& weight, int64_t height, int64_t width, int64_t channels, float* color) {
    tk::parallel_for(height, 8, [&](int64_t y) {
        // Child 2i lies a quarter texel before the centre of its parent i, child 2i + 1 a quarter after it.
        const int64_t y0 = y / 2, y1 = std::clamp<int64_t>(y % 2 ? y0 + 1 : y0 - 1, 0, up.height - 1);
        for (int64_t x = 0; x < width; ++x) {
            const float w = weight(y * width + x);
            if (w >= 1) continue;
            const int64_t x0 = x / 2, x1 = std::clamp<int64_t>(x % 2 ? x0 + 1 : x0 - 1, 0, up.width - 1);
            const float* near = up.color.data() + (y0 * up.width + x0) * channels;
            const float* side = up.color.data() + (y0 * up.width + x1) * channels;
            const float* below = up.color.data() + (y1 * up.width + x0) * channels;
            const float* far = up.color.data() + (y1 * up.width + x1) * channels;
            float* to = color + (y * width + x) * channels;
            for (int64_t c = 0; c < channels; ++c) {
                const float smooth = 0.5625f * near[c] + 0.1875f * (side[c] + below[c]) + 0.0625f * far[c];
                to[c] = w > 0 ? w * to[c] + (1 - w) * smooth : smooth;
            }
        }
    });
}

}  // namespace

TK_API int tk_raster_pull_push(const float* image, const uint8_t* mask, int64_t height, int64_t width,
                               int64_t channels, float* out, int, void*) {
    return tk::guarded([&] {
        std::memcpy(out, image, sizeof(float) * height * width * channels);
        if (!std::any_of(mask, mask + height * width, [](uint8_t m) { return m != 0; })) return;
        std::vector<Level> levels;
        for (int64_t h = height, w = width; h > 1 || w > 1;) {
            h = (h + 1) / 2;
            w = (w + 1) / 2;
            levels.push_back({h, w, std::vector<float>(h * w * channels), std::vector<float>(h * w)});
        }
        auto valid = [&](int64_t i) { return mask[i] ? 1.0f : 0.0f; };
        auto weight_of = [&](size_t l) { return [&levels, l](int64_t i) { return levels[l].weight[i]; }; };
        for (size_t l = 0; l < levels.size(); ++l) {
            if (l == 0)
                pull(image, valid, height, width, channels, &levels[0]);
            else
                pull(levels[l - 1].color.data(), weight_of(l - 1), levels[l - 1].height, levels[l - 1].width, channels,
                     &levels[l]);
        }
        for (size_t l = levels.size(); l-- > 1;)
            push(levels[l], weight_of(l - 1), levels[l - 1].height, levels[l - 1].width, channels,
                 levels[l - 1].color.data());
        if (!levels.empty()) push(levels[0], valid, height, width, channels, out);
    });
}
