// The mesh as the unwrapping steps see it: welded points, half-edges glued in pairs, faces with their
// normals and areas. Flat arrays only, so that each step can run on a device later.
#pragma once

#include <cstdint>
#include <vector>

#include "trellis/vec.hpp"

namespace tk::uv {

enum FaceKind : uint8_t {
    regular = 0,
    thin = 1,      // has three distinct points, but is too thin for its shape to mean anything in a texture
    collapsed = 2  // two of its corners lie on one point: has no place in the surface's topology
};

// Half-edge h = 3 * face + k runs from corner k to corner k + 1 of its face.
inline int64_t next_half_edge(int64_t h) { return h % 3 == 2 ? h - 2 : h + 1; }

struct Surface {
    int64_t num_faces = 0;
    int64_t num_points = 0;
    std::vector<Vec3d> position;  // of each point; scaled so that the surface's area is 1 (unless it has none)
    std::vector<int32_t> point;   // [3F] welded point of each corner
    std::vector<int32_t> twin;    // [3F] the half-edge glued to this one, or -1 at a border
    std::vector<Vec3d> normal;    // [F] unit, or zero where the face has no direction
    std::vector<double> area;     // [F]
    std::vector<uint8_t> kind;    // [F] FaceKind
    bool has_area = false;
    bool has_collapsed = false;
};

// Vertices at bit-identical positions become one point. An edge is glued where two faces run along it in
// opposite directions; where more than two meet, the flattest pairs are glued and the rest stay borders.
Surface make_surface(const float* vertices, int64_t num_vertices, const int32_t* faces, int64_t num_faces);

}  // namespace tk::uv
