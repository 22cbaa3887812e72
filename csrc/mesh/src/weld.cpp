// Vertices at exactly the same place.
#include <algorithm>
#include <cstring>

#include "topology.hpp"
#include "trellis/sort.hpp"
#include "trellis_mesh.h"

namespace {

struct Bits {
    uint32_t x, y, z;
    bool operator==(const Bits& o) const { return x == o.x && y == o.y && z == o.z; }
};

Bits bits_of(const float* p) {
    const float q[3] = {p[0] + 0.0f, p[1] + 0.0f, p[2] + 0.0f};  // -0 is the same place as 0
    Bits b;
    std::memcpy(&b, q, sizeof b);
    return b;
}

uint64_t hash_of(const Bits& b) {
    uint64_t h = (uint64_t{b.x} << 32 | b.y) * 0x9e3779b97f4a7c15ULL;
    h = (h ^ (h >> 29) ^ b.z) * 0xbf58476d1ce4e5b9ULL;
    return h ^ (h >> 32);
}

}  // namespace

TK_API int tk_mesh_weld_vertices(const float* vertices, int64_t num_vertices, int32_t* representative, int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(0, num_vertices);
        const size_t n = static_cast<size_t>(num_vertices);
        std::vector<uint64_t> keys(n);
        std::vector<int32_t> order(n);
        tk::parallel_for(num_vertices, 1 << 14, [&](int64_t i) {
            // 33 bits of hash: three sorting passes; the comparison below is exact.
            keys[i] = hash_of(bits_of(vertices + 3 * i)) >> 31;
            order[i] = static_cast<int32_t>(i);
        });
        tk::stable_sort_by_key(keys, order);
        const std::vector<int64_t> runs = tk::run_starts(keys);
        tk::parallel_for(static_cast<int64_t>(runs.size()) - 1, 1 << 13, [&](int64_t r) {
            // A run holds the copies of one place and, rarely, of another with the same hash: sort it to keep a
            // run of very many cheap. Ties in the order of the index, so that the smallest leads.
            int32_t *begin = order.data() + runs[r], *end = order.data() + runs[r + 1];
            const auto less = [&](int32_t i, int32_t j) {
                const Bits a = bits_of(vertices + 3 * int64_t{i}), b = bits_of(vertices + 3 * int64_t{j});
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
                const bool same = leader >= 0 && number && bits_of(p) == bits_of(vertices + 3 * int64_t{leader});
                if (!same) leader = *i;
                representative[*i] = leader;
            }
        });
    });
}
