// Building the tree of bvh.hpp on the CPU.
#include <algorithm>
#include <vector>

#include "bvh.hpp"
#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

constexpr int64_t refine_span = 32768;

struct Item {
    float centre[3];
    int32_t face;
};

// Cuts [begin, end) at multiples of the leaf size, at each step across the axis on which its centres spread
// most. Ties go by face number, so the result is one and the same whatever order comes in.
void split(Item* items, int64_t n) {
    if (n <= bvh_width) return;
    float low[3], high[3];
    for (int i = 0; i < 3; ++i) low[i] = high[i] = items[0].centre[i];
    for (int64_t k = 1; k < n; ++k)
        for (int i = 0; i < 3; ++i) {
            low[i] = std::min(low[i], items[k].centre[i]);
            high[i] = std::max(high[i], items[k].centre[i]);
        }
    int axis = 0;
    for (int i = 1; i < 3; ++i)
        if (high[i] - low[i] > high[axis] - low[axis]) axis = i;
    int64_t half = bvh_width;
    while (half * 2 < n) half *= 2;
    std::nth_element(items, items + half, items + n, [axis](const Item& a, const Item& b) {
        return a.centre[axis] != b.centre[axis] ? a.centre[axis] < b.centre[axis] : a.face < b.face;
    });
    split(items, half);
    split(items + half, n - half);
}

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_bvh_keys(const float* vertices, const int32_t* faces, int64_t num_faces, const float* bounds,
                            int64_t* keys, int, void*) {
    return guarded([&] {
        parallel_for(num_faces, 1 << 12, [&](int64_t f) { keys[f] = face_key(vertices, faces + 3 * f, bounds); });
    });
}

TK_API int tk_mesh_bvh_order(const float* vertices, const int32_t* faces, int64_t num_faces, const int64_t* keys, int32_t* order,
                             void*, int64_t*, int, void*) {
    return guarded([&] {
        std::vector<uint64_t> sorted(keys, keys + num_faces);
        std::vector<int32_t> face(static_cast<size_t>(num_faces));
        parallel_for(num_faces, 1 << 16, [&](int64_t f) { face[f] = static_cast<int32_t>(f); });
        stable_sort_by_key(sorted, face);
        const int64_t finite = std::lower_bound(sorted.begin(), sorted.end(), uint64_t{INT64_MAX}) - sorted.begin();
        parallel_chunks(num_faces, refine_span, [&](int64_t, int64_t begin, int64_t end) {
            std::vector<Item> items(static_cast<size_t>(std::max<int64_t>(0, std::min(end, finite) - begin)));
            for (size_t k = 0; k < items.size(); ++k) {
                const int32_t* corner = faces + int64_t{3} * face[begin + k];
                const Vec3f a = load_corner(vertices, corner[0]), b = load_corner(vertices, corner[1]),
                            c = load_corner(vertices, corner[2]);
                for (int i = 0; i < 3; ++i)
                    items[k].centre[i] = std::min({a[i], b[i], c[i]}) * 0.5f + std::max({a[i], b[i], c[i]}) * 0.5f;
                items[k].face = face[begin + k];
            }
            split(items.data(), static_cast<int64_t>(items.size()));
            for (int64_t k = begin; k < end; ++k)
                order[k] = k - begin < static_cast<int64_t>(items.size()) ? items[k - begin].face : face[k];
        });
    });
}

TK_API int tk_mesh_bvh_fill(const float* vertices, const int32_t* faces, int64_t num_faces, const int32_t* order,
                            float* leaves, int32_t* ids, float* nodes, int, void*) {
    return guarded([&] {
        if (num_faces <= 0) return;
        const BvhShape shape(num_faces);
        parallel_for(shape.count[0], 1 << 9, [&](int64_t leaf) { fill_leaf(vertices, faces, num_faces, order, leaf, leaves, ids, nodes); });
        for (int level = 1; level <= shape.levels; ++level) {
            clear_tail(shape, level, nodes);
            if (level < shape.levels)
                parallel_for(shape.count[level], 1 << 10, [&](int64_t index) { fill_parent(shape, level, index, nodes); });
        }
    });
}
