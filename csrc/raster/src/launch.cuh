// One thread an output, with the code that the CPU runs.
#pragma once

#include "trellis/cuda.cuh"

namespace tk::raster {

template <class Body>
__global__ void for_each(Body body, int64_t n) {
    TK_GRID_STRIDE(i, n) { body(i); }
}

// body(i) for each i in [0, n).
template <class Body>
void launch(int64_t n, const Body& body, void* stream) {
    constexpr int block = 256;
    if (n > 0) for_each<<<tk::grid_size(n, block), block, 0, static_cast<cudaStream_t>(stream)>>>(body, n);
}

}  // namespace tk::raster
