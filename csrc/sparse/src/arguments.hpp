// Checks of the arguments that several functions of the header share.
#pragma once

#include <climits>
#include <cstdint>

#include "trellis/error.hpp"
#include "trellis_sparse.h"

namespace tk::sparse {

inline void require_count(const char* name, int64_t value, int64_t below = INT64_MAX) {
    require(value >= 0 && value < below, format("%s: expected in [0, %lld), got %lld", name, static_cast<long long>(below),
                                                static_cast<long long>(value)));
}

inline void require_curve(int curve, int bits) {
    require(curve == TK_SPARSE_MORTON || curve == TK_SPARSE_HILBERT,
            format("curve: expected %d (Morton) or %d (Hilbert), got %d", TK_SPARSE_MORTON, TK_SPARSE_HILBERT, curve));
    require(bits >= 1 && bits <= 22, format("bits: expected in [1, 22], got %d", bits));
}

inline void require_mode(int mode) {
    require(mode == TK_SPARSE_TRILINEAR || mode == TK_SPARSE_NEAREST,
            format("mode: expected %d (trilinear) or %d (nearest), got %d", TK_SPARSE_TRILINEAR, TK_SPARSE_NEAREST, mode));
}

inline void require_precision(int precision) {
    require(precision == 32 || precision == 64, format("precision: expected 32 or 64, got %d", precision));
}

}  // namespace tk::sparse
