// Closest points on the device.
#include "bvh_closest.cuh"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

struct OrderedPoints {
    const float* points;
    const int32_t* order;
    __device__ Vec3f operator()(int64_t k) const { return load_corner(points, order[k]); }
};

__global__ void __launch_bounds__(query_block) closest_kernel(BvhView tree, OrderedPoints ordered, const int32_t* seed, int64_t num_points,
                                                             float max_distance, float* distance, int64_t* face, float* barycentric) {
    TK_GRID_STRIDE(k, num_points) {
        const int64_t p = ordered.order[k];
        const Vec3f point = ordered(k);
        DeviceClosest best{__builtin_nanf(""), no_face, -1};
        if (all_finite(point)) best = closest_on_device(tree, point, max_distance, seed[k / queries_per_seed]);
        Vec3d weights = {0, 0, 0};
        if (best.slot >= 0) {
            Vec3d corner[3];
            slot_corners(tree, best.slot, point, corner);
            weights = closest_barycentric(corner[0], corner[1], corner[2]);
        } else if (best.distance == best.distance) {
            best.distance = __builtin_inff();
        }
        distance[p] = best.distance;
        face[p] = best.slot >= 0 ? best.face : -1;
        for (int i = 0; i < 3; ++i) barycentric[3 * p + i] = static_cast<float>(weights[i]);
    }
}

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_bvh_closest_point(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                     const float* points, int64_t num_points, float max_distance, float* distance,
                                     int64_t* face, float* barycentric, void* scratch, int64_t* scratch_bytes, int device,
                                     void* stream) {
    return guarded_on(device, [&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        require(num_faces <= INT32_MAX - bvh_width, "num_faces: too many faces for the slots of 32 bits");
        Scratch room(scratch, scratch_bytes);
        CoherentOrder order(room, num_points);
        int32_t* seed = room.take<int32_t>(seeds_of(num_points));
        if (room.only_measured() || num_points <= 0) return;
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        const cudaStream_t s = as_stream(stream);
        const OrderedPoints ordered{points, order.sort(tree, points, s)};
        find_seeds(tree, ordered, num_points, max_distance, seed, s);
        closest_kernel<<<grid_size(num_points, query_block), query_block, 0, s>>>(tree, ordered, seed, num_points, max_distance, distance,
                                                                                  face, barycentric);
    });
}
