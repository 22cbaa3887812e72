// Which voxels a triangle overlaps. For host and device.
//
// Schwarz and Seidel, "Fast parallel surface and solid voxelization on GPUs", SIGGRAPH Asia 2010, section 4: a
// box and a triangle overlap when the triangle's plane cuts the box and their projections along the three axes
// overlap, each a test against linear functions of the box's lower corner.
#pragma once

#include <cmath>

#include "lattice.hpp"

namespace tk::voxel {

// The unit normal in float32; zero when the triangle has no area that float32 can hold, so that its plane
// weighs nothing.
TK_INLINE Vec3f unit_normal(const Triangle& t) {
    const Vec3f n = cross(t.v[1] - t.v[0], t.v[2] - t.v[1]);
    const float squared = dot_tail_first(n, n);
    if (!(squared > 0)) return {0, 0, 0};
    if (std::isfinite(squared)) {
        const float length = std::sqrt(squared);
        return {n.x / length, n.y / length, n.z / length};
    }
    const Vec3d a = static_cast<Vec3d>(t.v[0]), b = static_cast<Vec3d>(t.v[1]), c = static_cast<Vec3d>(t.v[2]);
    return static_cast<Vec3f>(normalized(cross(b - a, c - b)));
}

class OverlapTest {
public:
    TK_INLINE OverlapTest(const Triangle& t, const Vec3f& normal, const Lattice& lattice) : normal_(normal), lattice_(lattice) {
        const Vec3f& cell = lattice.cell;
        Vec3f far, near;
        for (int a = 0; a < 3; ++a) {
            const float c = normal[a] > 0 ? cell[a] : 0.0f;
            far[a] = c - t.v[0][a];
            near[a] = (cell[a] - c) - t.v[0][a];
        }
        plane_[0] = dot_tail_first(normal, far);
        plane_[1] = dot_tail_first(normal, near);
        for (int p = 0; p < 3; ++p) {
            const int a = p, b = (p + 1) % 3, c = (p + 2) % 3;
            const float sign = normal[c] < 0 ? -1.0f : 1.0f;
            for (int k = 0; k < 3; ++k) {
                const Vec3f edge = t.v[(k + 1) % 3] - t.v[k];
                Side& side = sides_[p][k];
                side.a = -sign * edge[b];
                side.b = sign * edge[a];
                side.offset = -(side.a * t.v[k][a] + side.b * t.v[k][b]) +
                              (greater(side.a, 0.0f) * cell[a] + greater(side.b, 0.0f) * cell[b]);
            }
        }
    }

    // Calls visit(x, y, z) for each voxel of `box` for which wanted(x, y, z) holds and that the triangle overlaps.
    template <class Wanted, class Visit>
    TK_INLINE void for_each(const CellBox& box, Wanted&& wanted, Visit&& visit) const {
        for (int x = box.low.x; x < box.high.x; ++x) {
            const float px = lattice_.plane(0, x);
            for (int y = box.low.y; y < box.high.y; ++y) {
                const float py = lattice_.plane(1, y);
                if (outside(sides_[0], px, py)) continue;
                for (int z = box.low.z; z < box.high.z; ++z) {
                    if (!wanted(x, y, z)) continue;
                    const float pz = lattice_.plane(2, z);
                    const float height = dot_tail_first(normal_, {px, py, pz});
                    if ((height + plane_[0]) * (height + plane_[1]) > 0) continue;
                    if (outside(sides_[1], py, pz) || outside(sides_[2], pz, px)) continue;
                    visit(x, y, z);
                }
            }
        }
    }

private:
    struct Side {
        float a, b, offset;
    };
    static TK_INLINE bool outside(const Side (&sides)[3], float a, float b) {
        for (const Side& s : sides)
            if ((s.a * a + s.b * b) + s.offset < 0) return true;
        return false;
    }

    Vec3f normal_;
    const Lattice& lattice_;
    float plane_[2];
    Side sides_[3][3];
};

// The voxels of the grid that meet the triangle's bounding box.
TK_INLINE CellBox bounding_cells(const Triangle& t, const Lattice& lattice) {
    CellBox box;
    for (int a = 0; a < 3; ++a) {
        const float low = lesser(t.v[0][a], t.v[1][a], t.v[2][a]) / lattice.cell[a];
        const float high = greater(t.v[0][a], t.v[1][a], t.v[2][a]) / lattice.cell[a] + 1;
        const float size = static_cast<float>(lattice.size[a]);
        box.low[a] = static_cast<int>(clamped(low, 0.0f, size));
        box.high[a] = static_cast<int>(clamped(high, 0.0f, size));
    }
    return box;
}

}  // namespace tk::voxel
