// The rim of a mesh: the faces around its boundary edges, and the chains that these make.
#include "rim.hpp"

#include <algorithm>

#include "trellis_mesh.h"

TK_API int tk_mesh_rim_faces(const int32_t* faces, int64_t num_faces, int64_t num_vertices, uint64_t* mark, uint8_t* touching, int,
                             void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        std::fill(mark, mark + num_vertices, 0);
        tk::parallel_for(num_faces, 1 << 13, tk::mesh::MarkFace{faces, mark});
        tk::parallel_for(num_faces, 1 << 13, tk::mesh::TouchFace{faces, mark, touching});
    });
}

TK_API int tk_mesh_rim_chains(const int32_t* faces, int64_t num_faces, int64_t num_vertices, const uint64_t* mark, int32_t* edges,
                              uint8_t* closed, int64_t* counts, void*, int64_t*, int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        const tk::mesh::EdgeTable table = tk::mesh::build_edges(faces, num_faces, num_vertices);
        tk::mesh::DisjointSets fans = tk::mesh::fans_of_corners(faces, num_faces, table);
        // The boundary edges that end in each fan, of which there are at most two: the first and the last.
        std::vector<int32_t> first(static_cast<size_t>(3 * num_faces), -1), last = first, fan;
        int32_t count = 0;
        for (int64_t e = 0; e < table.count(); ++e) {
            if (table.num_faces(e) != 1 || !mark[table.low[e]] || !mark[table.high[e]]) continue;
            edges[2 * int64_t{count}] = table.low[e];
            edges[2 * int64_t{count} + 1] = table.high[e];
            const int32_t h = *table.halves.begin(e);
            for (const int32_t corner : {h, h - h % 3 + tk::mesh::next_corner(h % 3)}) {
                fan.push_back(fans.find(corner));
                if (first[fan.back()] < 0) first[fan.back()] = count;
                last[fan.back()] = count;
            }
            ++count;
        }
        tk::mesh::DisjointSets chains(count);
        for (const int32_t f : fan) chains.unite(first[f], last[f]);
        std::vector<uint8_t> open(static_cast<size_t>(count), 0);
        for (size_t i = 0; i < fan.size(); ++i)
            if (first[fan[i]] == last[fan[i]]) open[chains.find(static_cast<int32_t>(i / 2))] = 1;
        counts[0] = count;
        counts[1] = 0;
        for (int32_t e = 0; e < count; ++e) counts[1] += closed[e] = !open[chains.find(e)];
    });
}
