// How the kernels on tensor cores write their sums, which Ampere's and Hopper's instructions lay out alike.
#pragma once

#include "conv_cuda.cuh"

namespace tk::sparse {

// Stands for a float of which a multiplication reads 10 bits of mantissa.
struct Tf32 {
    float value;
};

struct Output {
    const uint8_t* bias;
    uint8_t* out;
    float* sums;
    int64_t rows;
    int channels_out, parts;
};

inline Output output_of(const TensorConv& c) {
    return {static_cast<const uint8_t*>(c.bias), static_cast<uint8_t*>(c.out), c.sums, c.plan.rows, c.channels_out, c.plan.parts};
}

__device__ __forceinline__ float2 bias_pair(const uint8_t* bias, int column, __half) {
    return __half22float2(*reinterpret_cast<const __half2*>(bias + column * 2));
}
__device__ __forceinline__ float2 bias_pair(const uint8_t* bias, int column, __nv_bfloat16) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(bias + column * 2));
}
__device__ __forceinline__ float2 bias_pair(const uint8_t* bias, int column, Tf32) {
    return *reinterpret_cast<const float2*>(bias + column * 4);
}
__device__ __forceinline__ uint32_t packed(float x, float y, __half) {
    const __half2 pair = __floats2half2_rn(x, y);
    return *reinterpret_cast<const uint32_t*>(&pair);
}
__device__ __forceinline__ uint32_t packed(float x, float y, __nv_bfloat16) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(x, y);
    return *reinterpret_cast<const uint32_t*>(&pair);
}

// Lane q of four holds piece q of values[0..3]; afterwards it holds all four pieces of the value numbered q.
__device__ __forceinline__ void transpose_in_four(uint32_t (&v)[4], int q) {
    uint32_t got = __shfl_xor_sync(~0u, q & 1 ? v[0] : v[1], 1);
    (q & 1 ? v[0] : v[1]) = got;
    got = __shfl_xor_sync(~0u, q & 1 ? v[2] : v[3], 1);
    (q & 1 ? v[2] : v[3]) = got;
    got = __shfl_xor_sync(~0u, q & 2 ? v[0] : v[2], 2);
    (q & 2 ? v[0] : v[2]) = got;
    got = __shfl_xor_sync(~0u, q & 2 ? v[1] : v[3], 2);
    (q & 2 ? v[1] : v[3]) = got;
}

// Writes a row's sums of `columns` channels: lane q of four holds d[4 j + 2 half], d[4 j + 2 half + 1] for channels
// first_column + 8 j + 2 q and the next.
template <class T, int columns>
__device__ __forceinline__ void store_row(const Output& a, const float (&d)[columns / 2], int half, int64_t row, bool valid,
                                          int part, int first_column, int q) {
    if (a.parts > 1 || sizeof(T) == 4) {
        float* to = a.parts > 1 ? a.sums + static_cast<int64_t>(part) * a.rows * a.channels_out : reinterpret_cast<float*>(a.out);
        to += row * a.channels_out;
#pragma unroll
        for (int j = 0; j < columns / 8; ++j) {
            const int column = first_column + 8 * j + 2 * q;
            if (!valid || column >= a.channels_out) continue;
            float2 sum{d[4 * j + 2 * half], d[4 * j + 2 * half + 1]};
            if (a.parts == 1 && a.bias) {
                const float2 more = bias_pair(a.bias, column, T{});
                sum.x += more.x;
                sum.y += more.y;
            }
            *reinterpret_cast<float2*>(to + column) = sum;
        }
    } else if constexpr (sizeof(T) == 2) {
        uint8_t* to = a.out + row * a.channels_out * 2;
#pragma unroll
        for (int j = 0; j < columns / 8; j += 4) {
            uint32_t v[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int column = first_column + 8 * (j + i) + 2 * q;
                float2 more{0, 0};
                if (a.bias && column < a.channels_out) more = bias_pair(a.bias, column, T{});
                v[i] = packed(d[4 * (j + i) + 2 * half] + more.x, d[4 * (j + i) + 2 * half + 1] + more.y, T{});
            }
            transpose_in_four(v, q);
            const int column = first_column + 8 * (j + q);
            if (valid && column < a.channels_out) *reinterpret_cast<uint4*>(to + column * 2) = {v[0], v[1], v[2], v[3]};
        }
    }
}

}  // namespace tk::sparse
