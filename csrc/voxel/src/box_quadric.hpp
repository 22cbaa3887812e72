// Quadratic error functions of planes, lines and points, and their minimum inside a voxel. For host and device.
//
// All of it is float32, and the order of the operations is part of the definition. On flat parts of a surface
// these systems are close to singular, so float32 rounding shows in the result; the models were trained on grids
// with that very rounding.
#pragma once

#include <cfloat>
#include <cmath>

#include "lattice.hpp"

namespace tk::voxel {

// (p, 1)' Q (p, 1) for a symmetric 4 x 4 matrix Q, whose upper triangle is held row by row: a sum of weighted
// squared distances. Padded to whole vector registers.
struct Quadric {
    float q[12] = {};

    static TK_INLINE constexpr int at(int i, int j) { return i <= j ? i * (7 - i) / 2 + j : at(j, i); }
    TK_INLINE float operator()(int i, int j) const { return q[at(i, j)]; }
    TK_INLINE float& operator()(int i, int j) { return q[at(i, j)]; }
    TK_INLINE Quadric& operator+=(const Quadric& o) {
        for (int k = 0; k < 12; ++k) q[k] += o.q[k];
        return *this;
    }
    TK_INLINE Quadric operator*(float w) const {
        Quadric out;
        for (int k = 0; k < 12; ++k) out.q[k] = w * q[k];
        return out;
    }
    TK_INLINE float error(const Vec3f& p) const {
        const float h[4] = {p.x, p.y, p.z, 1};
        auto times = [&](const float (&row)[4]) { return (h[0] * row[0] + h[2] * row[2]) + (h[1] * row[1] + h[3] * row[3]); };
        float image[4];
        for (int j = 0; j < 4; ++j) image[j] = times({(*this)(0, j), (*this)(1, j), (*this)(2, j), (*this)(3, j)});
        return times(image);
    }
};

// The squared distance to the plane through `point` with unit normal n.
TK_INLINE Quadric plane_quadric(const Vec3f& n, const Vec3f& point) {
    const float plane[4] = {n.x, n.y, n.z, -dot_tail_first(n, point)};
    Quadric out;
    for (int i = 0; i < 4; ++i)
        for (int j = i; j < 4; ++j) out(i, j) = plane[i] * plane[j];
    return out;
}

// The squared distance to the line from a to b, which differ.
TK_INLINE Quadric line_quadric(const Vec3f& a, const Vec3f& b) {
    const Vec3d delta = static_cast<Vec3d>(b - a);
    const double length = tk::length(delta);
    const Vec3d d{delta.x / length, delta.y / length, delta.z / length};
    Quadric out;
    for (int i = 0; i < 3; ++i)
        for (int j = i; j < 3; ++j) out(i, j) = (i == j ? 1.0f : 0.0f) - static_cast<float>(d[i] * d[j]);
    Vec3f image;  // of a under the projection onto the plane across the line
    for (int i = 0; i < 3; ++i) image[i] = dot_tail_first({out(i, 0), out(i, 1), out(i, 2)}, a);
    for (int i = 0; i < 3; ++i) out(i, 3) = -image[i];
    out(3, 3) = dot_tail_first(image, a);
    return out;
}

// The squared distance to `point`.
TK_INLINE Quadric point_quadric(const Vec3f& point) {
    Quadric out;
    for (int i = 0; i < 3; ++i) {
        out(i, i) = 1;
        out(i, 3) = -point[i];
    }
    out(3, 3) = dot_tail_first(point, point);
    return out;
}

namespace detail {

// Orthogonal triangularisation with column pivoting: Businger and Golub, "Linear least squares solutions by
// Householder transformations", Numerische Mathematik 7 (1965). Columns that vanish in float32 get a zero in the
// solution.
template <int N>
class PivotedQr {
public:
    explicit TK_BOTH PivotedQr(const float (&matrix)[N][N]) {
        float norms[N], reference[N], largest = 0;
        for (int j = 0; j < N; ++j) {
            for (int i = 0; i < N; ++i) a_[i][j] = matrix[i][j];
            float squares = a_[N - 1][j] * a_[N - 1][j];
            for (int i = N - 2; i >= 0; --i) squares = a_[i][j] * a_[i][j] + squares;
            norms[j] = reference[j] = std::sqrt(squares);
            largest = greater(largest, norms[j]);
            order_[j] = j;
        }
        const float vanishing = (largest * FLT_EPSILON) * (largest * FLT_EPSILON) / N;
        for (int k = 0; k < N; ++k) {
            int pivot = k;
            for (int j = k + 1; j < N; ++j)
                if (norms[j] > norms[pivot]) pivot = j;
            if (rank_ == N && norms[pivot] * norms[pivot] < vanishing * (N - k)) rank_ = k;
            if (pivot != k) {
                for (int i = 0; i < N; ++i) exchange(a_[i][k], a_[i][pivot]);
                exchange(norms[k], norms[pivot]);
                exchange(reference[k], reference[pivot]);
                exchange(order_[k], order_[pivot]);
            }
            make_reflection(k);
            for (int j = k + 1; j < N; ++j) {
                float column[N];
                for (int i = k; i < N; ++i) column[i] = a_[i][j];
                reflect(k, column);
                for (int i = k; i < N; ++i) a_[i][j] = column[i];
                downdate(k, j, norms, reference);
            }
        }
    }

    TK_BOTH void solve(float (&b)[N]) const {
        for (int k = 0; k < rank_; ++k) reflect(k, b);
        for (int k = rank_ - 1; k >= 0; --k) {
            if (b[k] == 0) continue;
            b[k] /= a_[k][k];
            for (int i = 0; i < k; ++i) b[i] -= b[k] * a_[i][k];
        }
        float x[N];
        for (int k = 0; k < N; ++k) x[order_[k]] = k < rank_ ? b[k] : 0;
        for (int k = 0; k < N; ++k) b[k] = x[k];
    }

private:
    // Reflection k maps column k, from row k down, to a multiple of the first unit vector. Its vector, scaled to
    // begin with 1, is kept below the diagonal.
    TK_BOTH void make_reflection(int k) {
        float below = 0;
        for (int i = k + 1; i < N; ++i) below += a_[i][k] * a_[i][k];
        const float head = a_[k][k];
        if (below <= FLT_MIN) {
            scale_[k] = 0;
            for (int i = k + 1; i < N; ++i) a_[i][k] = 0;
            return;
        }
        float image = std::sqrt(head * head + below);
        if (head >= 0) image = -image;
        for (int i = k + 1; i < N; ++i) a_[i][k] /= head - image;
        scale_[k] = (image - head) / image;
        a_[k][k] = image;
    }

    TK_BOTH void reflect(int k, float (&x)[N]) const {
        if (k == N - 1) {
            x[k] *= 1 - scale_[k];
            return;
        }
        if (scale_[k] == 0) return;
        float along = a_[k + 1][k] * x[k + 1];
        for (int i = k + 2; i < N; ++i) along += a_[i][k] * x[i];
        along += x[k];
        x[k] -= scale_[k] * along;
        for (int i = k + 1; i < N; ++i) x[i] -= (scale_[k] * a_[i][k]) * along;
    }

    // The norm of column j below row k, updated by the rule of LAPACK Working Note 176 (Drmac and Bujanovic,
    // 2008), and computed afresh when the update would lose its digits.
    TK_BOTH void downdate(int k, int j, float* norms, float* reference) const {
        if (norms[j] == 0) return;
        float ratio = std::abs(a_[k][j]) / norms[j];
        ratio = (1 + ratio) * (1 - ratio);
        ratio = ratio < 0 ? 0 : ratio;
        const float drift = norms[j] / reference[j];
        if (ratio * (drift * drift) > std::sqrt(FLT_EPSILON)) {
            norms[j] *= std::sqrt(ratio);
            return;
        }
        float squares = 0;
        for (int i = k + 1; i < N; ++i) squares += a_[i][j] * a_[i][j];
        norms[j] = reference[j] = std::sqrt(squares);
    }

    float a_[N][N], scale_[N];
    int order_[N];
    int rank_ = N;
};

class Search {
public:
    TK_BOTH Search(const Quadric& q, const Vec3f& low, const Vec3f& high, const Vec3f& otherwise)
        : q_(q), bounds_{low, high}, best_(otherwise) {}

    TK_BOTH Vec3f run() {
        float b[3] = {-q_(0, 3), -q_(1, 3), -q_(2, 3)};
        PivotedQr<3>({{q_(0, 0), q_(0, 1), q_(0, 2)}, {q_(1, 0), q_(1, 1), q_(1, 2)}, {q_(2, 0), q_(2, 1), q_(2, 2)}}).solve(b);
        if (within(0, b[0]) && within(1, b[1]) && within(2, b[2])) return {b[0], b[1], b[2]};
        faces_across<0>();
        faces_across<1>();
        faces_across<2>();
        edges_along<0>();
        edges_along<1>();
        edges_along<2>();
        corners();
        return best_;
    }

private:
    TK_BOTH bool within(int axis, float x) const { return x >= bounds_[0][axis] && x <= bounds_[1][axis]; }

    TK_BOTH void offer(const Vec3f& p) {
        const float error = q_.error(p);
        if (error < least_) {
            least_ = error;
            best_ = p;
        }
    }

    // The axis is a template parameter so that a device keeps Q in registers.
    template <int axis>
    TK_BOTH void faces_across() {
        constexpr int u = (axis + 1) % 3, v = (axis + 2) % 3;
        const PivotedQr<2> qr({{q_(u, u), q_(u, v)}, {q_(v, u), q_(v, v)}});
        for (const Vec3f& bound : bounds_) {
            const float at = bound[axis];
            float x[2] = {-q_(u, axis) * at + -q_(u, 3), -q_(v, axis) * at + -q_(v, 3)};
            qr.solve(x);
            if (!within(u, x[0]) || !within(v, x[1])) continue;
            Vec3f p;
            p[axis] = at;
            p[u] = x[0];
            p[v] = x[1];
            offer(p);
        }
    }

    template <int axis>
    TK_BOTH void edges_along() {
        constexpr int u = (axis + 1) % 3, v = (axis + 2) % 3;
        for (const Vec3f& bound_u : bounds_)
            for (const Vec3f& bound_v : bounds_) {
                Vec3f p;
                p[u] = bound_u[u];
                p[v] = bound_v[v];
                p[axis] = -dot_tail_first({q_(axis, u), q_(axis, v), q_(axis, 3)}, {p[u], p[v], 1}) / q_(axis, axis);
                if (within(axis, p[axis])) offer(p);
            }
    }

    // Of corners that tie the one with the upper bounds wins.
    TK_BOTH void corners() {
        for (int sides = 7; sides >= 0; --sides)
            offer({bounds_[sides >> 2 & 1].x, bounds_[sides >> 1 & 1].y, bounds_[sides & 1].z});
    }

    const Quadric& q_;
    const Vec3f bounds_[2];
    float least_ = INFINITY;
    Vec3f best_;
};

}  // namespace detail

// The point of the box with the least error. Tries the minimum over all space, then, if that lies outside, those
// on the planes of the faces, on the lines of the edges and at the corners, as far as they belong to the box. Where
// Q overflows float32 (triangles 1e19 boxes in size) the answer is `otherwise`.
TK_BOTH inline Vec3f minimum_in_box(const Quadric& q, const Vec3f& low, const Vec3f& high, const Vec3f& otherwise) {
    return detail::Search(q, low, high, otherwise).run();
}

}  // namespace tk::voxel
