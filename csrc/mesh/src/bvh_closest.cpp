// Closest points on the CPU: eight boxes, then eight triangles, in one go.
#include <algorithm>
#include <cmath>
#include <limits>

#include "bvh_lanes.hpp"
#include "bvh_query.hpp"
#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

TK_INLINE void test_leaf(const BvhView& tree, int64_t leaf, const Vec3<D8>& point, Closest& best) {
    Vec3<D8> a, b, c;
    const float* corners = tree.leaves + leaf * bvh_leaf_floats;
    load_corners(corners, 0, a);
    load_corners(corners, 1, b);
    load_corners(corners, 2, c);
    const D8 squared = triangle_distance2(sub(a, point), sub(b, point), sub(c, point));
    const double reach = static_cast<double>(best.distance) * static_cast<double>(best.distance) * 1.000001;
    for (int lane = 0; lane < bvh_width; ++lane) {
        if (!(squared[lane] <= reach)) continue;
        const float distance = static_cast<float>(std::sqrt(squared[lane]));
        const int64_t slot = leaf * bvh_width + lane;
        if (distance < best.distance || (distance == best.distance && tree.ids[slot] < best.face))
            best = {distance, tree.ids[slot], slot};
    }
}

}  // namespace

TK_CLONES Closest closest(const BvhView& tree, const Vec3f& point, float limit, int64_t seed) {
    Closest best{limit, no_face, -1};
    const D8 zero = {};
    const Vec3<D8> wide = {zero + static_cast<double>(point.x), zero + static_cast<double>(point.y),
                           zero + static_cast<double>(point.z)};
    const int64_t seed_leaf = seed < 0 ? -1 : seed / bvh_width;
    if (seed_leaf >= 0) test_leaf(tree, seed_leaf, wide, best);

    struct Entry {
        float near;
        uint32_t reference;
    } stack[bvh_stack_size];
    int top = 0;
    stack[top++] = {0, pack_reference(tree.shape.levels, 0)};
    const F8 none = {};
    const F8 px = none + point.x, py = none + point.y, pz = none + point.z;
    while (top > 0) {
        const Entry entry = stack[--top];
        if (!(entry.near <= pruning_bound(best.distance))) continue;
        const int level = reference_level(entry.reference);
        const int64_t index = reference_index(entry.reference);
        if (level == 0) {
            if (index != seed_leaf) test_leaf(tree, index, wide, best);
            continue;
        }
        const float* node = tree.nodes + (tree.shape.first[level] + index) * bvh_node_floats;
        F8 low, high, gap, squared = none;
        for (int i = 0; i < 3; ++i) {
            const F8& p = i == 0 ? px : i == 1 ? py : pz;
            load(node + i * bvh_width, low);
            load(node + (3 + i) * bvh_width, high);
            gap = low - p > p - high ? low - p : p - high;
            gap = gap > none ? gap : none;
            squared += gap * gap;
        }
        const int64_t below = index * bvh_width;
        const int children = static_cast<int>(std::min<int64_t>(bvh_width, tree.shape.count[level - 1] - below));
        const float bound = pruning_bound(best.distance);
        Wanted wanted;
        for (int lane = 0; lane < children; ++lane)
            if (squared[lane] <= bound) wanted.add(lane, squared[lane]);
        for (int k = 0; k < wanted.count; ++k)
            stack[top++] = {wanted.near[k], pack_reference(level - 1, below + wanted.lane[k])};
    }
    return best;
}

std::vector<int32_t> coherent_order(const float* points, int64_t num_points) {
    constexpr int64_t grain = 1 << 14;
    constexpr float inf = std::numeric_limits<float>::infinity();
    struct Bounds {
        float low[3] = {inf, inf, inf}, high[3] = {-inf, -inf, -inf};
    };
    std::vector<Bounds> part(static_cast<size_t>(chunk_count(num_points, grain)));
    parallel_chunks(num_points, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        Bounds b;
        for (int64_t p = begin; p < end; ++p)
            for (int i = 0; i < 3; ++i) {
                const float x = points[3 * p + i];
                if (x > -inf && x < b.low[i]) b.low[i] = x;
                if (x < inf && x > b.high[i]) b.high[i] = x;
            }
        part[chunk] = b;
    });
    Bounds all;
    for (const Bounds& b : part)
        for (int i = 0; i < 3; ++i) {
            all.low[i] = std::min(all.low[i], b.low[i]);
            all.high[i] = std::max(all.high[i], b.high[i]);
        }
    constexpr int bits = 11;  // three passes of the sort
    std::vector<uint64_t> keys(static_cast<size_t>(num_points));
    std::vector<int32_t> order(static_cast<size_t>(num_points));
    parallel_for(num_points, grain, [&](int64_t p) {
        const Vec3f at = load_corner(points, static_cast<int32_t>(p));
        uint32_t cell[3];
        for (int i = 0; i < 3; ++i) cell[i] = quantise(at[i], all.low[i], all.high[i], bits);
        keys[p] = all_finite(at) ? hilbert_key(cell[0], cell[1], cell[2], bits) : (uint64_t{1} << 3 * bits) - 1;
        order[p] = static_cast<int32_t>(p);
    });
    stable_sort_by_key(keys, order);
    return order;
}

}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_bvh_closest_point(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                     const float* points, int64_t num_points, float max_distance, float* distance, int64_t* face,
                                     float* barycentric, void*, int64_t*, int, void*) {
    return guarded([&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        const std::vector<int32_t> order = coherent_order(points, num_points);
        parallel_chunks(num_points, 256, [&](int64_t, int64_t begin, int64_t end) {
            int64_t seed = -1;
            for (int64_t k = begin; k < end; ++k) {
                const int64_t p = order[k];
                const Vec3f point = load_corner(points, order[k]);
                Closest found{std::numeric_limits<float>::quiet_NaN(), no_face, -1};
                if (all_finite(point)) found = closest(tree, point, max_distance, seed);
                Vec3d weights{0, 0, 0};
                if (found.slot >= 0) {
                    Vec3d corner[3];
                    slot_corners(tree, found.slot, point, corner);
                    weights = closest_barycentric(corner[0], corner[1], corner[2]);
                    seed = found.slot;
                } else if (found.distance == found.distance) {
                    found.distance = std::numeric_limits<float>::infinity();
                }
                distance[p] = found.distance;
                face[p] = found.slot >= 0 ? found.face : -1;
                for (int i = 0; i < 3; ++i) barycentric[3 * p + i] = static_cast<float>(weights[i]);
            }
        });
    });
}
