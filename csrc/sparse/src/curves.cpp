#include "curves.hpp"

#include "arguments.hpp"
#include "trellis/parallel.hpp"

namespace {
constexpr int64_t grain = 1 << 14;
}

TK_API int tk_sparse_encode_order(const int32_t* coords, int64_t n, int curve, int bits, int64_t* codes, int, void*) {
    return tk::guarded([&] {
        using namespace tk::sparse;
        require_count("n", n);
        require_curve(curve, bits);
        tk::parallel_for(n, grain, [&](int64_t i) {
            const Cell cell{static_cast<uint32_t>(coords[3 * i]), static_cast<uint32_t>(coords[3 * i + 1]),
                            static_cast<uint32_t>(coords[3 * i + 2])};
            codes[i] = curve == TK_SPARSE_HILBERT ? hilbert_encode(cell, bits) : morton_encode(cell);
        });
    });
}

TK_API int tk_sparse_decode_order(const int64_t* codes, int64_t n, int curve, int bits, int32_t* coords, int, void*) {
    return tk::guarded([&] {
        using namespace tk::sparse;
        require_count("n", n);
        require_curve(curve, bits);
        tk::parallel_for(n, grain, [&](int64_t i) {
            const Cell cell = curve == TK_SPARSE_HILBERT ? hilbert_decode(codes[i], bits) : morton_decode(codes[i]);
            coords[3 * i] = static_cast<int32_t>(cell.x);
            coords[3 * i + 1] = static_cast<int32_t>(cell.y);
            coords[3 * i + 2] = static_cast<int32_t>(cell.z);
        });
    });
}
