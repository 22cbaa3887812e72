// Small vectors for host and device code. `double` is the working type wherever a decision is made.
#pragma once

#include <cmath>

#ifdef __CUDACC__
#define TK_BOTH __host__ __device__
#else
#define TK_BOTH
#endif

namespace tk {

template <class T>
struct Vec3 {
    T x, y, z;

    TK_BOTH T& operator[](int i) { return i == 0 ? x : i == 1 ? y : z; }
    TK_BOTH const T& operator[](int i) const { return i == 0 ? x : i == 1 ? y : z; }
    TK_BOTH Vec3 operator+(const Vec3& o) const { return {x + o.x, y + o.y, z + o.z}; }
    TK_BOTH Vec3 operator-(const Vec3& o) const { return {x - o.x, y - o.y, z - o.z}; }
    TK_BOTH Vec3 operator-() const { return {-x, -y, -z}; }
    TK_BOTH Vec3 operator*(T s) const { return {x * s, y * s, z * s}; }
    TK_BOTH Vec3& operator+=(const Vec3& o) { x += o.x; y += o.y; z += o.z; return *this; }
    TK_BOTH Vec3& operator-=(const Vec3& o) { x -= o.x; y -= o.y; z -= o.z; return *this; }
    template <class U>
    TK_BOTH explicit operator Vec3<U>() const { return {static_cast<U>(x), static_cast<U>(y), static_cast<U>(z)}; }
};

using Vec3f = Vec3<float>;
using Vec3d = Vec3<double>;
using Vec3i = Vec3<int>;

template <class T>
TK_BOTH T dot(const Vec3<T>& a, const Vec3<T>& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
template <class T>
TK_BOTH Vec3<T> cross(const Vec3<T>& a, const Vec3<T>& b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x};
}
template <class T>
TK_BOTH T length(const Vec3<T>& a) { return std::sqrt(dot(a, a)); }
// The unit vector of `a`, or zero when `a` has no direction.
template <class T>
TK_BOTH Vec3<T> normalized(const Vec3<T>& a) {
    const T n = length(a);
    return n > T(0) ? a * (T(1) / n) : Vec3<T>{T(0), T(0), T(0)};
}

}  // namespace tk
