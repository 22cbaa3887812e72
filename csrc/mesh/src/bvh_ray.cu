// Rays on the device: one thread a ray.
#include "bvh_device.cuh"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

constexpr int ray_block = 128;

// Entries [from, to) by descending nearness, so that the top of the stack is the nearest.
__device__ void sort_entries(Entry* stack, int from, int to) {
    for (int i = from + 1; i < to; ++i) {
        const Entry entry = stack[i];
        int at = i;
        for (; at > from && stack[at - 1].near < entry.near; --at) stack[at] = stack[at - 1];
        stack[at] = entry;
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

__global__ void ray_kernel(BvhView tree, const int32_t* order, const float* origins, const float* directions, int64_t num_rays, float t_min, float t_max,
                           float* distance, int64_t* face, float* barycentric) {
    TK_GRID_STRIDE(k, num_rays) {
        const int64_t r = order[k];
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

__global__ void count_kernel(BvhView tree, const int32_t* order, const float* origins, const float* directions, int64_t num_rays, float t_min, float t_max,
                             int32_t* count) {
    TK_GRID_STRIDE(k, num_rays) {
        const int64_t r = order[k];
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

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_bvh_ray_cast(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                const float* origins, const float* directions, int64_t num_rays, float t_min,
                                float t_max, float* distance, int64_t* face, float* barycentric, void* scratch,
                                int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        Scratch room(scratch, scratch_bytes);
        CoherentOrder order(room, num_rays);
        if (room.only_measured() || num_rays <= 0) return;
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        const cudaStream_t s = as_stream(stream);
        const int32_t* sorted = order.sort(tree, origins, s);
        ray_kernel<<<grid_size(num_rays, ray_block), ray_block, 0, s>>>(tree, sorted, origins, directions, num_rays, t_min, t_max,
                                                                                distance, face, barycentric);
    });
}

TK_API int tk_mesh_bvh_count_hits(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                  const float* origins, const float* directions, int64_t num_rays, float t_min,
                                  float t_max, int32_t* count, void* scratch, int64_t* scratch_bytes, int device,
                                  void* stream) {
    return guarded_on(device, [&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        Scratch room(scratch, scratch_bytes);
        CoherentOrder order(room, num_rays);
        if (room.only_measured() || num_rays <= 0) return;
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        const cudaStream_t s = as_stream(stream);
        const int32_t* sorted = order.sort(tree, origins, s);
        count_kernel<<<grid_size(num_rays, ray_block), ray_block, 0, s>>>(tree, sorted, origins, directions, num_rays, t_min, t_max, count);
    });
}
