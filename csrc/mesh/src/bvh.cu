// The tree of bvh.hpp on CUDA: a thread for each face, leaf, node or query. Queries follow the same rules as
// those on the CPU and differ from them only by the last bits of doubles that are rounded to float in the end.
#include "bvh.hpp"
#include "trellis/cuda.cuh"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

constexpr int block = 128;

__global__ void keys_kernel(const float* vertices, const int32_t* faces, int64_t num_faces, const float* bounds, int64_t* keys) {
    TK_GRID_STRIDE(f, num_faces) keys[f] = face_key(vertices, faces + 3 * f, bounds);
}

__global__ void leaves_kernel(BvhShape shape, const float* vertices, const int32_t* faces, int64_t num_faces, const int32_t* order,
                              float* leaves, int32_t* ids, float* nodes) {
    TK_GRID_STRIDE(leaf, shape.count[0]) fill_leaf(vertices, faces, num_faces, order, leaf, leaves, ids, nodes);
}

__global__ void tails_kernel(BvhShape shape, float* nodes) {
    const int level = static_cast<int>(threadIdx.x) + 1;
    if (level <= shape.levels) clear_tail(shape, level, nodes);
}

__global__ void parents_kernel(BvhShape shape, int level, float* nodes) {
    TK_GRID_STRIDE(index, shape.count[level]) fill_parent(shape, level, index, nodes);
}

struct Entry {
    float near;
    uint32_t reference;
};

// Entries [from, to) by descending nearness, so that the top of the stack is the nearest.
__device__ void sort_entries(Entry* stack, int from, int to) {
    for (int i = from + 1; i < to; ++i) {
        const Entry entry = stack[i];
        int at = i;
        for (; at > from && stack[at - 1].near < entry.near; --at) stack[at] = stack[at - 1];
        stack[at] = entry;
    }
}

__device__ Vec3d corner_from(const float* leaf, int corner, int lane, const Vec3f& origin, int kx, int ky, int kz) {
    const float* row = leaf + corner * 3 * bvh_width + lane;
    return {static_cast<double>(row[kx * bvh_width]) - static_cast<double>(origin[kx]),
            static_cast<double>(row[ky * bvh_width]) - static_cast<double>(origin[ky]),
            static_cast<double>(row[kz * bvh_width]) - static_cast<double>(origin[kz])};
}

__global__ void closest_kernel(BvhView tree, const float* points, int64_t num_points, float max_distance, float* distance,
                               int64_t* face, float* barycentric) {
    TK_GRID_STRIDE(p, num_points) {
        const Vec3f point = {points[3 * p], points[3 * p + 1], points[3 * p + 2]};
        const bool valid = all_finite(point);
        float best = max_distance;
        int32_t best_face = no_face;
        int64_t best_slot = -1;
        Entry stack[bvh_stack_size];
        int top = 0;
        if (valid) stack[top++] = {0, pack_reference(tree.shape.levels, 0)};
        while (top > 0) {
            const Entry entry = stack[--top];
            const float bound = pruning_bound(best);
            if (!(entry.near <= bound)) continue;
            const int level = reference_level(entry.reference);
            const int64_t index = reference_index(entry.reference);
            if (level == 0) {
                const float* leaf = tree.leaves + index * bvh_leaf_floats;
                for (int lane = 0; lane < bvh_width; ++lane) {
                    const int64_t slot = index * bvh_width + lane;
                    const int32_t id = tree.ids[slot];
                    if (id < 0) continue;
                    const double squared = triangle_distance2(corner_from(leaf, 0, lane, point, 0, 1, 2), corner_from(leaf, 1, lane, point, 0, 1, 2),
                                                              corner_from(leaf, 2, lane, point, 0, 1, 2));
                    const float here = static_cast<float>(sqrt(squared));
                    if (here < best || (here == best && id < best_face)) {
                        best = here;
                        best_face = id;
                        best_slot = slot;
                    }
                }
                continue;
            }
            const float* node = tree.nodes + (tree.shape.first[level] + index) * bvh_node_floats;
            const int64_t below = index * bvh_width;
            const int64_t rest = tree.shape.count[level - 1] - below;
            const int children = rest < bvh_width ? static_cast<int>(rest) : bvh_width;
            const int base = top;
            for (int lane = 0; lane < children; ++lane) {
                float squared = 0;
                for (int i = 0; i < 3; ++i) {
                    const float gap = fmaxf(0.0f, fmaxf(node[i * bvh_width + lane] - point[i], point[i] - node[(3 + i) * bvh_width + lane]));
                    squared += gap * gap;
                }
                if (squared <= bound) stack[top++] = {squared, pack_reference(level - 1, below + lane)};
            }
            sort_entries(stack, base, top);
        }
        Vec3d weights = {0, 0, 0};
        if (best_slot >= 0) {
            const float* leaf = tree.leaves + best_slot / bvh_width * bvh_leaf_floats;
            const int lane = static_cast<int>(best_slot % bvh_width);
            weights = closest_barycentric(corner_from(leaf, 0, lane, point, 0, 1, 2), corner_from(leaf, 1, lane, point, 0, 1, 2),
                                          corner_from(leaf, 2, lane, point, 0, 1, 2));
        }
        distance[p] = !valid ? __builtin_nanf("") : best_slot >= 0 ? best : __builtin_inff();
        face[p] = best_slot >= 0 ? best_face : -1;
        for (int i = 0; i < 3; ++i) barycentric[3 * p + i] = static_cast<float>(weights[i]);
    }
}

// Calls on_hit(slot, hit) for what the ray meets between t_min and reach(), nearest boxes first.
template <class OnHit, class Reach>
__device__ void walk(const BvhView& tree, const Ray& ray, float t_min, const Reach& reach, const OnHit& on_hit) {
    Entry stack[bvh_stack_size];
    int top = 0;
    stack[top++] = {t_min, pack_reference(tree.shape.levels, 0)};
    while (top > 0) {
        const Entry entry = stack[--top];
        if (!(entry.near <= reach() * slab_pad)) continue;
        const int level = reference_level(entry.reference);
        const int64_t index = reference_index(entry.reference);
        if (level == 0) {
            const float* leaf = tree.leaves + index * bvh_leaf_floats;
            for (int lane = 0; lane < bvh_width; ++lane) {
                const int64_t slot = index * bvh_width + lane;
                if (tree.ids[slot] < 0) continue;
                const int kx = ray.shear.kx, ky = ray.shear.ky, kz = ray.shear.kz;
                on_hit(slot, intersect(ray.shear, corner_from(leaf, 0, lane, ray.origin, kx, ky, kz), corner_from(leaf, 1, lane, ray.origin, kx, ky, kz),
                                       corner_from(leaf, 2, lane, ray.origin, kx, ky, kz)));
            }
            continue;
        }
        const float* node = tree.nodes + (tree.shape.first[level] + index) * bvh_node_floats;
        const int64_t below = index * bvh_width;
        const int64_t rest = tree.shape.count[level - 1] - below;
        const int children = rest < bvh_width ? static_cast<int>(rest) : bvh_width;
        const int base = top;
        for (int lane = 0; lane < children; ++lane) {
            float near = t_min, far = reach() * slab_pad;
            for (int i = 0; i < 3; ++i) {
                const bool forward = ray.inverse[i] > 0;
                const float enter = (node[((forward ? 0 : 3) + i) * bvh_width + lane] - ray.origin[i]) * ray.inverse[i];
                const float leave = (node[((forward ? 3 : 0) + i) * bvh_width + lane] - ray.origin[i]) * ray.inverse[i] * slab_pad;
                if (enter > near) near = enter;
                if (leave < far) far = leave;
            }
            if (near <= far) stack[top++] = {near, pack_reference(level - 1, below + lane)};
        }
        sort_entries(stack, base, top);
    }
}

__global__ void ray_kernel(BvhView tree, const float* origins, const float* directions, int64_t num_rays, float t_min, float t_max,
                           float* distance, int64_t* face, float* barycentric) {
    TK_GRID_STRIDE(r, num_rays) {
        const Ray ray = make_ray(origins + 3 * r, directions + 3 * r);
        float best = t_max;
        int32_t best_face = no_face;
        float weights[3] = {0, 0, 0};
        if (ray.valid)
            walk(tree, ray, t_min, [&] { return best; }, [&](int64_t slot, const auto& hit) {
                if (!hit.hit) return;
                const float t = static_cast<float>(hit.t);
                if (!(t >= t_min && (t < best || (t == best && tree.ids[slot] < best_face)))) return;
                best = t;
                best_face = tree.ids[slot];
                weights[0] = static_cast<float>(hit.u / hit.det);
                weights[1] = static_cast<float>(hit.v / hit.det);
                weights[2] = static_cast<float>(hit.w / hit.det);
            });
        distance[r] = !ray.valid ? __builtin_nanf("") : best_face != no_face ? best : __builtin_inff();
        face[r] = best_face != no_face ? best_face : -1;
        for (int i = 0; i < 3; ++i) barycentric[3 * r + i] = weights[i];
    }
}

__global__ void count_kernel(BvhView tree, const float* origins, const float* directions, int64_t num_rays, float t_min, float t_max,
                             int32_t* count) {
    TK_GRID_STRIDE(r, num_rays) {
        const Ray ray = make_ray(origins + 3 * r, directions + 3 * r);
        int32_t hits = ray.valid ? 0 : -1;
        if (ray.valid)
            walk(tree, ray, t_min, [&] { return t_max; }, [&](int64_t, const auto& hit) {
                const float t = static_cast<float>(hit.t);
                hits += hit.owns && t >= t_min && t <= t_max;
            });
        count[r] = hits;
    }
}

cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_bvh_keys(const float* vertices, const int32_t* faces, int64_t num_faces, const float* bounds,
                            int64_t* keys, int device, void* stream) {
    return guarded_on(device, [&] {
        if (num_faces > 0)
            keys_kernel<<<grid_size(num_faces, block), block, 0, as_stream(stream)>>>(vertices, faces, num_faces, bounds, keys);
    });
}

TK_API int tk_mesh_bvh_fill(const float* vertices, const int32_t* faces, int64_t num_faces, const int32_t* order,
                            float* leaves, int32_t* ids, float* nodes, int device, void* stream) {
    return guarded_on(device, [&] {
        if (num_faces <= 0) return;
        const BvhShape shape(num_faces);
        leaves_kernel<<<grid_size(shape.count[0], block), block, 0, as_stream(stream)>>>(shape, vertices, faces, num_faces, order, leaves,
                                                                                        ids, nodes);
        tails_kernel<<<1, 32, 0, as_stream(stream)>>>(shape, nodes);
        for (int level = 1; level < shape.levels; ++level)
            parents_kernel<<<grid_size(shape.count[level], block), block, 0, as_stream(stream)>>>(shape, level, nodes);
    });
}

TK_API int tk_mesh_bvh_closest_point(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                     const float* points, int64_t num_points, float max_distance, float* distance,
                                     int64_t* face, float* barycentric, int device, void* stream) {
    return guarded_on(device, [&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        if (num_points <= 0) return;
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        closest_kernel<<<grid_size(num_points, block), block, 0, as_stream(stream)>>>(tree, points, num_points, max_distance, distance,
                                                                                      face, barycentric);
    });
}

TK_API int tk_mesh_bvh_ray_cast(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                const float* origins, const float* directions, int64_t num_rays, float t_min,
                                float t_max, float* distance, int64_t* face, float* barycentric, int device,
                                void* stream) {
    return guarded_on(device, [&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        if (num_rays <= 0) return;
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        ray_kernel<<<grid_size(num_rays, block), block, 0, as_stream(stream)>>>(tree, origins, directions, num_rays, t_min, t_max,
                                                                                distance, face, barycentric);
    });
}

TK_API int tk_mesh_bvh_count_hits(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                  const float* origins, const float* directions, int64_t num_rays, float t_min,
                                  float t_max, int32_t* count, int device, void* stream) {
    return guarded_on(device, [&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        if (num_rays <= 0) return;
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        count_kernel<<<grid_size(num_rays, block), block, 0, as_stream(stream)>>>(tree, origins, directions, num_rays, t_min, t_max, count);
    });
}
