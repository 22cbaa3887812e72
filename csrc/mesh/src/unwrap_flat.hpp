// Building blocks of the flat unwrapping path: every step is a functor over an index that runs as a loop of the
// thread pool or as a CUDA kernel, on arrays that the caller owns. Sums over many writers are integers and minima
// are of packed words, so that results do not depend on the order in which threads come.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "trellis/vec.hpp"
#ifdef __CUDACC__
#include "trellis/cuda.cuh"
#else
#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#endif

namespace tk::uv::flat {

#ifdef __CUDACC__
template <class Op>
__global__ void each_kernel(int64_t n, Op op) {
    TK_GRID_STRIDE(i, n) op(i);
}
struct Runner {
    cudaStream_t stream;
    template <class Op>
    void each(int64_t n, const Op& op) const {
        constexpr int block = 128;
        if (n > 0) each_kernel<<<grid_size(n, block), block, 0, stream>>>(n, op);
    }
};
template <class Body>
int run(int device, void* stream, Body&& body) noexcept {
    return guarded_on(device, [&] { body(Runner{static_cast<cudaStream_t>(stream)}); });
}
#else
struct Runner {
    template <class Op>
    void each(int64_t n, const Op& op) const {
        parallel_for(n, 1 << 10, op);
    }
};
template <class Body>
int run(int, void*, Body&& body) noexcept {
    return guarded([&] { body(Runner{}); });
}
#endif

// Each returns what was there before.
TK_BOTH inline void add(int64_t* to, int64_t value) {
#ifdef __CUDA_ARCH__
    atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
#else
    __atomic_fetch_add(to, value, __ATOMIC_RELAXED);
#endif
}
TK_BOTH inline int32_t load(const int32_t* from) {
#ifdef __CUDA_ARCH__
    return *static_cast<const volatile int32_t*>(from);
#else
    return __atomic_load_n(from, __ATOMIC_RELAXED);
#endif
}
TK_BOTH inline void store(int32_t* to, int32_t value) {
#ifdef __CUDA_ARCH__
    *static_cast<volatile int32_t*>(to) = value;
#else
    __atomic_store_n(to, value, __ATOMIC_RELAXED);
#endif
}
TK_BOTH inline bool exchange(int32_t* at, int32_t expected, int32_t desired) {
#ifdef __CUDA_ARCH__
    return atomicCAS(at, expected, desired) == expected;
#else
    return __atomic_compare_exchange_n(at, &expected, desired, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
#endif
}
TK_BOTH inline void keep_least(int64_t* to, int64_t value) {
#ifdef __CUDA_ARCH__
    atomicMin(reinterpret_cast<long long*>(to), static_cast<long long>(value));
#else
    int64_t seen = __atomic_load_n(to, __ATOMIC_RELAXED);
    while (value < seen && !__atomic_compare_exchange_n(to, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
#endif
}

// A value that is not negative and an index as one word that orders by value, then index.
TK_BOTH inline int64_t packed(double value, int64_t index) {
    const float rounded = static_cast<float>(value);
    int32_t bits;
    memcpy(&bits, &rounded, sizeof bits);
    return static_cast<int64_t>(bits) << 32 | index;
}
constexpr int64_t nothing = INT64_MAX;

// Sums over the surface, whose area is 1, in units of 2^-44.
constexpr double unit = static_cast<double>(int64_t{1} << 44);
TK_BOTH inline int64_t fixed(double value) { return static_cast<int64_t>(value * unit); }
TK_BOTH inline double real(int64_t value) { return static_cast<double>(value) / unit; }

TK_BOTH inline int64_t next_corner(int64_t h) { return h % 3 == 2 ? h - 2 : h + 1; }
TK_BOTH inline int64_t previous_corner(int64_t h) { return h % 3 == 0 ? h + 2 : h - 1; }

TK_BOTH inline Vec3d read3(const double* from, int64_t i) { return {from[3 * i], from[3 * i + 1], from[3 * i + 2]}; }
TK_BOTH inline void write3(double* to, int64_t i, const Vec3d& v) {
    to[3 * i] = v.x;
    to[3 * i + 1] = v.y;
    to[3 * i + 2] = v.z;
}

// Disjoint sets whose root is their smallest member; any number of threads may unite and find at once.
// Jaiganesh and Burtscher, "A High-Performance Connected Components Implementation for GPUs" (2018).
TK_BOTH inline int32_t root_of(int32_t* parent, int32_t i) {
    for (;;) {
        const int32_t up = load(parent + i);
        if (up == i) return i;
        const int32_t above = load(parent + up);
        if (above == up) return up;
        store(parent + i, above);
        i = above;
    }
}
TK_BOTH inline void unite(int32_t* parent, int32_t a, int32_t b) {
    for (;;) {
        a = root_of(parent, a);
        b = root_of(parent, b);
        if (a == b) return;
        const int32_t high = a > b ? a : b, low = a > b ? b : a;
        if (exchange(parent + high, high, low)) return;
    }
}
struct Flatten {
    int32_t* parent;
    int32_t* root;
    TK_BOTH void operator()(int64_t i) const {
        int32_t at = static_cast<int32_t>(i);
        for (int32_t up; (up = load(parent + at)) != at;) at = up;
        root[i] = at;
    }
};
struct Clear {
    int32_t* flag;
    TK_BOTH void operator()(int64_t) const { *flag = 0; }
};
struct Identity {
    int32_t* parent;
    TK_BOTH void operator()(int64_t i) const { parent[i] = static_cast<int32_t>(i); }
};

}  // namespace tk::uv::flat
