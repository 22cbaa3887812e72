// What <algorithm> has for two numbers, for host and device. The order of the comparisons is that of std::min and
// std::max, so a NaN as the second operand never wins.
#pragma once

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

}  // namespace tk::voxel
