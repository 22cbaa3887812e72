// Duplicate faces and vertices, and fans around vertices, on the device.
#include "fans.cuh"
#include "first_equal.cuh"
#include "point_hash.hpp"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

struct FaceItems {
    const int32_t* faces;

    struct Sorted {
        uint32_t a, b, c;
    };
    __device__ Sorted sorted(int64_t i) const {
        const uint32_t x = faces[3 * i], y = faces[3 * i + 1], z = faces[3 * i + 2];
        const uint32_t low = min(x, min(y, z)), high = max(x, max(y, z));
        return {low, x ^ y ^ z ^ low ^ high, high};
    }
    __device__ bool lone(int64_t) const { return false; }
    __device__ uint64_t hash(int64_t i) const {
        const Sorted s = sorted(i);
        return hash_triple(s.a, s.b, s.c);
    }
    __device__ bool same(int64_t i, int64_t j) const {
        const Sorted s = sorted(i), t = sorted(j);
        return s.a == t.a && s.b == t.b && s.c == t.c;
    }
};

struct PointItems {
    const float* vertices;

    __device__ bool lone(int64_t i) const {
        const float* p = vertices + 3 * i;
        return p[0] != p[0] || p[1] != p[1] || p[2] != p[2];
    }
    __device__ uint64_t hash(int64_t i) const {
        const PointBits b = point_bits(vertices + 3 * i);
        return hash_triple(b.x, b.y, b.z);
    }
    __device__ bool same(int64_t i, int64_t j) const { return point_bits(vertices + 3 * i) == point_bits(vertices + 3 * j); }
};

__global__ void keep_kernel(FaceItems items, int64_t n, const int32_t* slot, uint64_t mask, uint8_t* keep) {
    TK_GRID_STRIDE(i, n) keep[i] = find_first(items, i, slot, mask) == i;
}

__global__ void represent_kernel(PointItems items, int64_t n, const int32_t* slot, uint64_t mask, int32_t* representative) {
    TK_GRID_STRIDE(i, n) representative[i] = find_first(items, i, slot, mask);
}

template <class Items>
void enter(const Items& items, int64_t n, int32_t* slot, int64_t slots, cudaStream_t stream) {
    TK_CUDA(cudaMemsetAsync(slot, 0xff, static_cast<size_t>(slots) * sizeof(int32_t), stream));
    TK_LAUNCH(enter_kernel, n, stream, items, n, slot, static_cast<uint64_t>(slots - 1));
}

// ---- Fans ----

__global__ void single_corners_kernel(int32_t* parent, int64_t n) {
    TK_GRID_STRIDE(i, n) parent[i] = static_cast<int32_t>(i);
}

__global__ void join_corners_kernel(HalfEdges::View halves, const int32_t* faces, int32_t* parent) {
    TK_GRID_STRIDE(i, halves.count) join_fans(halves, faces, i, parent);
}

__global__ void no_keepers_kernel(int32_t* keeper, int64_t n) {
    TK_GRID_STRIDE(i, n) keeper[i] = INT32_MAX;
}

// The smallest corner at each vertex; its fan keeps the vertex.
__global__ void keepers_kernel(const int32_t* faces, int64_t num_faces, int32_t* keeper) {
    TK_GRID_STRIDE(f, num_faces) {
        const int32_t* face = faces + 3 * f;
        if (!is_proper(face)) continue;
        for (int i = 0; i < 3; ++i) {
            const int32_t corner = static_cast<int32_t>(3 * f + i);
            lower_to(keeper + face[i], corner);
        }
    }
}

__global__ void added_kernel(const int32_t* faces, int64_t num_faces, const int32_t* parent, const int32_t* keeper, int32_t* added) {
    TK_GRID_STRIDE(c, 3 * num_faces + 1)
    added[c] = c < 3 * num_faces && parent[c] == c && is_proper(faces + c / 3 * 3) && keeper[faces[c]] != c;
}

__global__ void split_kernel(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* parent, const int32_t* added,
                             int32_t* split_faces) {
    TK_GRID_STRIDE(c, 3 * num_faces) {
        const int32_t root = find_root(parent, static_cast<int32_t>(c));
        const bool is_new = added[root + 1] != added[root];
        split_faces[c] = is_new ? static_cast<int32_t>(num_vertices + added[root]) : faces[c];
    }
}

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_unique_faces(const int32_t* faces, int64_t num_faces, int64_t num_vertices, uint8_t* keep, void* scratch,
                                int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        require_indexable(num_faces, num_vertices);
        Scratch room(scratch, scratch_bytes);
        const int64_t slots = first_equal_slots(num_faces);
        int32_t* slot = room.take<int32_t>(slots);
        if (room.only_measured()) return;
        const FaceItems items{faces};
        enter(items, num_faces, slot, slots, as_stream(stream));
        TK_LAUNCH(keep_kernel, num_faces, as_stream(stream), items, num_faces, slot, static_cast<uint64_t>(slots - 1), keep);
    });
}

TK_API int tk_mesh_weld_vertices(const float* vertices, int64_t num_vertices, int32_t* representative, void* scratch,
                                 int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        require_indexable(0, num_vertices);
        Scratch room(scratch, scratch_bytes);
        const int64_t slots = first_equal_slots(num_vertices);
        int32_t* slot = room.take<int32_t>(slots);
        if (room.only_measured()) return;
        const PointItems items{vertices};
        enter(items, num_vertices, slot, slots, as_stream(stream));
        TK_LAUNCH(represent_kernel, num_vertices, as_stream(stream), items, num_vertices, slot, static_cast<uint64_t>(slots - 1),
                  representative);
    });
}

TK_API int tk_mesh_split_fans(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* split_faces, int64_t* num_added,
                              void* scratch, int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        require_indexable(num_faces, num_vertices);
        const int64_t corners = 3 * num_faces;
        Scratch room(scratch, scratch_bytes);
        int32_t* keeper = room.take<int32_t>(num_vertices);
        int32_t* parent = room.take<int32_t>(corners);
        int32_t* added = room.take<int32_t>(corners + 1);
        Scanner scanner(room, corners + 1);
        HalfEdges halves(room, num_faces, num_vertices);
        if (room.only_measured()) return;

        const cudaStream_t s = as_stream(stream);
        halves.sort(faces, s);
        TK_LAUNCH(single_corners_kernel, corners, s, parent, corners);
        TK_LAUNCH(join_corners_kernel, corners, s, halves.view(), faces, parent);
        TK_LAUNCH(no_keepers_kernel, num_vertices, s, keeper, num_vertices);
        TK_LAUNCH(keepers_kernel, num_faces, s, faces, num_faces, keeper);
        TK_LAUNCH(added_kernel, corners + 1, s, faces, num_faces, parent, keeper, added);
        scanner.exclusive_sum(added, s);
        TK_LAUNCH(split_kernel, corners, s, faces, num_faces, num_vertices, parent, added, split_faces);
        *num_added = read_back(added + corners, s);
        require(num_vertices + *num_added <= INT32_MAX, "faces: the split mesh has more vertices than 32 bits can number");
    });
}
