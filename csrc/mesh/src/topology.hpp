// Who touches whom in a triangle list: corners around vertices, faces around edges, disjoint sets.
//
// A half-edge h = 3 * face + i runs from corner i to corner i + 1 of its face. Faces that name a vertex
// twice have no area and no place in a surface: they are left out of everything here.
#pragma once

#include <cstdint>
#include <vector>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/vec.hpp"

namespace tk::mesh {

TK_BOTH inline int next_corner(int i) { return i == 2 ? 0 : i + 1; }
TK_BOTH inline int prev_corner(int i) { return i == 0 ? 2 : i - 1; }
TK_BOTH inline int32_t half_from(const int32_t* faces, int32_t h) { return faces[h]; }
TK_BOTH inline int32_t half_to(const int32_t* faces, int32_t h) { return faces[h - h % 3 + next_corner(h % 3)]; }
TK_BOTH inline bool is_proper(const int32_t* face) { return face[0] != face[1] && face[1] != face[2] && face[2] != face[0]; }

// Half-edges and corners are numbered in 32 bits.
inline void require_indexable(int64_t num_faces, int64_t num_vertices) {
    require(num_faces >= 0 && num_faces <= INT32_MAX / 3,
            format("num_faces: expected 0 to %d, got %lld", INT32_MAX / 3, static_cast<long long>(num_faces)));
    require(num_vertices >= 0 && num_vertices <= INT32_MAX,
            format("num_vertices: expected 0 to %d, got %lld", INT32_MAX, static_cast<long long>(num_vertices)));
}

// Items grouped by owner: those of owner i are items[first[i]] .. items[first[i + 1] - 1].
struct Groups {
    std::vector<int32_t> first, items;
    int32_t size(int64_t i) const { return first[i + 1] - first[i]; }
    const int32_t* begin(int64_t i) const { return items.data() + first[i]; }
    const int32_t* end(int64_t i) const { return items.data() + first[i + 1]; }
};

// The corners 3 * face + i at each vertex, ascending. With `proper_only`, not those of improper faces.
Groups corners_of_vertices(const int32_t* faces, int64_t num_faces, int64_t num_vertices, bool proper_only);

// The undirected edges, sorted by (smaller, larger) vertex, each with its half-edges in ascending order.
struct EdgeTable {
    std::vector<int32_t> low, high;  // vertices of edge e
    Groups halves;                   // half-edges of edge e
    std::vector<int32_t> edge_of;    // edge of half-edge h, -1 in improper faces
    int64_t count() const { return static_cast<int64_t>(low.size()); }
    int32_t num_faces(int64_t e) const { return halves.size(e); }
};

EdgeTable build_edges(const int32_t* faces, int64_t num_faces, int64_t num_vertices);

// Disjoint sets whose representative is their smallest member, whatever the order of the unions; safe to
// call from many threads (Anderson and Woll, "Wait-free parallel algorithms for the union-find problem").
class DisjointSets {
public:
    explicit DisjointSets(int64_t n);
    int32_t find(int32_t i);
    void unite(int32_t a, int32_t b);
    // Representatives get labels 0, 1, ... in ascending order; returns their number.
    int64_t label(int32_t* labels);

private:
    std::vector<int32_t> parent_;
};

// Joins the corners of neighbouring faces that meet across an edge of exactly two faces. Each set is then one
// fan of faces around a vertex; a vertex with several fans is where the surface touches itself.
DisjointSets fans_of_corners(const int32_t* faces, int64_t num_faces, const EdgeTable& edges);

}  // namespace tk::mesh
