#include <algorithm>

#include "arguments.hpp"

TK_API int tk_sparse_invert_map(int32_t* remaining, int64_t rows_in, int64_t rows_out, int64_t taps, int32_t* inverse,
                                int64_t* left, int, void*) {
    return tk::guarded([&] {
        using namespace tk::sparse;
        require_count("rows_in", rows_in, INT32_MAX);
        require_count("rows_out", rows_out, INT32_MAX);
        require_count("taps", taps, 1 << 18);
        std::fill_n(inverse, rows_in * taps, -1);
        *left = 0;
        for (int64_t i = 0; i < rows_out * taps; ++i) {  // ascending: the first reader is the smallest
            if (remaining[i] < 0) continue;
            int32_t& to = inverse[remaining[i] * taps + i % taps];
            if (to < 0) {
                to = static_cast<int32_t>(i / taps);
                remaining[i] = -1;
            } else {
                ++*left;
            }
        }
    });
}
