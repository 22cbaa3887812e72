// CUDA kernels of the operations that compute each output from a few inputs: the same code as on the CPU, one
// thread per output.
#include "interpolate.hpp"
#include "launch.cuh"
#include "texture.hpp"
#include "trellis_raster.h"

using namespace tk::raster;

namespace {

constexpr int interpolate_block = 256, few_channels = 4;

// Pixels of few channels, a thread for each. Values go through shared memory, so that a warp writes whole lines.
template <int channels>
__global__ void __launch_bounds__(interpolate_block) interpolate_few(Interpolate image, int64_t n) {
    __shared__ float values[interpolate_block * channels];
    for (int64_t first = int64_t{blockIdx.x} * interpolate_block; first < n; first += int64_t{gridDim.x} * interpolate_block) {
        const int64_t i = first + threadIdx.x;
        Interpolate::Corners corners{};
        bool covered = false;
        if (i < n) {
            const float4 r = reinterpret_cast<const float4*>(image.rast)[i];
            covered = image.look(i, r.x, r.y, r.w, corners) == Interpolate::covered;
        }
#pragma unroll
        for (int c = 0; c < channels; ++c) values[threadIdx.x * channels + c] = covered ? corners(c) : 0;
        __syncthreads();
        const int64_t rest = (n - first) * channels;
#pragma unroll
        for (int k = static_cast<int>(threadIdx.x); k < interpolate_block * channels; k += interpolate_block)
            if (k < rest) image.out[first * channels + k] = values[k];
        __syncthreads();
    }
}

template <int channels>
void interpolate(const Interpolate& image, int64_t n, void* stream) {
    if (image.channels == channels)
        interpolate_few<channels><<<tk::grid_size(n, interpolate_block), interpolate_block, 0, static_cast<cudaStream_t>(stream)>>>(image, n);
    else if constexpr (channels > 1)
        interpolate<channels - 1>(image, n, stream);
}

// Channel i % channels of vertex i / channels, over all images that share its attributes.
struct SumImages {
    InterpolateBackward first;  // of the first image
    int64_t images, pixels, num_faces, channels;
    float* out;

    __device__ void operator()(int64_t i) const {
        float total = 0;
        for (int64_t b = 0; b < images; ++b) {
            InterpolateBackward one = first;
            one.grad += b * pixels * channels;
            one.rast += b * pixels * 4;
            one.pixel_order += b * pixels;
            one.face_begin += b * (num_faces + 1);
            total += static_cast<float>(one(i / channels, i % channels, channels));
        }
        out[i] = total;
    }
};

}  // namespace

TK_API int tk_raster_interpolate(const float* attrs, const float* rast, const int32_t* faces, int64_t attr_batch,
                                 int64_t batch, int64_t pixels, int64_t num_vertices, int64_t num_faces,
                                 int64_t channels, float* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        const Interpolate image{attrs, rast, faces, pixels, num_vertices, num_faces, channels,
                                attr_batch == 1 ? 0 : num_vertices * channels, out};
        const int64_t n = batch * pixels;
        if (n == 0 || channels == 0) return;
        if (channels <= few_channels && reinterpret_cast<uintptr_t>(rast) % sizeof(float4) == 0)
            interpolate<few_channels>(image, n, stream);
        else
            launch(n, image, stream);
    });
}

TK_API int tk_raster_interpolate_backward(const float* grad_out, const float* rast, const int32_t*,
                                          const int64_t* pixel_order, const int64_t* face_begin,
                                          const int64_t* corner_order, const int64_t* vertex_begin,
                                          int64_t attr_batch, int64_t batch, int64_t pixels, int64_t num_vertices,
                                          int64_t num_faces, int64_t channels, float* grad_attrs, int device,
                                          void* stream) {
    return tk::guarded_on(device, [&] {
        const int64_t together = attr_batch == 1 ? batch : 1;  // images that share attributes
        for (int64_t b = 0; b < attr_batch; ++b) {
            const InterpolateBackward one{grad_out + b * pixels * channels,  rast + b * pixels * 4,
                                          pixel_order + b * pixels,          face_begin + b * (num_faces + 1),
                                          corner_order,                      vertex_begin};
            launch(num_vertices * channels,
                   SumImages{one, together, pixels, num_faces, channels, grad_attrs + b * num_vertices * channels},
                   stream);
        }
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
        const auto memory = reinterpret_cast<uintptr_t>(pyramid) | reinterpret_cast<uintptr_t>(out);
        with_width(channels, memory, [&](auto width) {
            const SampleTexture<width> sample{layout, pyramid, texture_batch == 1 ? 0 : layout.texels() * channels, channels, uv, lod, points,
                                              filter, wrap, out};
            launch(batch * points, sample, stream);
        });
    });
}
