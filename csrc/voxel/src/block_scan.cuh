// Prefix sums over the threads of a block.
#pragma once

#include <cuda_runtime.h>

namespace tk::voxel {

// Sum over the threads before this one of the block, and over all of them in `total`. `warp_sums` is 32 entries of
// shared memory, free for another use after the next barrier.
template <class T>
__device__ __forceinline__ T exclusive_scan_block(T value, T* warp_sums, T& total) {
    constexpr unsigned whole_warp = 0xffffffffu;
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    T sum = value;
    for (int step = 1; step < 32; step *= 2) {
        const T left = __shfl_up_sync(whole_warp, sum, step);
        if (lane >= step) sum += left;
    }
    if (lane == 31) warp_sums[warp] = sum;
    __syncthreads();
    T before = 0;
    total = 0;
    for (int w = 0; w < warps; ++w) {
        if (w < warp) before += warp_sums[w];
        total += warp_sums[w];
    }
    return before + sum - value;
}

}  // namespace tk::voxel
