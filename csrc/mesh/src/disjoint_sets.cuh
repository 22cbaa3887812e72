// Disjoint sets on the device, without locks (Jayanti and Tarjan, "Concurrent disjoint set union", 2021; halving as in
// Anderson and Woll). A set's representative is its smallest member whatever the order of the unions, so that nothing
// that is made from complete sets depends on it.
#pragma once

#include <cstdint>

namespace tk::mesh {

// Other threads move parents only to smaller members of the same set; what a plain load finds is an ancestor, however
// old it is.
__device__ inline int32_t find_root(int32_t* parent, int32_t i) {
    volatile int32_t* p = parent;
    for (;;) {
        const int32_t up = p[i];
        if (up == i) return i;
        const int32_t upper = p[up];
        if (upper != up) p[i] = upper;
        i = upper;
    }
}

__device__ inline void unite(int32_t* parent, int32_t a, int32_t b) {
    for (;;) {
        a = find_root(parent, a);
        b = find_root(parent, b);
        if (a == b) return;
        const int32_t low = a < b ? a : b, high = a < b ? b : a;
        if (atomicCAS(parent + high, high, low) == high) return;
    }
}

}  // namespace tk::mesh
