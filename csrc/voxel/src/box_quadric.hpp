// Quadratic error functions of planes, lines and points, and their minimum inside a voxel.
#pragma once

#include "trellis/vec.hpp"

namespace tk::voxel {

// x' A x - 2 b' x, up to a constant: a sum of weighted squared distances. Positions are relative to the voxel's
// lower corner, so that the sums lose nothing to cancellation however fine the grid.
struct Quadric {
    double xx = 0, xy = 0, xz = 0, yy = 0, yz = 0, zz = 0;
    Vec3d b{0, 0, 0};

    Quadric& operator+=(const Quadric& o) {
        xx += o.xx; xy += o.xy; xz += o.xz;
        yy += o.yy; yz += o.yz; zz += o.zz;
        b += o.b;
        return *this;
    }
    double trace() const { return xx + yy + zz; }
    Vec3d times(const Vec3d& p) const {
        return {xx * p.x + xy * p.y + xz * p.z, xy * p.x + yy * p.y + yz * p.z, xz * p.x + yz * p.y + zz * p.z};
    }
    // Squared distance to the plane through `point` with unit normal n.
    static Quadric plane(const Vec3d& n, double offset) {
        return {n.x * n.x, n.x * n.y, n.x * n.z, n.y * n.y, n.y * n.z, n.z * n.z, n * offset};
    }
    // w times the squared distance to the line through `point` with unit direction d.
    static Quadric line(const Vec3d& d, const Vec3d& point, double w) {
        Quadric q{w * (1 - d.x * d.x), -w * d.x * d.y, -w * d.x * d.z,
                  w * (1 - d.y * d.y), -w * d.y * d.z, w * (1 - d.z * d.z), {0, 0, 0}};
        q.b = q.times(point);
        return q;
    }
    // w times the squared distance to `point`.
    static Quadric point(const Vec3d& p, double w) { return {w, 0, 0, w, 0, w, p * w}; }
};

// The minimum of q over the box [0, size]; q must be positive definite.
//
// The minimum of a convex function over a box lies inside, on a face, on an edge or at a corner, and it is the
// one point there at which the function falls only outwards (Karush, Kuhn and Tucker).
Vec3d minimum_in_box(const Quadric& q, const Vec3d& size);

}  // namespace tk::voxel
