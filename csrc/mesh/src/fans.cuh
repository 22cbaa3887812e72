// Fans of faces around vertices, on the device (fans_of_corners of topology.hpp).
#pragma once

#include "disjoint_sets.cuh"
#include "half_edges.cuh"

namespace tk::mesh {

__device__ inline int32_t next_in_face(int32_t corner) { return corner % 3 == 2 ? corner - 2 : corner + 1; }

// Where the edge that starts at i has exactly two faces: joins their corners at each of its ends.
__device__ inline void join_fans(const HalfEdges::View& halves, const int32_t* faces, int64_t i, int32_t* parent) {
    if (!halves.starts(i) || !halves.is_edge(i) || !halves.joins_two(i)) return;
    const int32_t g = halves.half[i], h = halves.half[i + 1], g2 = next_in_face(g), h2 = next_in_face(h);
    const bool same_direction = faces[g] == faces[h];
    unite<SmallestFirst>(parent, g, same_direction ? h : h2);
    unite<SmallestFirst>(parent, g2, same_direction ? h2 : h);
}

}  // namespace tk::mesh
