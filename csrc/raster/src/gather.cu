// CUDA kernels of the operations that compute each output from a few inputs: the same code as on the CPU, one
// thread per output.
#include "interpolate.hpp"
#include "launch.cuh"
#include "texture.hpp"
#include "trellis_raster.h"

using namespace tk::raster;

TK_API int tk_raster_interpolate(const float* attrs, const float* rast, const int32_t* faces, int64_t attr_batch,
                                 int64_t batch, int64_t pixels, int64_t num_vertices, int64_t num_faces,
                                 int64_t channels, float* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        launch(batch * pixels,
               Interpolate{attrs, rast, faces, pixels, num_vertices, num_faces, channels,
                           attr_batch == 1 ? 0 : num_vertices * channels, out},
               stream);
    });
}

TK_API int tk_raster_build_mips(const float* image, int64_t batch, int64_t height, int64_t width, int64_t channels,
                                int levels, float* pyramid, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        tk::require(levels >= 1 && levels <= max_mip_levels,
                    tk::format("levels: expected 1 to %d, got %d", max_mip_levels, levels));
        const MipLayout layout(height, width, levels);
        const size_t bytes = sizeof(float) * static_cast<size_t>(height * width * channels);
        if (batch > 0 && bytes > 0)
            TK_CUDA(cudaMemcpy2DAsync(pyramid, sizeof(float) * layout.texels() * channels, image, bytes, bytes,
                                      static_cast<size_t>(batch), cudaMemcpyDeviceToDevice,
                                      static_cast<cudaStream_t>(stream)));
        for (int level = 1; level < levels; ++level)
            launch(batch * layout.height[level] * layout.width[level], BuildMip{layout, level, channels, pyramid},
                   stream);
    });
}

TK_API int tk_raster_uv_lod(const float* uv, int64_t batch, int64_t height, int64_t width, int64_t texture_height,
                            int64_t texture_width, float* lod, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        launch(batch * height * width,
               UvLod{uv, height, width, static_cast<double>(texture_height), static_cast<double>(texture_width), lod},
               stream);
    });
}

TK_API int tk_raster_sample_texture(const float* pyramid, int64_t texture_batch, int64_t texture_height,
                                    int64_t texture_width, int64_t channels, int levels, const float* uv,
                                    const float* lod, int64_t batch, int64_t points, int filter, int wrap,
                                    float* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        tk::require(levels >= 1 && levels <= max_mip_levels,
                    tk::format("levels: expected 1 to %d, got %d", max_mip_levels, levels));
        const MipLayout layout(texture_height, texture_width, levels);
        launch(batch * points,
               SampleTexture{layout, pyramid, texture_batch == 1 ? 0 : layout.texels() * channels, channels, uv, lod,
                             points, filter, wrap, out},
               stream);
    });
}
