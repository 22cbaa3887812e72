// A normalisation and the narrow linear layer behind it on CUDA: what is normalised never leaves the registers' reach.
#include "float_types.cuh"
#include "norm.hpp"
#include "trellis/cuda.cuh"

namespace tk::sparse {
namespace {

constexpr int block = 256;

template <int lanes>
__device__ float lane_sum(float v) {
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

// A row by `lanes` lanes, which read it three times; after the first it lies in the first-level cache.
template <class T, int lanes>
__global__ void __launch_bounds__(block) norm_linear(NormLinear a) {
    const int lane = threadIdx.x % lanes;
    const int channels = static_cast<int>(a.channels), outputs = static_cast<int>(a.outputs);
    const int64_t first = (int64_t(blockIdx.x) * block + threadIdx.x) / lanes;
    const int64_t step = int64_t(gridDim.x) * (block / lanes);
    const int64_t rounds = (a.rows + step - 1) / step;  // the same for all, so that no shuffle misses a lane
    for (int64_t round = 0; round < rounds; ++round) {
        const bool inside = first + round * step < a.rows;
        const int64_t row = inside ? first + round * step : 0;
        const T* x = static_cast<const T*>(a.x) + row * channels;
        float sum = 0, squares = 0;
        for (int c = lane; c < channels; c += lanes) sum += static_cast<float>(x[c]);
        const float mean = lane_sum<lanes>(sum) / static_cast<float>(channels);
        for (int c = lane; c < channels; c += lanes) {
            const float v = static_cast<float>(x[c]) - mean;
            squares += v * v;
        }
        const float inverse = rsqrtf(lane_sum<lanes>(squares) / static_cast<float>(channels) + a.eps);
        for (int k = 0; k < outputs; ++k) {
            float total = 0;
            for (int c = lane; c < channels; c += lanes)
                total += (static_cast<float>(x[c]) - mean) * inverse * __ldg(a.weight + static_cast<int64_t>(k) * channels + c);
            total = lane_sum<lanes>(total);
            if (inside && lane == k % lanes) a.out[row * outputs + k] = total + (a.bias ? a.bias[k] : 0.0f);
        }
    }
}

template <class T>
void launch(const NormLinear& a, cudaStream_t stream) {
    if (a.channels <= 128)
        norm_linear<T, 8><<<grid_size(a.rows, block / 8), block, 0, stream>>>(a);
    else
        norm_linear<T, 32><<<grid_size(a.rows, block / 32), block, 0, stream>>>(a);
}

}  // namespace
}  // namespace tk::sparse

using namespace tk;
using namespace tk::sparse;

TK_API int tk_sparse_norm_linear(const void* x, const float* weight, const float* bias, int64_t rows, int64_t channels,
                                 int64_t outputs, double eps, int dtype, float* out, int device, void* stream) {
    return guarded_on(device, [&] {
        const NormLinear a{x, weight, bias, rows, channels, outputs, static_cast<float>(eps), dtype, out};
        check(a);
        require_count("channels", channels, INT32_MAX);
        require_count("outputs", outputs, INT32_MAX);
        if (rows == 0 || outputs == 0) return;
        with_float_type(dtype, [&](auto zero) { launch<decltype(zero)>(a, static_cast<cudaStream_t>(stream)); });
    });
}
