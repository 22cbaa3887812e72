// Quads of the new surface, how they are cut into triangles, and when a triangle has moved too far; for host and device.
#pragma once

#include <cmath>
#include <cstdint>

#include "triangle.hpp"

namespace tk::mesh {

struct Quad {
    int32_t vertex[4];  // counter-clockwise from outside
    int32_t middle[4];  // a vertex between vertex[k] and the next, or -1
};

TK_BOTH inline Vec3d normal(const Vec3d& a, const Vec3d& b, const Vec3d& c) { return cross3(sub(b, a), sub(c, a)); }

// Cosine of the angle between two directions; 1 where one of them is none, as such a triangle turns nothing over.
TK_BOTH inline double cosine(const Vec3d& a, const Vec3d& b) {
    const double lengths = sqrt(dot3(a, a) * dot3(b, b));
    return lengths > 0 ? dot3(a, b) / lengths : 1;
}

// Whether the diagonal from corner 1 to corner 3 bends the quad less than the one from 0 to 2; where both bend it
// the same, whether it is the shorter one.
TK_BOTH inline bool cut_other_way(const Vec3d& a, const Vec3d& b, const Vec3d& c, const Vec3d& d) {
    const double bend_ac = cosine(normal(a, b, c), normal(a, c, d)), bend_bd = cosine(normal(a, b, d), normal(b, c, d));
    if (fabs(bend_ac - bend_bd) > 1e-6) return bend_bd > bend_ac;
    const Vec3d ac = sub(c, a), bd = sub(d, b);
    return dot3(bd, bd) < dot3(ac, ac);
}

TK_BOTH inline int triangles_of(const Quad& quad) {
    int count = 2;
    for (int k = 0; k < 4; ++k) count += quad.middle[k] >= 0;
    return count;
}

// Writes the quad's triangles, three numbers each, for vertices at the places `at`.
TK_BOTH inline void cut_quad(const Quad& quad, const Vec3d* at, int32_t* out) {
    int32_t ring[8];
    int n = 0, first = -1;
    for (int k = 0; k < 4; ++k) {
        ring[n++] = quad.vertex[k];
        if (quad.middle[k] < 0) continue;
        if (first < 0) first = n;
        ring[n++] = quad.middle[k];
    }
    // A fan; from a middle vertex where there is one, since no triangle may have three corners in a line.
    if (first < 0) first = cut_other_way(at[ring[0]], at[ring[1]], at[ring[2]], at[ring[3]]) ? 1 : 0;
    for (int k = 1; k + 1 < n; ++k) {
        *out++ = ring[first];
        *out++ = ring[(first + k) % n];
        *out++ = ring[(first + k + 1) % n];
    }
}

// Where the nearest point jumps from one part of the mesh to another, triangles can turn over on the way. Their corners
// go only half as far, then a quarter, and after so many halvings stay.
constexpr int halvings = 4;

TK_BOTH inline bool turns_over(const Vec3d* from, const Vec3d* at, const int32_t* c) {
    constexpr double least_cosine = 0.1;
    return !(cosine(normal(at[c[0]], at[c[1]], at[c[2]]), normal(from[c[0]], from[c[1]], from[c[2]])) >= least_cosine);
}

}  // namespace tk::mesh
