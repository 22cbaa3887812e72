// Vertices at exactly the same place.
#include <algorithm>

#include "point_hash.hpp"
#include "topology.hpp"
#include "trellis/sort.hpp"
#include "trellis_mesh.h"

using tk::mesh::PointBits;
using tk::mesh::point_bits;

TK_API int tk_mesh_weld_vertices(const float* vertices, int64_t num_vertices, int32_t* representative, void*, int64_t*, int,
                                 void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(0, num_vertices);
        const size_t n = static_cast<size_t>(num_vertices);
        const auto hash = [](const float* p) {
            const PointBits b = point_bits(p);
            return tk::mesh::hash_triple(b.x, b.y, b.z);
        };
        std::vector<uint64_t> keys(n);
        std::vector<int32_t> order(n);
        tk::parallel_for(num_vertices, 1 << 14, [&](int64_t i) {
            // 33 bits of hash: three sorting passes; the comparison below is exact.
            keys[i] = hash(vertices + 3 * i) >> 31;
            order[i] = static_cast<int32_t>(i);
        });
        tk::stable_sort_by_key(keys, order);
        const std::vector<int64_t> runs = tk::run_starts(keys);
        tk::parallel_for(static_cast<int64_t>(runs.size()) - 1, 1 << 13, [&](int64_t r) {
            // A run holds the copies of one place and, rarely, of another with the same hash: sort it to keep a
            // run of very many cheap. Ties in the order of the index, so that the smallest leads.
            int32_t *begin = order.data() + runs[r], *end = order.data() + runs[r + 1];
            const auto less = [&](int32_t i, int32_t j) {
                const PointBits a = point_bits(vertices + 3 * int64_t{i}), b = point_bits(vertices + 3 * int64_t{j});
                if (a.x != b.x) return a.x < b.x;
                if (a.y != b.y) return a.y < b.y;
                if (a.z != b.z) return a.z < b.z;
                return i < j;
            };
            if (end - begin > 1) std::sort(begin, end, less);
            int32_t leader = -1;
            for (int32_t* i = begin; i < end; ++i) {
                const float* p = vertices + 3 * int64_t{*i};
                const bool number = p[0] == p[0] && p[1] == p[1] && p[2] == p[2];
                const bool same = leader >= 0 && number && point_bits(p) == point_bits(vertices + 3 * int64_t{leader});
                if (!same) leader = *i;
                representative[*i] = leader;
            }
        });
    });
}
