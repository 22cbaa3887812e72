// Triangulation of one closed polygon in space, without new vertices.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "trellis/vec.hpp"

namespace tk::mesh {

using Triangle = std::array<int32_t, 3>;

// Triangles of polygon `points` (numbers into it, wound like it) that use no diagonal for which
// `forbidden(i, j)` holds; empty when the search found none.
std::vector<Triangle> triangulate_polygon(const std::vector<Vec3d>& points, const std::function<bool(int32_t, int32_t)>& forbidden);

}  // namespace tk::mesh
