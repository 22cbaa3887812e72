// Turns a gather into its transpose: for each row that is read, who reads it.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "trellis/sort.hpp"

namespace tk::sparse {

class InverseRows {
public:
    // For reader i in [0, readers), target(i) is the row in [0, rows) that it reads or -1, and key(i) its name.
    template <class Target, class Key>
    InverseRows(int64_t rows, int64_t readers, Target&& target, Key&& key) : first_(static_cast<size_t>(rows) + 1) {
        std::unique_ptr<std::atomic<int64_t>[]> next(new std::atomic<int64_t>[static_cast<size_t>(rows)]());
        parallel_for(readers, grain, [&](int64_t i) {
            const int64_t row = target(i);
            if (row >= 0) next[row].fetch_add(1, std::memory_order_relaxed);
        });
        parallel_for(rows, grain, [&](int64_t r) { first_[r] = next[r]; });
        first_[rows] = 0;
        keys_.resize(static_cast<size_t>(exclusive_scan(first_.data(), rows + 1)));
        parallel_for(rows, grain, [&](int64_t r) { next[r] = first_[r]; });
        parallel_for(readers, grain, [&](int64_t i) {
            const int64_t row = target(i);
            if (row >= 0) keys_[next[row].fetch_add(1, std::memory_order_relaxed)] = key(i);
        });
        // Threads filled the lists in any order; sorted, each list is one thing only.
        parallel_for(rows, 256, [&](int64_t r) { std::sort(keys_.begin() + first_[r], keys_.begin() + first_[r + 1]); });
    }

    // The keys of the readers of a row, ascending.
    const int64_t* begin(int64_t row) const { return keys_.data() + first_[row]; }
    const int64_t* end(int64_t row) const { return keys_.data() + first_[row + 1]; }

private:
    static constexpr int64_t grain = 1 << 14;
    std::vector<int64_t> first_, keys_;
};

}  // namespace tk::sparse
