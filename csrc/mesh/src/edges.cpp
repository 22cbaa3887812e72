// Edges, boundary edges and edge-connected components of a triangle list.
#include <memory>

#include "topology.hpp"
#include "trellis/sort.hpp"
#include "trellis_mesh.h"

namespace {

struct EdgeList {
    std::vector<int32_t> pairs;
};

}  // namespace

TK_API int tk_mesh_edges_begin(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int boundary_only, void** state,
                               int64_t* num_edges, void*, int64_t*, int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        const tk::mesh::EdgeTable table = tk::mesh::build_edges(faces, num_faces, num_vertices);
        auto list = std::make_unique<EdgeList>();
        std::vector<int32_t> slot(static_cast<size_t>(table.count()) + 1, 0);
        const auto wanted = [&](int64_t e) { return !boundary_only || table.num_faces(e) == 1; };
        tk::parallel_for(table.count(), 1 << 14, [&](int64_t e) { slot[e] = wanted(e); });
        const int64_t n = tk::exclusive_scan(slot.data(), table.count() + 1);
        list->pairs.resize(static_cast<size_t>(n) * 2);
        tk::parallel_for(table.count(), 1 << 14, [&](int64_t e) {
            if (!wanted(e)) return;
            list->pairs[2 * int64_t{slot[e]}] = table.low[e];
            list->pairs[2 * int64_t{slot[e]} + 1] = table.high[e];
        });
        *num_edges = n;
        *state = list.release();
    });
}

TK_API int tk_mesh_edges_fill(void* state, int32_t* edges, int, void*) {
    return tk::guarded([&] {
        const auto& pairs = static_cast<EdgeList*>(state)->pairs;
        std::copy(pairs.begin(), pairs.end(), edges);
    });
}

TK_API int tk_mesh_edges_end(void* state) {
    return tk::guarded([&] { delete static_cast<EdgeList*>(state); });
}

TK_API int tk_mesh_connected_components(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* labels,
                                        int64_t* count, void*, int64_t*, int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        const tk::mesh::EdgeTable table = tk::mesh::build_edges(faces, num_faces, num_vertices);
        tk::mesh::DisjointSets sets(num_faces);
        tk::parallel_for(table.count(), 1 << 14, [&](int64_t e) {
            const int32_t *half = table.halves.begin(e), *end = table.halves.end(e);
            for (const int32_t* other = half + 1; other < end; ++other) sets.unite(*half / 3, *other / 3);
        });
        *count = sets.label(labels);
    });
}
