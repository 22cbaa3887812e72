// Quadratic error functions of planes, lines and points, and their minimum inside a voxel.
//
// All of it is float32, and the order of the operations is part of the definition. On flat parts of a surface
// these systems are close to singular, so float32 rounding shows in the result; the models were trained on grids
// with that very rounding.
#pragma once

#include "lattice.hpp"

namespace tk::voxel {

// (p, 1)' Q (p, 1) for a symmetric 4 x 4 matrix Q, whose upper triangle is held row by row: a sum of weighted
// squared distances. Padded to whole vector registers.
struct Quadric {
    float q[12] = {};

    static constexpr int at(int i, int j) { return i <= j ? i * (7 - i) / 2 + j : at(j, i); }
    float operator()(int i, int j) const { return q[at(i, j)]; }
    float& operator()(int i, int j) { return q[at(i, j)]; }
    Quadric& operator+=(const Quadric& o) {
        for (int k = 0; k < 12; ++k) q[k] += o.q[k];
        return *this;
    }
    Quadric operator*(float w) const {
        Quadric out;
        for (int k = 0; k < 12; ++k) out.q[k] = w * q[k];
        return out;
    }
    float error(const Vec3f& p) const;
};

// The squared distance to the plane through `point` with unit normal n.
Quadric plane_quadric(const Vec3f& n, const Vec3f& point);
// The squared distance to the line from a to b, which differ.
Quadric line_quadric(const Vec3f& a, const Vec3f& b);
// The squared distance to `point`.
Quadric point_quadric(const Vec3f& point);

// The point of the box with the least error. Tries the minimum over all space, then, if that lies outside, those
// on the planes of the faces, on the lines of the edges and at the corners, as far as they belong to the box. Where
// Q overflows float32 (triangles 1e19 boxes in size) the answer is `otherwise`.
Vec3f minimum_in_box(const Quadric& q, const Vec3f& low, const Vec3f& high, const Vec3f& otherwise);

}  // namespace tk::voxel
