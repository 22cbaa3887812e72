// Rays on the CPU: eight boxes, then eight triangles, in one go.
#include <algorithm>
#include <cmath>
#include <limits>

#include "bvh_lanes.hpp"
#include "bvh_query.hpp"
#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

struct Nearest {
    float distance;
    int32_t face;
    int64_t slot;
    double u, v, w;
};

// Calls on_leaf(leaf) for the leaves that the ray meets between t_min and reach(), nearest boxes first.
// Comparisons are so written that 0 * inf (a ray within a face of a box) leaves the rest to decide.
template <class OnLeaf, class Reach>
TK_INLINE void walk(const BvhView& tree, const Ray& ray, float t_min, const Reach& reach, const OnLeaf& on_leaf) {
    struct Entry {
        float near;
        uint32_t reference;
    } stack[bvh_stack_size];
    int top = 0;
    stack[top++] = {t_min, pack_reference(tree.shape.levels, 0)};
    const F8 zero = {};
    while (top > 0) {
        const Entry entry = stack[--top];
        if (!(entry.near <= reach() * slab_pad)) continue;
        const int level = reference_level(entry.reference);
        const int64_t index = reference_index(entry.reference);
        if (level == 0) {
            on_leaf(index);
            continue;
        }
        const float* node = tree.nodes + (tree.shape.first[level] + index) * bvh_node_floats;
        F8 near = zero + t_min, far = zero + reach() * slab_pad;
        for (int i = 0; i < 3; ++i) {
            const bool forward = ray.inverse[i] > 0;
            F8 enter, leave;
            load(node + ((forward ? 0 : 3) + i) * bvh_width, enter);
            load(node + ((forward ? 3 : 0) + i) * bvh_width, leave);
            enter = (enter - ray.origin[i]) * ray.inverse[i];
            leave = (leave - ray.origin[i]) * ray.inverse[i] * slab_pad;
            near = enter > near ? enter : near;
            far = leave < far ? leave : far;
        }
        const int64_t below = index * bvh_width;
        const int children = static_cast<int>(std::min<int64_t>(bvh_width, tree.shape.count[level - 1] - below));
        Wanted wanted;
        for (int lane = 0; lane < children; ++lane)
            if (near[lane] <= far[lane]) wanted.add(lane, near[lane]);
        for (int k = 0; k < wanted.count; ++k)
            stack[top++] = {wanted.near[k], pack_reference(level - 1, below + wanted.lane[k])};
    }
}

TK_INLINE auto intersect_leaf(const BvhView& tree, const Ray& ray, int64_t leaf) {
    const float* corners = tree.leaves + leaf * bvh_leaf_floats;
    const int axis[3] = {ray.shear.kx, ray.shear.ky, ray.shear.kz};
    Vec3<D8> corner[3];
    for (int k = 0; k < 3; ++k) {
        D8 value[3];
        for (int i = 0; i < 3; ++i) {
            load(corners + (k * 3 + axis[i]) * bvh_width, value[i]);
            value[i] -= static_cast<double>(ray.origin[axis[i]]);
        }
        corner[k] = {value[0], value[1], value[2]};
    }
    return intersect(ray.shear, corner[0], corner[1], corner[2]);
}

TK_CLONES void nearest_hit(const BvhView& tree, const Ray& ray, float t_min, float t_max, Nearest& best) {
    best = {t_max, no_face, -1, 0, 0, 0};
    walk(tree, ray, t_min, [&]() __attribute__((always_inline)) { return best.distance; },
         [&](int64_t leaf) __attribute__((always_inline)) {
             const auto hit = intersect_leaf(tree, ray, leaf);
             for (int lane = 0; lane < bvh_width; ++lane) {
                 if (!hit.hit[lane]) continue;
                 const float t = static_cast<float>(hit.t[lane]);
                 const int64_t slot = leaf * bvh_width + lane;
                 if (t >= t_min && (t < best.distance || (t == best.distance && tree.ids[slot] < best.face)))
                     best = {t, tree.ids[slot], slot, hit.u[lane] / hit.det[lane], hit.v[lane] / hit.det[lane],
                             hit.w[lane] / hit.det[lane]};
             }
         });
}

TK_CLONES void count(const BvhView& tree, const Ray& ray, float t_min, float t_max, int32_t& hits) {
    hits = 0;
    walk(tree, ray, t_min, [&]() __attribute__((always_inline)) { return t_max; },
         [&](int64_t leaf) __attribute__((always_inline)) {
             const auto hit = intersect_leaf(tree, ray, leaf);
             for (int lane = 0; lane < bvh_width; ++lane) {
                 if (!hit.owns[lane]) continue;
                 const float t = static_cast<float>(hit.t[lane]);
                 if (t >= t_min && t <= t_max) ++hits;
             }
         });
}

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_bvh_ray_cast(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                const float* origins, const float* directions, int64_t num_rays, float t_min, float t_max,
                                float* distance, int64_t* face, float* barycentric, void*, int64_t*, int, void*) {
    return guarded([&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        parallel_for(num_rays, 256, [&](int64_t r) {
            const Ray ray = make_ray(origins + 3 * r, directions + 3 * r);
            Nearest found{std::numeric_limits<float>::quiet_NaN(), no_face, -1, 0, 0, 0};
            if (ray.valid) {
                nearest_hit(tree, ray, t_min, t_max, found);
                if (found.slot < 0) found.distance = std::numeric_limits<float>::infinity();
            }
            distance[r] = found.distance;
            face[r] = found.slot >= 0 ? found.face : -1;
            barycentric[3 * r] = static_cast<float>(found.u);
            barycentric[3 * r + 1] = static_cast<float>(found.v);
            barycentric[3 * r + 2] = static_cast<float>(found.w);
        });
    });
}

TK_API int tk_mesh_bvh_count_hits(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                  const float* origins, const float* directions, int64_t num_rays, float t_min, float t_max,
                                  int32_t* count_out, void*, int64_t*, int, void*) {
    return guarded([&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        parallel_for(num_rays, 256, [&](int64_t r) {
            const Ray ray = make_ray(origins + 3 * r, directions + 3 * r);
            count_out[r] = -1;
            if (ray.valid) mesh::count(tree, ray, t_min, t_max, count_out[r]);
        });
    });
}
