// The closest face of a tree to a point, on the device: one thread a point.
//
// Triangles are first looked at in float: any vector q bounds the distance of the origin to a triangle from below, by
// the plane across q through the corner that comes first along it, and a q near the closest point bounds it well. Only
// triangles that this leaves in question are measured in double, by the text that the CPU uses, and decide. So the
// results are the CPU's while next to all of the work is in float.
#pragma once

#include "bvh_device.cuh"

namespace tk::mesh {

struct DeviceClosest {
    float distance;  // the limit where no face is within it
    int32_t face;    // no_face where none is
    int64_t slot;    // leaf * 8 + lane; -1 where none is
};

// Bounds of the distance from the origin to triangle (a, b, c), roundings allowed for. NaN or 0 for `below` where
// float cannot tell.
__device__ inline void bound_distance(const Vec3f& a, const Vec3f& b, const Vec3f& c, float& below, float& above) {
    const Vec3f ab = sub(b, a), ac = sub(c, a);
    const float d1 = -dot3(ab, a), d2 = -dot3(ac, a), d3 = -dot3(ab, b), d4 = -dot3(ac, b), d5 = -dot3(ab, c), d6 = -dot3(ac, c);
    const float va = d3 * d6 - d5 * d4, vb = d5 * d2 - d1 * d6, vc = d1 * d4 - d3 * d2;
    // Ericson's regions, the innermost first so that the others overrule it.
    float v = vb, w = vc, whole = va + vb + vc;
    const float e43 = d4 - d3, e56 = d5 - d6;
    if (va <= 0 && e43 >= 0 && e56 >= 0) whole = e43 + e56, w = e43, v = e56;
    if (vb <= 0 && d2 >= 0 && d6 <= 0) whole = d2 - d6, v = 0, w = d2;
    if (vc <= 0 && d1 >= 0 && d3 <= 0) whole = d1 - d3, v = d1, w = 0;
    if (d6 >= 0 && d5 <= d6) whole = 1, v = 0, w = 1;
    if (d3 >= 0 && d4 <= d3) whole = 1, v = 1, w = 0;
    if (d1 <= 0 && d2 <= 0) whole = 1, v = 0, w = 0;
    const float scale = __fdividef(1.0f, whole);
    v = __saturatef(v * scale);  // NaN becomes 0
    w = fminf(__saturatef(w * scale), 1 - v);
    const Vec3f q = add_scaled(add_scaled(a, ab, v), ac, w);
    const float length2 = dot3(q, q), inverse = rsqrtf(length2);
    const float ahead = fminf(dot3(q, a), fminf(dot3(q, b), dot3(q, c)));
    const float extent = sqrtf(fmaxf(dot3(a, a), fmaxf(dot3(b, b), dot3(c, c))));
    // Products of 3 terms in float are off by at most 4 units of 2^-24 of the lengths' product, points made of weights
    // by some 10 of the extent; below 1e-30 squares lose digits.
    below = length2 > 1e-30f ? ahead * inverse * 0.999999f - 5e-7f * extent : 0.0f;
    above = length2 > 1e-30f ? length2 * inverse * 1.000002f + 4e-6f * extent : __builtin_inff();
}

__device__ inline void measure_leaf(const BvhView& tree, uint32_t leaf, const Vec3f& point, DeviceClosest& best) {
    const float* corners = tree.leaves + int64_t{leaf} * bvh_leaf_floats;
    const int32_t* ids = tree.ids + int64_t{leaf} * bvh_width;
    float below[bvh_width], least = __builtin_inff();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float4 row[9];
#pragma unroll
        for (int k = 0; k < 9; ++k) row[k] = __ldg(reinterpret_cast<const float4*>(corners + k * bvh_width) + half);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const auto at = [&](int k) { return j == 0 ? row[k].x : j == 1 ? row[k].y : j == 2 ? row[k].z : row[k].w; };
            const Vec3f a = {at(0) - point.x, at(1) - point.y, at(2) - point.z};
            const Vec3f b = {at(3) - point.x, at(4) - point.y, at(5) - point.z};
            const Vec3f c = {at(6) - point.x, at(7) - point.y, at(8) - point.z};
            float above;
            bound_distance(a, b, c, below[4 * half + j], above);
            least = fminf(least, above);  // NaN of an empty lane does not count
        }
    }
    const float reach = fminf(least, best.distance) * 1.0000005f;
    unsigned wanted = 0;
#pragma unroll
    for (int lane = 0; lane < bvh_width; ++lane) wanted |= static_cast<unsigned>(!(below[lane] > reach)) << lane;
    while (wanted) {
        const int lane = __ffs(static_cast<int>(wanted)) - 1;
        wanted &= wanted - 1;
        const int32_t id = ids[lane];
        if (id < 0) continue;
        const double squared = triangle_distance2(corner_from(corners, 0, lane, point, 0, 1, 2), corner_from(corners, 1, lane, point, 0, 1, 2),
                                                  corner_from(corners, 2, lane, point, 0, 1, 2));
        const float here = static_cast<float>(sqrt(squared));
        if (here < best.distance || (here == best.distance && id < best.face)) best = {here, id, int64_t{leaf} * bvh_width + lane};
    }
}

// As closest() of bvh_query.hpp: what is returned does not depend on `seed`.
__device__ inline DeviceClosest closest_on_device(const BvhView& tree, const Vec3f& point, float limit, int64_t seed) {
    DeviceClosest best{limit, no_face, -1};
    const uint32_t seed_leaf = seed < 0 ? ~0u : static_cast<uint32_t>(seed / bvh_width);
    if (seed >= 0) measure_leaf(tree, seed_leaf, point, best);
    Entry stack[bvh_stack_size];
    int top = 0;
    uint32_t reference = pack_reference(tree.shape.levels, 0);
    for (;;) {
        // Down to a leaf, always into the nearest child; its brothers wait.
        bool leaf = reference_level(reference) == 0;
        while (!leaf) {
            const int level = reference_level(reference);
            const uint32_t index = static_cast<uint32_t>(reference_index(reference));
            const float4* rows = reinterpret_cast<const float4*>(tree.nodes + (tree.shape.first[level] + index) * bvh_node_floats);
            float squared[bvh_width] = {};
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                const float p = point[i];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const float4 low = __ldg(rows + 2 * i + half), high = __ldg(rows + 2 * (3 + i) + half);
                    const float gap[4] = {fmaxf(fmaxf(low.x - p, p - high.x), 0.0f), fmaxf(fmaxf(low.y - p, p - high.y), 0.0f),
                                          fmaxf(fmaxf(low.z - p, p - high.z), 0.0f), fmaxf(fmaxf(low.w - p, p - high.w), 0.0f)};
#pragma unroll
                    for (int j = 0; j < 4; ++j) squared[4 * half + j] += gap[j] * gap[j];
                }
            }
            const uint32_t below = index * bvh_width;
            const int64_t rest = tree.shape.count[level - 1] - below;
            const float bound = pruning_bound(best.distance);
            int next = -1;
            float near = 0;
#pragma unroll
            for (int lane = 0; lane < bvh_width; ++lane) {
                if (lane >= rest || !(squared[lane] <= bound)) continue;
                const bool nearer = next < 0 || squared[lane] < near;
                if (next >= 0)
                    stack[top++] = {nearer ? near : squared[lane], pack_reference(level - 1, below + (nearer ? next : lane))};
                if (nearer) next = lane, near = squared[lane];
            }
            if (next >= 0) {
                reference = pack_reference(level - 1, below + next);
            } else {
                do {
                    if (top == 0) return best;
                    --top;
                } while (!(stack[top].near <= bound));
                reference = stack[top].reference;
            }
            leaf = reference_level(reference) == 0;
        }
        const uint32_t index = static_cast<uint32_t>(reference_index(reference));
        if (index != seed_leaf) measure_leaf(tree, index, point, best);
        const float bound = pruning_bound(best.distance);
        do {
            if (top == 0) return best;
            --top;
        } while (!(stack[top].near <= bound));
        reference = stack[top].reference;
    }
}

// A first walk without a seed visits the most: it is made for one of so many neighbouring queries, and its result is the
// seed of the others.
constexpr int queries_per_seed = 8;
constexpr int query_block = 128;

// seed[k]: the slot of the face closest to query queries_per_seed * k, -1 for none. `point_of` gives a query's point.
template <class PointOf>
__global__ void __launch_bounds__(query_block) seeds_kernel(BvhView tree, PointOf point_of, int64_t num_seeds, float limit, int32_t* seed) {
    TK_GRID_STRIDE(k, num_seeds) {
        const Vec3f point = point_of(queries_per_seed * k);
        seed[k] = all_finite(point) ? static_cast<int32_t>(closest_on_device(tree, point, limit, -1).slot) : -1;
    }
}

inline int64_t seeds_of(int64_t num_queries) { return (num_queries + queries_per_seed - 1) / queries_per_seed; }

template <class PointOf>
void find_seeds(const BvhView& tree, const PointOf& point_of, int64_t num_queries, float limit, int32_t* seed, cudaStream_t stream) {
    const int64_t count = seeds_of(num_queries);
    if (count > 0) seeds_kernel<<<grid_size(count, query_block), query_block, 0, stream>>>(tree, point_of, count, limit, seed);
}

// Corners of the face in `slot`, relative to `point`.
__device__ inline void slot_corners(const BvhView& tree, int64_t slot, const Vec3f& point, Vec3d (&corner)[3]) {
    const float* leaf = tree.leaves + slot / bvh_width * bvh_leaf_floats;
    for (int k = 0; k < 3; ++k) corner[k] = corner_from(leaf, k, static_cast<int>(slot % bvh_width), point, 0, 1, 2);
}

}  // namespace tk::mesh
