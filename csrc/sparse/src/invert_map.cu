// The transpose of a neighbour map: who reads a row at a tap. The smallest reader is taken whatever the order of threads.
#include "arguments.hpp"
#include "trellis/cuda.cuh"

namespace {

constexpr int block = 256;

__global__ void offer(const int32_t* remaining, int64_t n, int taps, unsigned* inverse) {
    TK_GRID_STRIDE(i, n) {
        const int32_t row = remaining[i];
        if (row >= 0) atomicMin(inverse + static_cast<int64_t>(row) * taps + i % taps, static_cast<unsigned>(i / taps));
    }
}

__global__ void settle(int32_t* remaining, int64_t n, int taps, const unsigned* inverse, unsigned long long* left) {
    unsigned long long mine = 0;
    TK_GRID_STRIDE(i, n) {
        const int32_t row = remaining[i];
        if (row < 0) continue;
        if (inverse[static_cast<int64_t>(row) * taps + i % taps] == static_cast<unsigned>(i / taps))
            remaining[i] = -1;
        else
            ++mine;
    }
    if (mine) atomicAdd(left, mine);
}

}  // namespace

TK_API int tk_sparse_invert_map(int32_t* remaining, int64_t rows_in, int64_t rows_out, int64_t taps, int32_t* inverse,
                                int64_t* left, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        using namespace tk::sparse;
        require_count("rows_in", rows_in, INT32_MAX);
        require_count("rows_out", rows_out, INT32_MAX);
        require_count("taps", taps, 1 << 18);
        const auto queue = static_cast<cudaStream_t>(stream);
        const int64_t n = rows_out * taps;
        TK_CUDA(cudaMemsetAsync(left, 0, sizeof(int64_t), queue));
        TK_CUDA(cudaMemsetAsync(inverse, 0xFF, static_cast<size_t>(rows_in * taps) * sizeof(int32_t), queue));  // -1, and no smaller unsigned
        if (n == 0) return;
        unsigned* to = reinterpret_cast<unsigned*>(inverse);
        offer<<<tk::grid_size(n, block), block, 0, queue>>>(remaining, n, static_cast<int>(taps), to);
        TK_CUDA(cudaGetLastError());
        settle<<<tk::grid_size(n, block), block, 0, queue>>>(remaining, n, static_cast<int>(taps), to,
                                                             reinterpret_cast<unsigned long long*>(left));
    });
}
