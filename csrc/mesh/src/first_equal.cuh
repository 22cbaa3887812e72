// For each item the first one that equals it, by a hash table of item numbers (open addressing, linear probing).
#pragma once

#include <cstdint>

#include "scratch.cuh"

namespace tk::mesh {

// A power of two of at least twice as many slots as items.
inline int64_t first_equal_slots(int64_t n) {
    int64_t slots = 64;
    while (slots < 2 * n) slots *= 2;
    return slots;
}

// Items know hash(i), same(i, j) and lone(i) (equal to nothing but itself). Which slot an item gets depends on the
// order of threads; that each set of equal items ends up in one slot, as its smallest, does not.
template <class Items>
__global__ void enter_kernel(Items items, int64_t n, int32_t* slot, uint64_t mask) {
    TK_GRID_STRIDE(i, n) {
        if (items.lone(i)) continue;
        const int32_t own = static_cast<int32_t>(i);
        for (uint64_t s = items.hash(i) & mask;; s = (s + 1) & mask) {
            int32_t other = *static_cast<volatile int32_t*>(slot + s);
            if (other < 0) other = atomicCAS(slot + s, -1, own);
            if (other < 0) break;
            if (!items.same(i, other)) continue;
            if (own < other) atomicMin(slot + s, own);
            break;
        }
    }
}

template <class Items>
__device__ int32_t find_first(const Items& items, int64_t i, const int32_t* slot, uint64_t mask) {
    if (items.lone(i)) return static_cast<int32_t>(i);
    uint64_t s = items.hash(i) & mask;
    while (!items.same(i, slot[s])) s = (s + 1) & mask;
    return slot[s];
}

}  // namespace tk::mesh
