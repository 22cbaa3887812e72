// Distance to a triangle and ray-triangle intersection: one text for the device (T = double) and for the
// lanes of a CPU vector (T = 8 doubles). Corners come relative to the query, as doubles made from floats:
// the differences are then exact or nearly so, and products neither overflow nor vanish.
#pragma once

#include <type_traits>

#include "trellis/vec.hpp"

#ifdef __CUDACC__
#define TK_INLINE __host__ __device__ __forceinline__
#else
#define TK_INLINE inline __attribute__((always_inline))
#endif

namespace tk::mesh {

template <class Mask, class T>
TK_INLINE T select(const Mask& mask, const T& yes, const T& no) {
    return mask ? yes : no;
}

// Every operation in double is rounded, on the device too (which fuses a product and a sum where it is not told): a
// fused product would break the symmetry that watertightness and ties rest on, and the device would not get the bits
// of the CPU. In float, which decides nothing here, it may fuse.
template <class T>
TK_INLINE T times(const T& a, const T& b) {
    return a * b;
}
template <class T>
TK_INLINE T plus(const T& a, const T& b) {
    return a + b;
}
template <class T>
TK_INLINE T minus(const T& a, const T& b) {
    return a - b;
}
#ifdef __CUDA_ARCH__
TK_INLINE double times(const double& a, const double& b) { return __dmul_rn(a, b); }
TK_INLINE double plus(const double& a, const double& b) { return __dadd_rn(a, b); }
TK_INLINE double minus(const double& a, const double& b) { return __dsub_rn(a, b); }
#endif

template <class T>
TK_INLINE T difference_of_products(const T& a, const T& b, const T& c, const T& d) {
    return minus(times(a, b), times(c, d));
}

template <class T>
TK_INLINE Vec3<T> sub(const Vec3<T>& a, const Vec3<T>& b) {
    return {a.x - b.x, a.y - b.y, a.z - b.z};
}
template <class T>
TK_INLINE Vec3<T> add_scaled(const Vec3<T>& a, const Vec3<T>& b, const T& s) {
    return {plus(a.x, times(b.x, s)), plus(a.y, times(b.y, s)), plus(a.z, times(b.z, s))};
}
template <class T>
TK_INLINE T dot3(const Vec3<T>& a, const Vec3<T>& b) {
    return plus(plus(times(a.x, b.x), times(a.y, b.y)), times(a.z, b.z));
}
template <class T>
TK_INLINE Vec3<T> cross3(const Vec3<T>& a, const Vec3<T>& b) {
    return {difference_of_products(a.y, b.z, a.z, b.y), difference_of_products(a.z, b.x, a.x, b.z),
            difference_of_products(a.x, b.y, a.y, b.x)};
}

// Where on the segment a + t * ab the origin is closest to; 0 for a segment without length.
template <class T>
TK_INLINE T closest_on_segment(const Vec3<T>& a, const Vec3<T>& ab) {
    const T zero = a.x - a.x;
    const T along = -dot3(a, ab), whole = dot3(ab, ab);
    const T t = select(along < whole, along / whole, zero + 1.0);
    return select(along > zero, t, zero);
}

template <class T>
TK_INLINE T segment_distance2(const Vec3<T>& a, const Vec3<T>& ab) {
    const Vec3<T> q = add_scaled(a, ab, closest_on_segment(a, ab));
    return dot3(q, q);
}

// Barycentric coordinates, times the squared length of the normal, of the foot of the origin in the plane.
// Built from the normal, whose error grows with the slenderness of the triangle and not with its square as
// that of the usual five dot products does.
template <class T>
struct PlaneFoot {
    T u, v, w, normal2, along;  // along: normal . a
};
template <class T>
TK_INLINE PlaneFoot<T> plane_foot(const Vec3<T>& a, const Vec3<T>& ab, const Vec3<T>& b, const Vec3<T>& bc,
                                  const Vec3<T>& ac) {
    const Vec3<T> n = cross3(ab, ac);
    return {dot3(n, cross3(b, bc)), dot3(n, cross3(ac, a)), dot3(n, cross3(a, ab)), dot3(n, n), dot3(n, a)};
}

// Squared distance from the origin to triangle (a, b, c): the plane's where the foot lies inside, else the
// nearest edge's (Ericson, Real-Time Collision Detection, 5.1.5). A triangle without area is its edges.
// NaN for a triangle with a NaN corner.
template <class T>
TK_INLINE T triangle_distance2(const Vec3<T>& a, const Vec3<T>& b, const Vec3<T>& c) {
    const Vec3<T> ab = sub(b, a), bc = sub(c, b), ac = sub(c, a);
    const T zero = a.x - a.x;
    const T ab2 = segment_distance2(a, ab), bc2 = segment_distance2(b, bc), ac2 = segment_distance2(a, ac);
    T best = select(bc2 < ab2, bc2, ab2);
    best = select(ac2 < best, ac2, best);
    const PlaneFoot<T> foot = plane_foot(a, ab, b, bc, ac);
    const T plane2 = foot.along * foot.along / foot.normal2;
    const auto inside = (foot.u >= zero) & (foot.v >= zero) & (foot.w >= zero) & (foot.normal2 > zero) & (plane2 < best);
    return select(inside, plane2, best);
}

// Barycentric coordinates of the point of triangle (a, b, c) that is closest to the origin.
TK_INLINE Vec3d closest_barycentric(const Vec3d& a, const Vec3d& b, const Vec3d& c) {
    const Vec3d ab = sub(b, a), bc = sub(c, b), ac = sub(c, a);
    const double tab = closest_on_segment(a, ab), tbc = closest_on_segment(b, bc), tac = closest_on_segment(a, ac);
    const Vec3d qab = add_scaled(a, ab, tab), qbc = add_scaled(b, bc, tbc), qac = add_scaled(a, ac, tac);
    double best = dot3(qab, qab);
    Vec3d weights = {1 - tab, tab, 0};
    if (dot3(qbc, qbc) < best) best = dot3(qbc, qbc), weights = {0, 1 - tbc, tbc};
    if (dot3(qac, qac) < best) best = dot3(qac, qac), weights = {1 - tac, 0, tac};
    const PlaneFoot<double> foot = plane_foot(a, ab, b, bc, ac);
    if (foot.u >= 0 && foot.v >= 0 && foot.w >= 0 && foot.normal2 > 0 && foot.along * foot.along / foot.normal2 < best) {
        const double sum = foot.u + foot.v + foot.w;
        if (sum > 0) weights = {foot.u / sum, foot.v / sum, foot.w / sum};
    }
    return weights;
}

// A ray prepared for the test of Woop, Benthin and Wald, "Watertight Ray/Triangle Intersection" (JCGT 2013):
// axes permuted so that the direction is longest along kz, and a shear that turns it into that axis.
struct Shear {
    int kx, ky, kz;
    double sx, sy, sz;
};
TK_INLINE Shear make_shear(const Vec3d& direction) {
    const double x = std::fabs(direction.x), y = std::fabs(direction.y), z = std::fabs(direction.z);
    const int kz = x >= y && x >= z ? 0 : y >= z ? 1 : 2;
    const int kx = kz == 2 ? 0 : kz + 1, ky = kx == 2 ? 0 : kx + 1;
    const double d[3] = {direction.x, direction.y, direction.z};
    return {kx, ky, kz, d[kx] / d[kz], d[ky] / d[kz], 1 / d[kz]};
}

template <class T, class Mask>
struct RayHit {
    T t, u, v, w;  // u, v, w: barycentric coordinates times `det`
    T det;
    Mask hit;   // edges and corners included: no ray passes between triangles that share an edge
    Mask owns;  // of the triangles around an edge or corner that the ray meets exactly, some own it and some do not,
                // such that the number of owners has the parity of a ray moved aside by a hair
};

// A unit direction and what the tests of boxes and triangles need of it.
struct Ray {
    Vec3f origin;
    Shear shear;
    float inverse[3];
    bool valid;  // finite, and of a direction
};
TK_INLINE bool all_finite(const Vec3f& p) { return p.x - p.x == 0 && p.y - p.y == 0 && p.z - p.z == 0; }
TK_INLINE Ray make_ray(const float* origin, const float* direction) {
    Ray ray{};
    ray.origin = {origin[0], origin[1], origin[2]};
    const Vec3d d = {direction[0], direction[1], direction[2]};
    const double length2 = dot3(d, d);
    ray.valid = all_finite(ray.origin) && all_finite(Vec3f{direction[0], direction[1], direction[2]}) && length2 > 0;
    if (!ray.valid) return ray;
    const double scale = 1 / std::sqrt(length2);
    const Vec3d unit = {d.x * scale, d.y * scale, d.z * scale};
    ray.shear = make_shear(unit);
    ray.inverse[0] = static_cast<float>(1 / unit.x);
    ray.inverse[1] = static_cast<float>(1 / unit.y);
    ray.inverse[2] = static_cast<float>(1 / unit.z);
    return ray;
}

// Whether an edge from (px, py) to (qx, qy), seen along the ray, belongs to the triangle on its left.
template <class T>
TK_INLINE auto left_or_top(const T& px, const T& py, const T& qx, const T& qy) {
    return (qy > py) | ((qy == py) & (qx < px));
}

// Corners are relative to the ray's origin and already permuted to (kx, ky, kz).
template <class T>
TK_INLINE auto intersect(const Shear& s, const Vec3<T>& a, const Vec3<T>& b, const Vec3<T>& c) {
    const T zero = a.x - a.x;
    const T shear_x = zero + s.sx, shear_y = zero + s.sy;
    const T ax = minus(a.x, times(a.z, shear_x)), ay = minus(a.y, times(a.z, shear_y));
    const T bx = minus(b.x, times(b.z, shear_x)), by = minus(b.y, times(b.z, shear_y));
    const T cx = minus(c.x, times(c.z, shear_x)), cy = minus(c.y, times(c.z, shear_y));
    const T u = difference_of_products(bx, cy, by, cx);
    const T v = difference_of_products(cx, ay, cy, ax);
    const T w = difference_of_products(ax, by, ay, bx);
    const T det = u + v + w;
    const T t = plus(plus(times(u, a.z), times(v, b.z)), times(w, c.z)) * s.sz / det;
    const auto front = (u >= zero) & (v >= zero) & (w >= zero) & (det > zero);
    const auto back = (u <= zero) & (v <= zero) & (w <= zero) & (det < zero);
    using Mask = std::decay_t<decltype(front)>;
    const auto own_front = ((u > zero) | left_or_top(bx, by, cx, cy)) & ((v > zero) | left_or_top(cx, cy, ax, ay)) &
                           ((w > zero) | left_or_top(ax, ay, bx, by));
    const auto own_back = ((u < zero) | left_or_top(cx, cy, bx, by)) & ((v < zero) | left_or_top(ax, ay, cx, cy)) &
                          ((w < zero) | left_or_top(bx, by, ax, ay));
    return RayHit<T, Mask>{t, u, v, w, det, front | back, (front & own_front) | (back & own_back)};
}

}  // namespace tk::mesh
