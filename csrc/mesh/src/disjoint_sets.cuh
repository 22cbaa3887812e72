// Disjoint sets on the device, without locks (Anderson and Woll, "Wait-free parallel algorithms for the union-find
// problem", 1991; Jayanti and Tarjan, "Concurrent disjoint set union", 2021).
//
// What a complete set's representative is depends on its members alone, not on the order of the unions, so nothing that
// is made from complete sets depends on that order either.
#pragma once

#include <cstdint>

namespace tk::mesh {

// Members in the order of their numbers: the representative is the smallest. For sets of few members.
struct SmallestFirst {
    __device__ static bool before(uint32_t a, uint32_t b) { return a < b; }
};
// In a random but fixed order, which keeps trees of any number of members low: neighbours in a mesh often have neighbouring
// numbers, and linked by those they would make chains as long as the mesh.
struct ScatteredFirst {
    __device__ static uint32_t place(uint32_t a) {
        a = (a ^ a >> 16) * 0x7feb352du;  // one to one: no two members have the same place
        a = (a ^ a >> 15) * 0x846ca68bu;
        return a ^ a >> 16;
    }
    __device__ static bool before(uint32_t a, uint32_t b) { return place(a) < place(b); }
};

// Other threads only ever move a parent to one further up; what a load finds is an ancestor, however old it is.
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

template <class Order>
__device__ void unite(int32_t* parent, int32_t a, int32_t b) {
    for (;;) {
        a = find_root(parent, a);
        b = find_root(parent, b);
        if (a == b) return;
        const bool keep_a = Order::before(static_cast<uint32_t>(a), static_cast<uint32_t>(b));
        const int32_t upper = keep_a ? a : b, lower = keep_a ? b : a;
        if (atomicCAS(parent + lower, lower, upper) == lower) return;
    }
}

// *least becomes at most `value`.
__device__ inline void lower_to(int32_t* least, int32_t value) {
    if (value < *static_cast<volatile int32_t*>(least)) atomicMin(least, value);
}

}  // namespace tk::mesh
