// Stretch of one face of a textured mesh, for host and device: Sander, Snyder, Gortler and Hoppe, "Texture
// Mapping Progressive Meshes" (2001), section 3.
#pragma once

#include "trellis/vec.hpp"

namespace tk::uv {

struct FaceStretch {
    double largest, smallest;  // singular values of the map from texture to surface; infinite, 0 without texture area
    double surface_area;
    double texture_area;  // signed: negative when the face is turned over
};

template <class T>
TK_BOTH FaceStretch face_stretch(const T* a, const T* b, const T* c, const T* ta, const T* tb, const T* tc) {
    const Vec3d q1{a[0], a[1], a[2]}, q2{b[0], b[1], b[2]}, q3{c[0], c[1], c[2]};
    const double s1 = ta[0], t1 = ta[1], s2 = tb[0], t2 = tb[1], s3 = tc[0], t3 = tc[1];
    FaceStretch r;
    r.texture_area = 0.5 * ((s2 - s1) * (t3 - t1) - (s3 - s1) * (t2 - t1));
    r.surface_area = 0.5 * length(cross(q2 - q1, q3 - q1));
    if (r.texture_area == 0) {
        r.largest = r.surface_area > 0 ? INFINITY : 0;
        r.smallest = 0;
        return r;
    }
    const double inverse = 0.5 / r.texture_area;
    const Vec3d ss = (q1 * (t2 - t3) + q2 * (t3 - t1) + q3 * (t1 - t2)) * inverse;
    const Vec3d st = (q1 * (s3 - s2) + q2 * (s1 - s3) + q3 * (s2 - s1)) * inverse;
    const double p = dot(ss, ss), q = dot(ss, st), w = dot(st, st);
    const double root = std::sqrt((p - w) * (p - w) + 4 * q * q);
    r.largest = std::sqrt(0.5 * (p + w + root));
    const double low = 0.5 * (p + w - root);
    r.smallest = low > 0 ? std::sqrt(low) : 0;
    return r;
}

}  // namespace tk::uv
