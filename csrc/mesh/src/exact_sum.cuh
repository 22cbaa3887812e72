// Sums of doubles that do not depend on the order of their terms: fixed-point numbers of two 64-bit halves, so that
// atomics may add them. Terms are cut off at 2^-100 of a bound for the sum, far below what a sum in double loses.
#pragma once

#include <cstdint>

#include "scratch.cuh"

namespace tk::mesh {

struct ExactSum {
    long long high, low;
    __device__ ExactSum& operator+=(const ExactSum& o) {
        high += o.high;
        low += o.low;
        return *this;
    }
};

// That of the lane `step` behind, as __shfl_down_sync.
__device__ inline ExactSum shuffled(const ExactSum& s, int step) {
    return {__shfl_down_sync(~0u, s.high, step), __shfl_down_sync(~0u, s.low, step)};
}

// Blocks for kernels whose threads keep sums over many items: enough to fill a device, few enough for their atomics.
inline unsigned few_blocks(int64_t n) { return std::min(grid_size(n, block_size), 2048u); }

// The bits of a finite number's magnitude, which compare as magnitudes do; 0 for any other.
__device__ inline uint64_t magnitude_bits(double x) {
    return x - x == 0 ? static_cast<uint64_t>(__double_as_longlong(fabs(x))) : 0;
}

// *largest becomes at least `own` of all threads; to be called by whole warps.
__device__ inline void raise_to_largest(uint64_t* largest, uint64_t own) {
    unsigned long long value = own;
    for (int step = 16; step > 0; step /= 2) {
        const unsigned long long other = __shfl_down_sync(~0u, value, step);
        value = other > value ? other : value;
    }
    if (threadIdx.x % 32 == 0 && value > *reinterpret_cast<volatile unsigned long long*>(largest))
        atomicMax(reinterpret_cast<unsigned long long*>(largest), value);
}

// Terms of magnitude up to that whose bits are given, `count` of them at most.
class FixedPoint {
public:
    __device__ FixedPoint(uint64_t largest, int64_t count) {
        // Units of `high` are 2^-60 of the sum's bound, those of `low` 2^-(60 - bits of count) of the unit of high.
        const double bound = __longlong_as_double(static_cast<long long>(largest)) * 2;
        int exponent = 0;
        frexp(bound > 0 ? bound : 1.0, &exponent);
        const int count_bits = 64 - __clzll(count);
        high_exponent_ = exponent + count_bits - 60;
        low_exponent_ = high_exponent_ - (60 - count_bits);
    }
    __device__ ExactSum split(double x) const {
        const double high = rint(ldexp(x, -high_exponent_));
        const double rest = x - ldexp(high, high_exponent_);  // exact
        return {static_cast<long long>(high), static_cast<long long>(rint(ldexp(rest, -low_exponent_)))};
    }
    __device__ double value(const ExactSum& s) const {
        return ldexp(static_cast<double>(s.high), high_exponent_) + ldexp(static_cast<double>(s.low), low_exponent_);
    }

private:
    int high_exponent_, low_exponent_;
};

__device__ inline void add(ExactSum* sum, const ExactSum& part) {
    if (part.high != 0) atomicAdd(reinterpret_cast<unsigned long long*>(&sum->high), static_cast<unsigned long long>(part.high));
    if (part.low != 0) atomicAdd(reinterpret_cast<unsigned long long*>(&sum->low), static_cast<unsigned long long>(part.low));
}

}  // namespace tk::mesh
