// What the parts of submanifold convolution share.
#pragma once

#include <vector>

#include "arguments.hpp"
#include "gemm.hpp"
#include "trellis/parallel.hpp"

namespace tk::sparse {

struct ConvShape {
    int64_t rows_in, rows_out, channels_in, channels_out, taps;
};

inline void check_conv(const ConvShape& s, int precision) {
    require_count("rows_in", s.rows_in, INT32_MAX);
    require_count("rows_out", s.rows_out, INT32_MAX);
    require_count("channels_in", s.channels_in, INT32_MAX);
    require_count("channels_out", s.channels_out, INT32_MAX);
    require_count("taps", s.taps, 1 << 18);
    require_precision(precision);
}

// The row of feats that output row i reads at a tap, or -1.
inline int32_t neighbor(const int32_t* neighbors, const ConvShape& s, int64_t i, int64_t tap) {
    const int32_t row = neighbors[i * s.taps + tap];
    // Not require(): its message would be made for every row.
    if (row < -1 || row >= s.rows_in)
        throw Error(TK_INVALID_ARGUMENT,
                    format("neighbors: expected rows in [-1, %lld), got %d at [%lld, %lld]", static_cast<long long>(s.rows_in), row,
                           static_cast<long long>(i), static_cast<long long>(tap)));
    return row;
}

// Memory that a thread keeps from task to task.
template <class T>
class Workspace {
public:
    static T* get(int slot, int64_t size) {
        thread_local std::vector<T> buffers[4];
        std::vector<T>& buffer = buffers[slot];
        if (static_cast<int64_t>(buffer.size()) < size) buffer.resize(static_cast<size_t>(size));
        return buffer.data();
    }
};

}  // namespace tk::sparse
