// What add_shares.cpp and add_shares.cu check alike.
#pragma once

#include "arguments.hpp"
#include "norm.hpp"

namespace tk::sparse {

// Arrays of add_shares; see tk_sparse_add_shares.
struct AddShares {
    const void *update, *shares;
    const int64_t* source;
    int64_t rows, channels, rows_in, share;
    int dtype;
    void* out;
};

inline void check(const AddShares& a) {
    require_count("rows", a.rows);
    require_count("rows_in", a.rows_in);
    require_count("channels", a.channels, INT32_MAX);
    require(a.share > 0 && a.channels % a.share == 0,
            format("share: expected a divisor of %lld channels, got %lld", static_cast<long long>(a.channels),
                   static_cast<long long>(a.share)));
    check_dtype("dtype", a.dtype);
}

}  // namespace tk::sparse
