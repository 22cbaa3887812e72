// Normalisations of token features on CUDA. Each reads and writes every element once: a group of lanes holds one row
// (or one head) in registers, in vectors of 16 bytes, and sums by shuffles in a fixed order.
#include "float_types.cuh"
#include "norm.hpp"
#include "trellis/cuda.cuh"

namespace tk::sparse {
namespace {

constexpr int block = 256;
constexpr int max_lanes = 32;

__device__ float to_float(float v) { return v; }
__device__ float to_float(__half v) { return __half2float(v); }
__device__ float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ void store(float* to, float v) { *to = v; }
__device__ void store(__half* to, float v) { *to = __float2half_rn(v); }
__device__ void store(__nv_bfloat16* to, float v) { *to = __float2bfloat16_rn(v); }

// `n` consecutive elements that travel in one access.
template <class T, int n>
struct alignas(sizeof(T) * n) Pack {
    T v[n];
};

template <class T, int n>
__device__ void load(const void* array, int64_t at, float* to) {
    const Pack<T, n> pack = *reinterpret_cast<const Pack<T, n>*>(static_cast<const T*>(array) + at);
#pragma unroll
    for (int i = 0; i < n; ++i) to[i] = to_float(pack.v[i]);
}

template <class T, int n>
__device__ void load_weights(const void* array, int64_t at, bool wide, float* to) {
    if (wide) {
#pragma unroll
        for (int i = 0; i < n; ++i) to[i] = static_cast<const float*>(array)[at + i];
    } else {
        load<T, n>(array, at, to);
    }
}

template <class T, int n>
__device__ void save(void* array, int64_t at, const float* from) {
    Pack<T, n> pack;
#pragma unroll
    for (int i = 0; i < n; ++i) store(&pack.v[i], from[i]);
    *reinterpret_cast<Pack<T, n>*>(static_cast<T*>(array) + at) = pack;
}

// The sum over the `lanes` lanes (a power of two) that hold a row; every one of them gets it.
template <int lanes>
__device__ float lane_sum(float v) {
#pragma unroll
    for (int step = lanes / 2; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
    return v;
}

// The row of x that a row is made of, or -1 where it is none.
__device__ int64_t source_row(const NormRows& a, int64_t row, bool inside) {
    if (!a.source) return row;
    const int64_t from = inside ? a.source[row] : 0;
    return from >= 0 && from < a.rows_in ? from : -1;
}

// A row by `lanes` lanes, `packs` vectors of n elements each: channels = lanes * packs * n, or less where `packs` is
// rounded up (the lanes beyond then hold nothing).
template <class T, int n, int lanes, int packs>
__global__ void __launch_bounds__(block) norm_rows(NormRows a) {
    const int lane = threadIdx.x % lanes;
    const int64_t first = (int64_t(blockIdx.x) * block + threadIdx.x) / lanes;
    const int64_t step = int64_t(gridDim.x) * (block / lanes);
    const int channels = static_cast<int>(a.channels);
    const int64_t rounds = (a.rows + step - 1) / step;  // the same for all, so that no shuffle misses a lane
    for (int64_t round = 0; round < rounds; ++round) {
        const int64_t row = first + round * step;
        const bool inside = row < a.rows;
        const int64_t at = row * channels;
        const int64_t entry = inside && a.entries ? a.entries[row] * a.modulation_stride : 0;
        const int64_t from = source_row(a, row, inside);
        float v[packs][n];
        float sum = 0;
#pragma unroll
        for (int p = 0; p < packs; ++p) {
            const int c = (p * lanes + lane) * n;
#pragma unroll
            for (int i = 0; i < n; ++i) v[p][i] = 0;
            if (!inside || c >= channels) continue;
            if (from >= 0) {
                load<T, n>(a.x, from * channels + c, v[p]);
            } else {
#pragma unroll
                for (int i = 0; i < n; ++i) v[p][i] = NAN;
            }
            if (a.update) {
                float u[n], g[n];
                load<T, n>(a.update, at + c, u);
                if (a.gate) load<T, n>(a.gate, entry + c, g);
#pragma unroll
                for (int i = 0; i < n; ++i) {
                    T rounded;  // what the next reader of `sum` sees is what is normalised here
                    store(&rounded, a.gate ? v[p][i] + u[i] * g[i] : v[p][i] + u[i]);
                    v[p][i] = to_float(rounded);
                }
                save<T, n>(a.sum, at + c, v[p]);
            }
#pragma unroll
            for (int i = 0; i < n; ++i) sum += v[p][i];
        }
        const float mean = lane_sum<lanes>(sum) / static_cast<float>(channels);
        float squares = 0;
#pragma unroll
        for (int p = 0; p < packs; ++p)
            if ((p * lanes + lane) * n < channels) {
#pragma unroll
                for (int i = 0; i < n; ++i) squares += (v[p][i] - mean) * (v[p][i] - mean);
            }
        const float inverse = rsqrtf(lane_sum<lanes>(squares) / static_cast<float>(channels) + a.eps);
#pragma unroll
        for (int p = 0; p < packs; ++p) {
            const int c = (p * lanes + lane) * n;
            if (!inside || c >= channels) continue;
            float m[n];
#pragma unroll
            for (int i = 0; i < n; ++i) v[p][i] = (v[p][i] - mean) * inverse;
            if (a.weight) {
                load_weights<T, n>(a.weight, c, a.weight_dtype == TK_SPARSE_F32, m);
#pragma unroll
                for (int i = 0; i < n; ++i) v[p][i] *= m[i];
            }
            if (a.bias) {
                load_weights<T, n>(a.bias, c, a.weight_dtype == TK_SPARSE_F32, m);
#pragma unroll
                for (int i = 0; i < n; ++i) v[p][i] += m[i];
            }
            if (a.scale) {
                load<T, n>(a.scale, entry + c, m);
#pragma unroll
                for (int i = 0; i < n; ++i) v[p][i] *= 1.0f + m[i];
            }
            if (a.shift) {
                load<T, n>(a.shift, entry + c, m);
#pragma unroll
                for (int i = 0; i < n; ++i) v[p][i] += m[i];
            }
#pragma unroll
            for (int i = 0; i < n; ++i) v[p][i] = activated(v[p][i], a.activation);
            save<T, n>(a.normed, at + c, v[p]);
        }
    }
}

// Any width: the row is read again for each sum.
template <class T>
__global__ void __launch_bounds__(block) norm_wide_rows(NormRows a) {
    const int lane = threadIdx.x % max_lanes;
    const int64_t first = (int64_t(blockIdx.x) * block + threadIdx.x) / max_lanes;
    const int64_t step = int64_t(gridDim.x) * (block / max_lanes);
    for (int64_t row = first; row < a.rows; row += step) {
        const int64_t at = row * a.channels;
        const int64_t entry = a.entries ? a.entries[row] * a.modulation_stride : 0;
        const int64_t source = source_row(a, row, true);
        const int64_t source_at = source * a.channels;
        const void* from = a.update ? a.sum : a.x;
        float sum = source < 0 ? NAN : 0;
        for (int64_t c = lane; c < a.channels; c += max_lanes) {
            float v, u = 0, g = 1;
            if (source < 0) continue;
            load<T, 1>(a.x, source_at + c, &v);
            if (a.update) {
                load<T, 1>(a.update, at + c, &u);
                if (a.gate) load<T, 1>(a.gate, entry + c, &g);
                v += u * g;
                save<T, 1>(a.sum, at + c, &v);
                load<T, 1>(a.sum, at + c, &v);
            }
            sum += v;
        }
        const float mean = lane_sum<max_lanes>(sum) / static_cast<float>(a.channels);
        float squares = 0;
        for (int64_t c = lane; c < a.channels; c += max_lanes) {
            float v;
            if (source < 0) continue;
            load<T, 1>(from, source_at + c, &v);
            squares += (v - mean) * (v - mean);
        }
        const float inverse = rsqrtf(lane_sum<max_lanes>(squares) / static_cast<float>(a.channels) + a.eps);
        for (int64_t c = lane; c < a.channels; c += max_lanes) {
            float v = NAN, m;
            if (source >= 0) load<T, 1>(from, source_at + c, &v);
            v = (v - mean) * inverse;
            if (a.weight) {
                load_weights<T, 1>(a.weight, c, a.weight_dtype == TK_SPARSE_F32, &m);
                v *= m;
            }
            if (a.bias) {
                load_weights<T, 1>(a.bias, c, a.weight_dtype == TK_SPARSE_F32, &m);
                v += m;
            }
            if (a.scale) {
                load<T, 1>(a.scale, entry + c, &m);
                v *= 1.0f + m;
            }
            if (a.shift) {
                load<T, 1>(a.shift, entry + c, &m);
                v += m;
            }
            v = activated(v, a.activation);
            save<T, 1>(a.normed, at + c, &v);
        }
    }
}

// A head of lanes * n elements by `lanes` lanes.
template <class T, int n, int lanes>
__global__ void __launch_bounds__(block) norm_heads(NormHeads a) {
    const int lane = threadIdx.x % lanes;
    const int64_t first = (int64_t(blockIdx.x) * block + threadIdx.x) / lanes;
    const int64_t step = int64_t(gridDim.x) * (block / lanes);
    const int64_t per_row = a.groups * a.heads;
    const int64_t total = a.rows * per_row;
    const int64_t rounds = (total + step - 1) / step;
    const int c = lane * n;
    const bool whole = c < a.head_dim;
    for (int64_t round = 0; round < rounds; ++round) {
        const int64_t item = first + round * step;
        const int64_t row = item / per_row, which = item % per_row;
        const bool inside = item < total && whole;
        float v[n];
#pragma unroll
        for (int i = 0; i < n; ++i) v[i] = 0;
        if (inside) load<T, n>(a.x, row * a.row_stride + which * a.head_dim + c, v);
        if (a.gamma) {
            float squares = 0;
#pragma unroll
            for (int i = 0; i < n; ++i) squares += v[i] * v[i];
            const float scale = head_scale(lane_sum<lanes>(squares), a.head_dim);
            float gamma[n];
            if (inside) load<T, n>(a.gamma, which * a.head_dim + c, gamma);
#pragma unroll
            for (int i = 0; i < n; ++i) v[i] *= scale * gamma[i];
        }
        if (!inside) continue;
        if (a.turns) {
            const float2* turns = reinterpret_cast<const float2*>(a.turns + row * a.head_dim + c);
#pragma unroll
            for (int i = 0; i < n; i += 2) {
                const float2 turn = turns[i / 2];
                const float p = v[i], q = v[i + 1];
                v[i] = p * turn.x - q * turn.y;
                v[i + 1] = p * turn.y + q * turn.x;
            }
        }
        save<T, n>(a.out, item * a.head_dim + c, v);
    }
}

template <class T>
void launch(const NormRows& a, cudaStream_t stream) {
    constexpr int n = 16 / sizeof(T);
    const int64_t packs = (a.channels + n - 1) / n;
    const bool aligned = a.channels % n == 0 && a.modulation_stride % n == 0;
    auto grid = [&](int lanes) { return grid_size(a.rows, block / lanes); };
    if (!aligned || packs > 12 * max_lanes)
        norm_wide_rows<T><<<grid(max_lanes), block, 0, stream>>>(a);
    else if (packs <= 8)
        norm_rows<T, n, 8, 1><<<grid(8), block, 0, stream>>>(a);
    else if (packs <= 16)
        norm_rows<T, n, 16, 1><<<grid(16), block, 0, stream>>>(a);
    else if (packs <= 32)
        norm_rows<T, n, 32, 1><<<grid(32), block, 0, stream>>>(a);
    else if (packs <= 64)
        norm_rows<T, n, 32, 2><<<grid(32), block, 0, stream>>>(a);
    else if (packs <= 128)
        norm_rows<T, n, 32, 4><<<grid(32), block, 0, stream>>>(a);
    else if (packs <= 192)
        norm_rows<T, n, 32, 6><<<grid(32), block, 0, stream>>>(a);
    else
        norm_rows<T, n, 32, 12><<<grid(32), block, 0, stream>>>(a);
}

template <class T>
void launch(const NormHeads& a, cudaStream_t stream) {
    constexpr int n = 16 / sizeof(T);
    const bool aligned = a.head_dim % n == 0 && a.row_stride % n == 0;
    const int64_t items = a.rows * a.groups * a.heads;
    if (aligned && a.head_dim <= 8 * n)
        norm_heads<T, n, 8><<<grid_size(items, block / 8), block, 0, stream>>>(a);
    else if (aligned && a.head_dim <= 16 * n)
        norm_heads<T, n, 16><<<grid_size(items, block / 16), block, 0, stream>>>(a);
    else if (aligned && a.head_dim <= 32 * n)
        norm_heads<T, n, 32><<<grid_size(items, block / 32), block, 0, stream>>>(a);
    else if (a.row_stride % 2 == 0 && a.head_dim <= 64)
        norm_heads<T, 2, 32><<<grid_size(items, block / 32), block, 0, stream>>>(a);
    else
        throw Error(TK_INVALID_ARGUMENT, format("head_dim: expected at most 64, or a multiple of %d up to %d, got %lld", n, 32 * n,
                                                static_cast<long long>(a.head_dim)));
}

template <class Arguments>
void dispatch(const Arguments& a, void* stream) {
    check(a);
    if (a.rows == 0) return;
    with_float_type(a.dtype, [&](auto zero) { launch<decltype(zero)>(a, static_cast<cudaStream_t>(stream)); });
}

}  // namespace
}  // namespace tk::sparse

using namespace tk;
using namespace tk::sparse;

TK_API int tk_sparse_norm_rows(const void* x, const int64_t* source, int64_t rows_in, const void* update, const void* gate,
                               const void* scale, const void* shift, int64_t modulation_stride, const int32_t* entries, const void* weight, const void* bias,
                               int64_t rows, int64_t channels, double eps, int activation, int dtype, int weight_dtype,
                               void* sum, void* normed, int device, void* stream) {
    return guarded_on(device, [&] {
        require(weight_dtype == TK_SPARSE_F32 || weight_dtype == dtype,
                format("weight_dtype: expected 32 or dtype (%d), got %d", dtype, weight_dtype));
        dispatch(NormRows{x, source, rows_in, update, gate, scale, shift, modulation_stride, entries, weight, bias, rows, channels,
                          static_cast<float>(eps), activation, dtype, weight_dtype, sum, normed},
                 stream);
    });
}

TK_API int tk_sparse_norm_heads(const void* x, int64_t row_stride, const void* gamma, const float* turns, int64_t rows,
                                int64_t groups, int64_t heads, int64_t head_dim, int dtype, void* out, int device,
                                void* stream) {
    return guarded_on(device, [&] {
        dispatch(NormHeads{x, row_stride, gamma, turns, rows, groups, heads, head_dim, dtype, out}, stream);
    });
}
