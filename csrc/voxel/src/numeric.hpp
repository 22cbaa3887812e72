// What <algorithm> has for two numbers, and a logarithm, for host and device alike. The order of the comparisons is that of std::min and
// std::max, so a NaN as the second operand never wins.
#pragma once

#include <cmath>

#include "trellis/vec.hpp"

#ifdef __CUDACC__
#define TK_INLINE __host__ __device__ __forceinline__
#else
#define TK_INLINE inline
#endif

namespace tk::voxel {

template <class T>
TK_INLINE T lesser(T a, T b) { return b < a ? b : a; }
template <class T>
TK_INLINE T greater(T a, T b) { return a < b ? b : a; }
template <class T>
TK_INLINE T lesser(T a, T b, T c) { return lesser(lesser(a, b), c); }
template <class T>
TK_INLINE T greater(T a, T b, T c) { return greater(greater(a, b), c); }
template <class T>
TK_INLINE T clamped(T x, T low, T high) { return x < low ? low : high < x ? high : x; }
template <class T>
TK_INLINE void exchange(T& a, T& b) {
    const T kept = a;
    a = b;
    b = kept;
}


// The binary logarithm to about 1e-15, from correctly rounded operations alone: a device's library rounds otherwise
// than a host's. The series is that of the inverse hyperbolic tangent (Abramowitz and Stegun, 4.1.27).
TK_BOTH inline double log2_of(double x) {
    if (!(x > 0.0)) return x == 0.0 ? -HUGE_VAL : x;  // of negative numbers not asked for; NaN stays
    if (x == HUGE_VAL) return x;
    int exponent;
    double m = std::frexp(x, &exponent);
    if (m < 0.70710678118654752) {
        m *= 2.0;
        --exponent;
    }
    const double s = (m - 1.0) / (m + 1.0), square = s * s;
    double sum = 0.0;
    for (int k = 21; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
    return exponent + sum * s * 2.8853900817779268;  // 2 / ln 2
}

}  // namespace tk::voxel
