#include "arguments.hpp"
#include "child_slot.hpp"
#include "trellis/cuda.cuh"

namespace {

constexpr int block = 256;

__global__ void upsample(const int32_t* coords, const uint8_t* mask, const int64_t* first, int64_t n, int32_t* children,
                         int64_t* parent, int64_t* slot) {
    TK_GRID_STRIDE(i, n) tk::sparse::write_children(coords, mask, first, i, children, parent, slot);
}

}  // namespace

TK_API int tk_sparse_upsample(const int32_t* coords, const uint8_t* mask, const int64_t* first, int64_t n,
                              int32_t* children, int64_t* parent, int64_t* slot, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        tk::sparse::require_count("n", n);
        if (n == 0) return;
        upsample<<<tk::grid_size(n, block), block, 0, static_cast<cudaStream_t>(stream)>>>(coords, mask, first, n, children,
                                                                                          parent, slot);
    });
}
