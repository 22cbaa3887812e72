// The surface between inside and outside corners of a field, and its way back to the mesh.
#pragma once

#include <cstdint>
#include <vector>

#include "remesh_field.hpp"
#include "remesh_quads.hpp"

namespace tk::mesh {

struct DualSurface {
    std::vector<Vec3d> vertices;
    std::vector<Quad> quads;
};

// Dual contouring: a vertex for each piece of surface in a cell, at the mean of that piece's crossings with the
// cell's edges, and a quad for each crossed edge of the grid. Closed, manifold, and facing outward.
DualSurface extract_surface(const Field& field);

// Moves each vertex by the share `project` of its way to the closest point of the mesh, less where that would turn
// a triangle over, and cuts quads into triangles along the flatter diagonal.
struct Triangles {
    std::vector<int32_t> corners;  // three vertex numbers each
    int64_t held_back = 0;         // vertices that went less than that share
};
Triangles project_and_cut(const BvhView& tree, double project, DualSurface& surface);

}  // namespace tk::mesh
