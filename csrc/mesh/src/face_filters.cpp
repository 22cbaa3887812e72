// Which faces to keep: without duplicates, without slivers of no area.
#include <algorithm>

#include "normals.hpp"
#include "topology.hpp"
#include "trellis_mesh.h"

namespace {

struct Sorted {
    int32_t a, b, c, face;
    bool operator<(const Sorted& o) const {
        if (b != o.b) return b < o.b;
        if (c != o.c) return c < o.c;
        return face < o.face;
    }
};

Sorted sorted_face(const int32_t* f, int32_t id) {
    const int32_t low = std::min({f[0], f[1], f[2]}), high = std::max({f[0], f[1], f[2]});
    // The sum of three indices needs 33 bits.
    const int64_t middle = int64_t{f[0]} + f[1] + f[2] - low - high;
    return {low, static_cast<int32_t>(middle), high, id};
}

}  // namespace

TK_API int tk_mesh_unique_faces(const int32_t* faces, int64_t num_faces, int64_t num_vertices, uint8_t* keep, void*, int64_t*,
                                int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        // Faces are dealt to their smallest vertex, and each vertex compares its few.
        std::vector<int32_t> first(static_cast<size_t>(num_vertices) + 1, 0);
        for (int64_t f = 0; f < num_faces; ++f) ++first[std::min({faces[3 * f], faces[3 * f + 1], faces[3 * f + 2]})];
        int32_t running = 0;
        for (int32_t& n : first) {
            const int32_t count = n;
            n = running;
            running += count;
        }
        std::vector<Sorted> entries(static_cast<size_t>(num_faces));
        {
            std::vector<int32_t> cursor(first.begin(), first.end() - 1);
            for (int64_t f = 0; f < num_faces; ++f) {
                const Sorted s = sorted_face(faces + 3 * f, static_cast<int32_t>(f));
                entries[cursor[s.a]++] = s;
            }
        }
        tk::parallel_for(num_vertices, 1 << 13, [&](int64_t v) {
            Sorted *begin = entries.data() + first[v], *end = entries.data() + first[v + 1];
            std::sort(begin, end);
            for (const Sorted* e = begin; e < end; ++e) keep[e->face] = e == begin || e->b != e[-1].b || e->c != e[-1].c;
        });
    });
}

TK_API int tk_mesh_proper_faces(const float* vertices, const int32_t* faces, int64_t num_faces, double absolute, double relative,
                                uint8_t* keep, int, void*) {
    return tk::guarded([&] {
        tk::parallel_for(num_faces, 1 << 13, [&](int64_t f) {
            keep[f] = tk::mesh::has_area(vertices, faces + 3 * f, absolute, relative);
        });
    });
}
