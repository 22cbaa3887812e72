// What the CUDA kernels of submanifold convolution share.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "arguments.hpp"
#include "plan_key.hpp"
#include "trellis/cuda.cuh"

namespace tk::sparse {

// One convolution on tensor cores. Rows of feats, weight and out are multiples of 16 bytes.
struct TensorConv {
    const void *feats, *weight, *bias;  // [rows_in, channels_in], [channels_out, taps, channels_in], [channels_out] or null
    const int32_t* neighbors;           // [rows_out, taps]
    const int32_t* order;               // [parts, rows_out]
    const uint32_t* masks;              // [parts, groups]
    const int32_t* tiles;               // [parts * ceil(groups / 2)] or null: the order in which tiles of 128 rows are taken
    void* out;                          // [rows_out, channels_out]
    float* sums;                        // [parts, rows_out, channels_out] when there are several parts
    int* next;                          // 0: the queue of tiles
    PlanShape plan;
    int channels_in, channels_out, precision;
    int processors;
    cudaStream_t stream;
};

void conv_wgmma(const TensorConv& c);
void conv_mma(const TensorConv& c);

}  // namespace tk::sparse
