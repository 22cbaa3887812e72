// Quadric error functions of a point (Garland and Heckbert, "Surface simplification using quadric error
// metrics", 1997): x' A x + 2 b' x + c, the weighted sum of squared distances to planes.
#pragma once

#include <algorithm>
#include <cmath>

#include "trellis/vec.hpp"

namespace tk::mesh {

struct Quadric {
    double xx = 0, xy = 0, xz = 0, yy = 0, yz = 0, zz = 0;  // A
    double bx = 0, by = 0, bz = 0, c = 0;
    double weight = 0;  // of the faces in it: their area

    TK_BOTH Quadric& operator+=(const Quadric& o) {
        xx += o.xx; xy += o.xy; xz += o.xz; yy += o.yy; yz += o.yz; zz += o.zz;
        bx += o.bx; by += o.by; bz += o.bz; c += o.c;
        weight += o.weight;
        return *this;
    }

    // Squared distance to the plane through `p` with unit normal `n`.
    TK_BOTH void add_plane(const Vec3d& n, const Vec3d& p, double w) {
        const double d = -dot(n, p);
        xx += w * n.x * n.x; xy += w * n.x * n.y; xz += w * n.x * n.z;
        yy += w * n.y * n.y; yz += w * n.y * n.z; zz += w * n.z * n.z;
        bx += w * d * n.x; by += w * d * n.y; bz += w * d * n.z;
        c += w * d * d;
    }

    // Squared distance to the point `p`.
    TK_BOTH void add_point(const Vec3d& p, double w) {
        xx += w; yy += w; zz += w;
        bx -= w * p.x; by -= w * p.y; bz -= w * p.z;
        c += w * dot(p, p);
    }

    TK_BOTH Vec3d half_gradient(const Vec3d& p) const {
        return {xx * p.x + xy * p.y + xz * p.z + bx, xy * p.x + yy * p.y + yz * p.z + by, xz * p.x + yz * p.y + zz * p.z + bz};
    }

    TK_BOTH double at(const Vec3d& p) const {
        const Vec3d g = half_gradient(p);
        const double value = dot(g, p) + bx * p.x + by * p.y + bz * p.z + c;
        return value > 0 ? value : 0;
    }

    // The point of least error, sought from `start`; false when A is too nearly singular to say.
    TK_BOTH bool minimum(const Vec3d& start, Vec3d& point) const {
        const double cxx = yy * zz - yz * yz, cxy = xz * yz - xy * zz, cxz = xy * yz - xz * yy;
        const double cyy = xx * zz - xz * xz, cyz = xy * xz - xx * yz, czz = xx * yy - xy * xy;
        const double determinant = xx * cxx + xy * cxy + xz * cxz;
        const double trace = xx + yy + zz;
        if (!(determinant > 1e-13 * trace * trace * trace)) return false;
        const Vec3d g = half_gradient(start);
        const double s = -1 / determinant;
        point = start + Vec3d{s * (cxx * g.x + cxy * g.y + cxz * g.z), s * (cxy * g.x + cyy * g.y + cyz * g.z),
                              s * (cxz * g.x + cyz * g.y + czz * g.z)};
        return true;
    }
};

}  // namespace tk::mesh
