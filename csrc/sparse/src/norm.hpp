// What the normalisations of norm.cpp and norm.cu compute for one element, and their common argument checks.
#pragma once

#include <cmath>

#include "arguments.hpp"
#include "trellis/vec.hpp"
#include "trellis_sparse.h"

namespace tk::sparse {

// Arrays of norm_rows; see tk_sparse_norm_rows.
struct NormRows {
    const void* x;
    const int64_t* source;
    int64_t rows_in;
    const void *update, *gate, *scale, *shift;
    int64_t modulation_stride;
    const int32_t* entries;
    const void *weight, *bias;
    int64_t rows, channels;
    float eps;
    int activation, dtype, weight_dtype;
    void *sum, *normed;
};

// Arrays of norm_linear; see tk_sparse_norm_linear.
struct NormLinear {
    const void* x;
    const float *weight, *bias;
    int64_t rows, channels, outputs;
    float eps;
    int dtype;
    float* out;
};

// Arrays of norm_heads; see tk_sparse_norm_heads.
struct NormHeads {
    const void* x;
    int64_t row_stride;
    const void* gamma;
    const float* turns;
    int64_t rows, groups, heads, head_dim;
    int dtype;
    void* out;
};

TK_BOTH inline float activated(float v, int activation) {
    return activation == TK_SPARSE_SILU ? v / (1.0f + expf(-v)) : v;
}

// 1 / max(|x|, 1e-12) times the square root of the head's width, as torch.nn.functional.normalize has it.
TK_BOTH inline float head_scale(float sum_of_squares, int64_t head_dim) {
    return sqrtf(static_cast<float>(head_dim)) / fmaxf(sqrtf(sum_of_squares), 1e-12f);
}

inline void check_dtype(const char* name, int dtype) {
    if (dtype != TK_SPARSE_F32 && dtype != TK_SPARSE_F16 && dtype != TK_SPARSE_BF16)
        throw Error(TK_INVALID_ARGUMENT, format("%s: expected 16, 17 or 32, got %d", name, dtype));
}

inline void check(const NormRows& a) {
    require_count("rows", a.rows);
    require(a.channels > 0, format("channels: expected at least 1, got %lld", static_cast<long long>(a.channels)));
    check_dtype("dtype", a.dtype);
    check_dtype("weight_dtype", a.weight_dtype);
    require(!a.source || !a.update, "source: expected null with an update, which has a row for each row written");
    require(a.activation == TK_SPARSE_IDENTITY || a.activation == TK_SPARSE_SILU,
            format("activation: expected 0 or 1, got %d", a.activation));
}

inline void check(const NormLinear& a) {
    require_count("rows", a.rows);
    require(a.channels > 0, format("channels: expected at least 1, got %lld", static_cast<long long>(a.channels)));
    require_count("outputs", a.outputs);
    check_dtype("dtype", a.dtype);
}

inline void check(const NormHeads& a) {
    require_count("rows", a.rows);
    require(a.groups > 0 && a.heads > 0 && a.head_dim > 0 && a.head_dim % 2 == 0,
            format("groups, heads, head_dim: expected at least 1, and an even head_dim, got %lld, %lld, %lld",
                   static_cast<long long>(a.groups), static_cast<long long>(a.heads), static_cast<long long>(a.head_dim)));
    check_dtype("dtype", a.dtype);
}

}  // namespace tk::sparse
