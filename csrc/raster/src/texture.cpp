#include "texture.hpp"

#include <cstring>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis_raster.h"

using namespace tk::raster;

TK_API int tk_raster_build_mips(const float* image, int64_t batch, int64_t height, int64_t width, int64_t channels,
                                int levels, float* pyramid, int, void*) {
    return tk::guarded([&] {
        tk::require(levels >= 1 && levels <= max_mip_levels,
                    tk::format("levels: expected 1 to %d, got %d", max_mip_levels, levels));
        const MipLayout layout(height, width, levels);
        for (int64_t b = 0; b < batch; ++b)
            tk::parallel_for(height, 16, [&](int64_t y) {
                std::memcpy(pyramid + (b * layout.texels() + y * width) * channels,
                            image + (b * height + y) * width * channels, sizeof(float) * width * channels);
            });
        for (int level = 1; level < levels; ++level)
            tk::parallel_for(batch * layout.height[level] * layout.width[level], 1 << 12,
                             BuildMip{layout, level, channels, pyramid});
    });
}

TK_API int tk_raster_uv_lod(const float* uv, int64_t batch, int64_t height, int64_t width, int64_t texture_height,
                            int64_t texture_width, float* lod, int, void*) {
    return tk::guarded([&] {
        tk::parallel_for(batch * height * width, 1 << 12,
                         UvLod{uv, height, width, static_cast<double>(texture_height),
                               static_cast<double>(texture_width), lod});
    });
}

TK_API int tk_raster_sample_texture(const float* pyramid, int64_t texture_batch, int64_t texture_height,
                                    int64_t texture_width, int64_t channels, int levels, const float* uv,
                                    const float* lod, int64_t batch, int64_t points, int filter, int wrap,
                                    float* out, int, void*) {
    return tk::guarded([&] {
        tk::require(levels >= 1 && levels <= max_mip_levels,
                    tk::format("levels: expected 1 to %d, got %d", max_mip_levels, levels));
        const MipLayout layout(texture_height, texture_width, levels);
        const auto memory = reinterpret_cast<uintptr_t>(pyramid) | reinterpret_cast<uintptr_t>(out);
        with_width(channels, memory, [&](auto width) {
            const SampleTexture<width> sample{layout, pyramid, texture_batch == 1 ? 0 : layout.texels() * channels, channels, uv, lod, points,
                                              filter, wrap, out};
            tk::parallel_for(batch * points, 1 << 12, sample);
        });
    });
}
