// Building the tree of bvh.hpp on the device, and the order of queries on it.
#include "bvh_device.cuh"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

__global__ void keys_kernel(const float* vertices, const int32_t* faces, int64_t num_faces, const float* bounds, int64_t* keys) {
    TK_GRID_STRIDE(f, num_faces) keys[f] = face_key(vertices, faces + 3 * f, bounds);
}

constexpr int key_bits = 3 * bvh_key_bits + 1;  // the last is for faces that are not finite

__global__ void sort_keys_kernel(const int64_t* keys, int64_t num_faces, uint64_t* sorted, int32_t* face) {
    TK_GRID_STRIDE(f, num_faces) {
        const uint64_t key = static_cast<uint64_t>(keys[f]), last = (uint64_t{1} << key_bits) - 1;
        sorted[f] = key < last ? key : last;
        face[f] = static_cast<int32_t>(f);
    }
}

// A thread for each lane of each leaf, so that the rows of leaves are written whole.
__global__ void leaves_kernel(BvhShape shape, const float* vertices, const int32_t* faces, int64_t num_faces, const int32_t* order,
                              float* leaves, int32_t* ids, float* nodes) {
    TK_GRID_STRIDE(slot, (shape.count[0] * bvh_width + 31) / 32 * 32) {
        const int64_t leaf = slot / bvh_width;
        const int lane = static_cast<int>(slot % bvh_width);
        const bool exists = leaf < shape.count[0];
        Vec3f p[3];
        const int32_t id = exists ? load_slot(vertices, faces, num_faces, order, slot, p) : -1;
        float low[3], high[3];
        for (int i = 0; i < 3; ++i) {
            low[i] = id < 0 ? __builtin_inff() : fminf(p[0][i], fminf(p[1][i], p[2][i]));
            high[i] = id < 0 ? -__builtin_inff() : fmaxf(p[0][i], fmaxf(p[1][i], p[2][i]));
            for (int step = 1; step < bvh_width; step *= 2) {
                low[i] = fminf(low[i], __shfl_xor_sync(~0u, low[i], step));
                high[i] = fmaxf(high[i], __shfl_xor_sync(~0u, high[i], step));
            }
        }
        if (!exists) continue;
        ids[slot] = id;
        float* corners = leaves + leaf * bvh_leaf_floats + lane;
        for (int k = 0; k < 3; ++k)
            for (int i = 0; i < 3; ++i) corners[(k * 3 + i) * bvh_width] = p[k][i];
        if (lane >= 6) continue;
        const float bound = lane == 0 ? low[0] : lane == 1 ? low[1] : lane == 2 ? low[2] : lane == 3 ? high[0] : lane == 4 ? high[1] : high[2];
        nodes[leaf / bvh_width * bvh_node_floats + lane * bvh_width + leaf % bvh_width] = bound;
    }
}

__global__ void tails_kernel(BvhShape shape, float* nodes) {
    const int level = static_cast<int>(threadIdx.x) + 1;
    if (level <= shape.levels) clear_tail(shape, level, nodes);
}

__global__ void parents_kernel(BvhShape shape, int level, float* nodes) {
    TK_GRID_STRIDE(index, shape.count[level]) fill_parent(shape, level, index, nodes);
}

__global__ void root_bounds_kernel(BvhView tree, float* bounds) {
    const float* root = tree.nodes + (tree.shape.nodes - 1) * bvh_node_floats;
    const int row = static_cast<int>(threadIdx.x);
    if (row >= 6) return;
    float bound = root[row * bvh_width];
    for (int lane = 1; lane < bvh_width; ++lane)
        bound = row < 3 ? fminf(bound, root[row * bvh_width + lane]) : fmaxf(bound, root[row * bvh_width + lane]);
    bounds[row] = bound;
}

__global__ void query_keys_kernel(const float* points, int64_t n, const float* bounds, int bits, uint32_t* key, int32_t* query) {
    TK_GRID_STRIDE(q, n) {
        const Vec3f p = {points[3 * q], points[3 * q + 1], points[3 * q + 2]};
        uint32_t cell[3];
        for (int i = 0; i < 3; ++i) cell[i] = quantise(p[i], bounds[i], bounds[3 + i], bits);
        key[q] = all_finite(p) ? static_cast<uint32_t>(hilbert_key(cell[0], cell[1], cell[2], bits)) : (1u << 3 * bits) - 1;
        query[q] = static_cast<int32_t>(q);
    }
}

}  // namespace

const int32_t* CoherentOrder::sort(const BvhView& tree, const float* points, cudaStream_t stream) {
    root_bounds_kernel<<<1, 32, 0, stream>>>(tree, bounds_);
    TK_LAUNCH(query_keys_kernel, n_, stream, points, n_, bounds_, bits, sorter_.keys(), sorter_.values());
    sorter_.sort(stream);
    return sorter_.values();
}

}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_bvh_keys(const float* vertices, const int32_t* faces, int64_t num_faces, const float* bounds,
                            int64_t* keys, int device, void* stream) {
    return guarded_on(device, [&] { TK_LAUNCH(keys_kernel, num_faces, as_stream(stream), vertices, faces, num_faces, bounds, keys); });
}

TK_API int tk_mesh_bvh_order(const float*, const int32_t*, int64_t num_faces, const int64_t* keys, int32_t* order, void* scratch,
                             int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        Scratch room(scratch, scratch_bytes);
        PairSorter<uint64_t> sorter(room, num_faces, key_bits);
        if (room.only_measured()) return;
        const cudaStream_t s = as_stream(stream);
        TK_LAUNCH(sort_keys_kernel, num_faces, s, keys, num_faces, sorter.keys(), sorter.values());
        sorter.sort(s);
        const size_t bytes = static_cast<size_t>(num_faces) * sizeof(int32_t);
        if (num_faces > 0) TK_CUDA(cudaMemcpyAsync(order, sorter.values(), bytes, cudaMemcpyDeviceToDevice, s));
    });
}

TK_API int tk_mesh_bvh_fill(const float* vertices, const int32_t* faces, int64_t num_faces, const int32_t* order,
                            float* leaves, int32_t* ids, float* nodes, int device, void* stream) {
    return guarded_on(device, [&] {
        if (num_faces <= 0) return;
        const cudaStream_t s = as_stream(stream);
        const BvhShape shape(num_faces);
        TK_LAUNCH(leaves_kernel, shape.count[0] * bvh_width, s, shape, vertices, faces, num_faces, order, leaves, ids, nodes);
        tails_kernel<<<1, 32, 0, s>>>(shape, nodes);
        for (int level = 1; level < shape.levels; ++level) TK_LAUNCH(parents_kernel, shape.count[level], s, shape, level, nodes);
    });
}
