#include "curves.hpp"

#include "arguments.hpp"
#include "trellis/cuda.cuh"

namespace {

using namespace tk::sparse;
constexpr int block = 256;

__global__ void encode(const int32_t* coords, int64_t n, bool hilbert, int bits, int64_t* codes) {
    TK_GRID_STRIDE(i, n) {
        const Cell cell{static_cast<uint32_t>(coords[3 * i]), static_cast<uint32_t>(coords[3 * i + 1]),
                        static_cast<uint32_t>(coords[3 * i + 2])};
        codes[i] = hilbert ? hilbert_encode(cell, bits) : morton_encode(cell);
    }
}

__global__ void decode(const int64_t* codes, int64_t n, bool hilbert, int bits, int32_t* coords) {
    TK_GRID_STRIDE(i, n) {
        const Cell cell = hilbert ? hilbert_decode(codes[i], bits) : morton_decode(codes[i]);
        coords[3 * i] = static_cast<int32_t>(cell.x);
        coords[3 * i + 1] = static_cast<int32_t>(cell.y);
        coords[3 * i + 2] = static_cast<int32_t>(cell.z);
    }
}

}  // namespace

TK_API int tk_sparse_encode_order(const int32_t* coords, int64_t n, int curve, int bits, int64_t* codes, int device,
                                  void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("n", n);
        require_curve(curve, bits);
        if (n == 0) return;
        encode<<<tk::grid_size(n, block), block, 0, static_cast<cudaStream_t>(stream)>>>(
            coords, n, curve == TK_SPARSE_HILBERT, bits, codes);
    });
}

TK_API int tk_sparse_decode_order(const int64_t* codes, int64_t n, int curve, int bits, int32_t* coords, int device,
                                  void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("n", n);
        require_curve(curve, bits);
        if (n == 0) return;
        decode<<<tk::grid_size(n, block), block, 0, static_cast<cudaStream_t>(stream)>>>(
            codes, n, curve == TK_SPARSE_HILBERT, bits, coords);
    });
}
