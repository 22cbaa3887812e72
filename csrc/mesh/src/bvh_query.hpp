// Queries on the tree of bvh.hpp for other CPU code of this extension.
#pragma once

#include <vector>

#include "bvh.hpp"

namespace tk::mesh {

struct Closest {
    float distance;  // the limit where no face is within it
    int32_t face;    // no_face where none is
    int64_t slot;    // leaf * 8 + lane; -1 where none is
};

// The face closest to `point` among those within `limit` (may be infinite): of all faces whose distance,
// rounded to float, is least, the one of smallest number. What is returned does not depend on `seed`, a slot
// that is likely to be close (-1 for none), but a good one saves most of the work.
Closest closest(const BvhView& tree, const Vec3f& point, float limit, int64_t seed);

// Corners of the face in `slot`, relative to `point`.
inline void slot_corners(const BvhView& tree, int64_t slot, const Vec3f& point, Vec3d (&corner)[3]) {
    const float* leaf = tree.leaves + slot / bvh_width * bvh_leaf_floats + slot % bvh_width;
    for (int k = 0; k < 3; ++k)
        for (int i = 0; i < 3; ++i)
            corner[k][i] = static_cast<double>(leaf[(k * 3 + i) * bvh_width]) - static_cast<double>(point[i]);
}

// Numbers of the points along a space-filling curve, so that consecutive queries walk the same branches.
// Points that are not finite come last.
std::vector<int32_t> coherent_order(const float* points, int64_t num_points);

}  // namespace tk::mesh
