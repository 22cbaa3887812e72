// Normals of faces and vertices, for host and device.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::mesh {

TK_BOTH inline Vec3d load_point(const float* vertices, int64_t i) {
    return {vertices[3 * i], vertices[3 * i + 1], vertices[3 * i + 2]};
}

// Twice the area times the normal, after the right-hand rule.
TK_BOTH inline Vec3d area_normal(const float* vertices, const int32_t* face) {
    const Vec3d a = load_point(vertices, face[0]);
    return cross(load_point(vertices, face[1]) - a, load_point(vertices, face[2]) - a);
}

// Whether a face has three vertices and an area of at least min(absolute, relative * longest edge squared).
TK_BOTH inline bool has_area(const float* vertices, const int32_t* face, double absolute, double relative) {
    if (face[0] == face[1] || face[1] == face[2] || face[2] == face[0]) return false;
    const Vec3d a = load_point(vertices, face[0]), b = load_point(vertices, face[1]), c = load_point(vertices, face[2]);
    const double ab = dot(b - a, b - a), bc = dot(c - b, c - b), ca = dot(a - c, a - c);
    const double longest = ab > bc ? (ab > ca ? ab : ca) : (bc > ca ? bc : ca);
    const double area = 0.5 * length(cross(b - a, c - a));
    const double limit = relative * longest < absolute ? relative * longest : absolute;
    return area > 0 && area >= limit && area - area == 0;  // the last: finite
}

// Zero for faces without area, and for those with coordinates that are not finite.
TK_BOTH inline void store_direction(const Vec3d& v, float* out) {
    const Vec3d n = normalized(v);
    const bool finite = n.x - n.x == 0 && n.y - n.y == 0 && n.z - n.z == 0;
    out[0] = finite ? static_cast<float>(n.x) : 0.0f;
    out[1] = finite ? static_cast<float>(n.y) : 0.0f;
    out[2] = finite ? static_cast<float>(n.z) : 0.0f;
}

// The part of a face's normal that one of its corners adds to a sum around the vertex: weighted by angle, zero where
// it is not finite.
TK_BOTH inline Vec3d angle_weighted(const float* vertices, const int32_t* face, int32_t i) {
    const Vec3d p = load_point(vertices, face[i]);
    const Vec3d u = load_point(vertices, face[(i + 1) % 3]) - p, w = load_point(vertices, face[(i + 2) % 3]) - p;
    const Vec3d n = normalized(area_normal(vertices, face)) * atan2(length(cross(u, w)), dot(u, w));
    const double s = n.x + n.y + n.z;
    return s - s == 0 ? n : Vec3d{0, 0, 0};
}

// The angle-weighted sum of unit face normals around a vertex (Thuermer and Wuethrich 1998), or the
// area-weighted one. Corners are visited in the order given, so the sum has the same bits every time.
TK_BOTH inline Vec3d vertex_normal(const float* vertices, const int32_t* faces, const int32_t* corners, int32_t count,
                                   bool by_angle) {
    Vec3d sum{0, 0, 0};
    for (int32_t k = 0; k < count; ++k) {
        const int32_t corner = corners[k], i = corner % 3;
        const int32_t* face = faces + (corner - i);
        const Vec3d n = by_angle ? angle_weighted(vertices, face, i) : area_normal(vertices, face);
        const double s = n.x + n.y + n.z;
        if (s - s == 0) sum += n;
    }
    return sum;
}

// Normals of the corners around one vertex: each is the angle-weighted sum over the corners whose faces turn away from
// its own by at most the crease angle. leaders names for each corner the first one that got the very same normal.
TK_BOTH inline void corner_normals(const float* vertices, const int32_t* faces, const int32_t* corners, int32_t count,
                                   double cos_crease, float* normals, int32_t* leaders) {
    for (int32_t k = 0; k < count; ++k) {
        const int32_t corner = corners[k];
        const Vec3d own = normalized(area_normal(vertices, faces + (corner - corner % 3)));
        Vec3d sum{0, 0, 0};
        for (int32_t j = 0; j < count; ++j) {
            const int32_t other = corners[j], i = other % 3;
            const int32_t* face = faces + (other - i);
            // A face without direction agrees with all, so that it never makes a crease of its own.
            const bool smooth = j == k || !(dot(own, normalized(area_normal(vertices, face))) < cos_crease);
            if (smooth || dot(own, own) == 0) sum += angle_weighted(vertices, face, i);
        }
        store_direction(sum, normals + 3 * corner);
        leaders[corner] = corner;
        for (int32_t j = 0; j < k; ++j) {
            const float *a = normals + 3 * corner, *b = normals + 3 * corners[j];
            if (a[0] == b[0] && a[1] == b[1] && a[2] == b[2]) {
                leaders[corner] = leaders[corners[j]];
                break;
            }
        }
    }
}

}  // namespace tk::mesh
