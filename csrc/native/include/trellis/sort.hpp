// Parallel building blocks for count-then-fill operations: exclusive scan, stable radix sort, groups.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "trellis/parallel.hpp"

namespace tk {

// Replaces counts by their exclusive prefix sums and returns the total.
template <class T>
T exclusive_scan(T* values, int64_t n) {
    constexpr int64_t grain = 1 << 16;
    std::vector<T> totals(static_cast<size_t>(chunk_count(std::max<int64_t>(n, 0), grain)), T{});
    parallel_chunks(n, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        T sum{};
        for (int64_t i = begin; i < end; ++i) sum += values[i];
        totals[static_cast<size_t>(chunk)] = sum;
    });
    T running{};
    for (T& t : totals) {
        T next = running + t;
        t = running;
        running = next;
    }
    parallel_chunks(n, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        T sum = totals[static_cast<size_t>(chunk)];
        for (int64_t i = begin; i < end; ++i) {
            T next = sum + values[i];
            values[i] = sum;
            sum = next;
        }
    });
    return running;
}

// Sorts `keys` ascending and carries `payload` along; equal keys keep their order (least-significant-
// digit radix sort, 11 bits a pass, only over the digits in which keys differ).
template <class Payload>
void stable_sort_by_key(std::vector<uint64_t>& keys, std::vector<Payload>& payload) {
    constexpr int bits = 11, buckets = 1 << bits;
    constexpr int64_t grain = 1 << 16;
    const int64_t n = static_cast<int64_t>(keys.size());
    if (n < 2) return;
    const int64_t chunks = chunk_count(n, grain);
    std::vector<uint64_t> ors(static_cast<size_t>(chunks)), ands(static_cast<size_t>(chunks));
    parallel_chunks(n, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        uint64_t o = 0, a = ~uint64_t{0};
        for (int64_t i = begin; i < end; ++i) {
            o |= keys[i];
            a &= keys[i];
        }
        ors[chunk] = o;
        ands[chunk] = a;
    });
    uint64_t any = 0, all = ~uint64_t{0};
    for (int64_t c = 0; c < chunks; ++c) {
        any |= ors[c];
        all &= ands[c];
    }
    const uint64_t varying = any ^ all;
    std::vector<uint64_t> keys2(keys.size());
    std::vector<Payload> payload2(payload.size());
    std::vector<std::array<uint32_t, buckets>> histogram(static_cast<size_t>(chunks));
    for (int shift = 0; shift < 64; shift += bits) {
        if (((varying >> shift) & (buckets - 1)) == 0) continue;
        parallel_chunks(n, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
            auto& h = histogram[chunk];
            h.fill(0);
            for (int64_t i = begin; i < end; ++i) ++h[(keys[i] >> shift) & (buckets - 1)];
        });
        // Bucket-major order keeps equal keys in their order whatever thread writes them.
        int64_t running = 0;
        std::vector<std::vector<int64_t>> offset(static_cast<size_t>(chunks), std::vector<int64_t>(buckets));
        for (int b = 0; b < buckets; ++b)
            for (int64_t c = 0; c < chunks; ++c) {
                offset[c][b] = running;
                running += histogram[c][b];
            }
        parallel_chunks(n, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
            auto& o = offset[chunk];
            for (int64_t i = begin; i < end; ++i) {
                const int64_t to = o[(keys[i] >> shift) & (buckets - 1)]++;
                keys2[to] = keys[i];
                payload2[to] = payload[i];
            }
        });
        keys.swap(keys2);
        payload.swap(payload2);
    }
}

// Starts of the runs of equal keys in a sorted array, followed by n: run r is [starts[r], starts[r+1]).
inline std::vector<int64_t> run_starts(const std::vector<uint64_t>& sorted) {
    std::vector<int64_t> starts;
    const int64_t n = static_cast<int64_t>(sorted.size());
    for (int64_t i = 0; i < n; ++i)
        if (i == 0 || sorted[i] != sorted[i - 1]) starts.push_back(i);
    starts.push_back(n);
    return starts;
}

}  // namespace tk
