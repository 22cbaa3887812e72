// Makes every edge an edge of at most two faces by giving each fan of faces around a vertex a vertex of its
// own (the "cutting" of Gueziec et al., "Cutting and stitching: converting sets of polygons to manifold
// surfaces", 2001). At a vertex the faces form paths and cycles across its edges of exactly two faces; cut
// there, no three faces can share both ends of an edge any more.
#include "topology.hpp"
#include "trellis/sort.hpp"
#include "trellis_mesh.h"

TK_API int tk_mesh_split_fans(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* split_faces,
                              int64_t* num_added, void*, int64_t*, int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        const tk::mesh::EdgeTable edges = tk::mesh::build_edges(faces, num_faces, num_vertices);
        tk::mesh::DisjointSets fans = tk::mesh::fans_of_corners(faces, num_faces, edges);
        const int64_t corners = 3 * num_faces;
        // The first fan of a vertex, that of its smallest corner, keeps the vertex; the rest get new ones.
        std::vector<int32_t> keeper(static_cast<size_t>(num_vertices), -1);
        std::vector<int32_t> added(static_cast<size_t>(corners), 0);
        for (int64_t f = 0; f < num_faces; ++f) {
            if (!tk::mesh::is_proper(faces + 3 * f)) continue;
            for (int64_t c = 3 * f; c < 3 * f + 3; ++c)
                if (keeper[faces[c]] < 0) keeper[faces[c]] = static_cast<int32_t>(c);
        }
        const auto is_new = [&](int64_t c) {
            return tk::mesh::is_proper(faces + (c - c % 3)) && fans.find(static_cast<int32_t>(c)) == c && keeper[faces[c]] != c;
        };
        tk::parallel_for(corners, 1 << 14, [&](int64_t c) { added[c] = is_new(c); });
        const int64_t count = tk::exclusive_scan(added.data(), corners);
        tk::require(num_vertices + count <= INT32_MAX, "faces: the split mesh has more vertices than 32 bits can number");
        tk::parallel_for(corners, 1 << 14, [&](int64_t c) {
            const int32_t root = fans.find(static_cast<int32_t>(c));
            split_faces[c] = is_new(root) ? static_cast<int32_t>(num_vertices + added[root]) : faces[c];
        });
        *num_added = count;
    });
}
