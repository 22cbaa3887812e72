// An open-addressing map from packed integer coordinates to row numbers, built in parallel.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "trellis/parallel.hpp"

namespace tk {

// 16 bits a component: valid for batch and coordinates in [0, 65535].
inline uint64_t pack_coord(int64_t b, int64_t x, int64_t y, int64_t z) {
    return (static_cast<uint64_t>(b) << 48) | (static_cast<uint64_t>(x) << 32) | (static_cast<uint64_t>(y) << 16) |
           static_cast<uint64_t>(z);
}

class CoordMap {
public:
    // Maps key(i) -> i for each i in [0, n). Where keys repeat the smallest i wins, whatever the threads do.
    template <class Key>
    CoordMap(int64_t n, Key&& key) {
        uint64_t capacity = 16;
        while (capacity < static_cast<uint64_t>(n) * 2) capacity *= 2;
        mask_ = capacity - 1;
        slots_.reset(new Slot[capacity]);
        parallel_for(static_cast<int64_t>(capacity), 1 << 16, [&](int64_t i) {
            slots_[i].key.store(empty, std::memory_order_relaxed);
            slots_[i].row.store(INT64_MAX, std::memory_order_relaxed);
        });
        parallel_for(n, 1 << 13, [&](int64_t i) { insert(key(i), i); });
    }

    // The row of `key`, or -1.
    int64_t find(uint64_t key) const {
        for (uint64_t at = mix(key) & mask_;; at = (at + 1) & mask_) {
            const uint64_t seen = slots_[at].key.load(std::memory_order_relaxed);
            if (seen == key) return slots_[at].row.load(std::memory_order_relaxed);
            if (seen == empty) return -1;
        }
    }

private:
    static constexpr uint64_t empty = ~uint64_t{0};
    struct Slot {
        std::atomic<uint64_t> key;
        std::atomic<int64_t> row;
    };
    // The finaliser of MurmurHash3 (public domain, Austin Appleby).
    static uint64_t mix(uint64_t k) {
        k ^= k >> 33;
        k *= 0xff51afd7ed558ccdULL;
        k ^= k >> 33;
        k *= 0xc4ceb9fe1a85ec53ULL;
        return k ^ (k >> 33);
    }
    void insert(uint64_t key, int64_t row) {
        for (uint64_t at = mix(key) & mask_;; at = (at + 1) & mask_) {
            uint64_t seen = slots_[at].key.load(std::memory_order_relaxed);
            if (seen == empty && slots_[at].key.compare_exchange_strong(seen, key, std::memory_order_relaxed)) seen = key;
            if (seen != key) continue;
            int64_t best = slots_[at].row.load(std::memory_order_relaxed);
            while (row < best && !slots_[at].row.compare_exchange_weak(best, row, std::memory_order_relaxed)) {}
            return;
        }
    }

    uint64_t mask_;
    std::unique_ptr<Slot[]> slots_;
};

}  // namespace tk
