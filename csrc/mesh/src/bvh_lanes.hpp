// Eight lanes at a time, in the vector extension of GCC and Clang: one text for SSE2, AVX2, AVX-512 and NEON.
#pragma once

// Functions that take or return lanes are always inlined, so no calling convention is at stake.
#pragma GCC diagnostic ignored "-Wpsabi"

#include <cstdint>
#include <cstring>

#include "bvh.hpp"

// Compiled once per instruction set and chosen at load time. The lanes are independent and products are
// never fused (-ffp-contract=off), so every version gives the same bits.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define TK_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define TK_CLONES
#endif

namespace tk::mesh {

typedef float F8 __attribute__((vector_size(32)));
typedef double D8 __attribute__((vector_size(64)));

TK_INLINE void load(const float* from, F8& to) { std::memcpy(&to, from, sizeof to); }
TK_INLINE void load(const float* from, D8& to) {
    F8 row;
    load(from, row);
    to = __builtin_convertvector(row, D8);
}
TK_INLINE void load_corners(const float* leaf, int corner, Vec3<D8>& to) {
    load(leaf + (corner * 3 + 0) * bvh_width, to.x);
    load(leaf + (corner * 3 + 1) * bvh_width, to.y);
    load(leaf + (corner * 3 + 2) * bvh_width, to.z);
}

// Children of a node that a query still wants, the nearest last, so that pushing them in order makes a
// stack pop it first.
struct Wanted {
    int count = 0;
    int lane[bvh_width];
    float near[bvh_width];

    TK_INLINE void add(int child, float distance) {
        int at = count++;
        for (; at > 0 && near[at - 1] < distance; --at) {
            near[at] = near[at - 1];
            lane[at] = lane[at - 1];
        }
        near[at] = distance;
        lane[at] = child;
    }
};

}  // namespace tk::mesh
