// A hash table from voxel coordinates to rows of the array that holds them, for host and device.
//
// A slot holds a row number and nothing else: the key is read from the coordinates themselves, so the table takes
// 4 bytes a slot. The home slots of a brick of 4 x 4 x 4 voxels lie side by side, so that neighbours share cache
// lines.
#pragma once

#include <cstdint>

#include "numeric.hpp"

namespace tk::voxel {

struct VoxelTable {
    int32_t* slots;  // -1 when empty
    uint64_t mask;   // number of slots, a power of two, less one
    const int32_t* coords;

    // At most half of the slots are taken.
    static TK_INLINE uint64_t slots_for(int64_t n) {
        uint64_t slots = 64;
        while (slots < static_cast<uint64_t>(n) * 2) slots *= 2;
        return slots;
    }

    // Where a voxel occurs in several rows, the first of them is found, whatever the order of insertion.
    TK_INLINE void insert(int32_t row) {
        const int32_t x = coords[row * int64_t{3}], y = coords[row * int64_t{3} + 1], z = coords[row * int64_t{3} + 2];
        for (uint64_t at = home(x, y, z) & mask;; at = (at + 1) & mask) {
            int32_t seen = load(at);
            if (seen < 0) {
                seen = claim(at, row);
                if (seen < 0) return;
            }
            if (holds(seen, x, y, z)) {
                lower(at, row);
                return;
            }
        }
    }

    // The rows of three voxels, or -1. Their first probes do not wait for each other, and most need no second. No
    // insertion may be under way; the table is not empty.
    TK_INLINE void find(const int32_t (&voxels)[3][3], int32_t (&rows)[3]) const {
        uint64_t at[3];
        bool done[3];
        for (int k = 0; k < 3; ++k) {
            at[k] = home(voxels[k][0], voxels[k][1], voxels[k][2]) & mask;
            rows[k] = slots[at[k]];
        }
        for (int k = 0; k < 3; ++k)
            done[k] = (rows[k] < 0) | holds(greater(rows[k], 0), voxels[k][0], voxels[k][1], voxels[k][2]);
        for (int k = 0; k < 3; ++k)
            while (!done[k]) {
                at[k] = (at[k] + 1) & mask;
                rows[k] = slots[at[k]];
                done[k] = rows[k] < 0 || holds(rows[k], voxels[k][0], voxels[k][1], voxels[k][2]);
            }
    }

private:
    static TK_INLINE uint64_t home(int32_t x, int32_t y, int32_t z) {
        // The finaliser of MurmurHash3 (public domain, Austin Appleby) on the number of the brick.
        uint64_t k = (static_cast<uint64_t>(static_cast<uint32_t>(x) >> 2) << 42) ^
                     (static_cast<uint64_t>(static_cast<uint32_t>(y) >> 2) << 21) ^ (static_cast<uint32_t>(z) >> 2);
        k ^= k >> 33;
        k *= 0xff51afd7ed558ccdULL;
        k ^= k >> 33;
        k *= 0xc4ceb9fe1a85ec53ULL;
        k ^= k >> 33;
        const uint64_t within = static_cast<uint64_t>((x & 3) << 4 | (y & 3) << 2 | (z & 3));
        return k << 6 | (within ^ k >> 58);
    }
    TK_INLINE bool holds(int32_t row, int32_t x, int32_t y, int32_t z) const {
        const int32_t* c = coords + row * int64_t{3};
        return (c[2] == z) & (c[1] == y) & (c[0] == x);
    }
    TK_INLINE int32_t load(uint64_t at) const {
#ifdef __CUDA_ARCH__
        return *static_cast<volatile int32_t*>(slots + at);
#else
        return __atomic_load_n(slots + at, __ATOMIC_RELAXED);
#endif
    }
    // Takes an empty slot for `row`; returns -1, or the row that was there first.
    TK_INLINE int32_t claim(uint64_t at, int32_t row) {
#ifdef __CUDA_ARCH__
        return atomicCAS(slots + at, -1, row);
#else
        int32_t expected = -1;
        __atomic_compare_exchange_n(slots + at, &expected, row, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        return expected;
#endif
    }
    TK_INLINE void lower(uint64_t at, int32_t row) {
#ifdef __CUDA_ARCH__
        atomicMin(slots + at, row);
#else
        int32_t seen = load(at);
        while (row < seen && !__atomic_compare_exchange_n(slots + at, &seen, row, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
#endif
    }
};

}  // namespace tk::voxel
