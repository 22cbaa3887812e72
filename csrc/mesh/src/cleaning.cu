// Duplicate faces and vertices, fans around vertices, and the sizes of components, on the device.
#include "disjoint_sets.cuh"
#include "exact_sum.cuh"
#include "first_equal.cuh"
#include "half_edges.cuh"
#include "normals.hpp"
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

__device__ int32_t next_in_face(int32_t corner) { return corner % 3 == 2 ? corner - 2 : corner + 1; }

__global__ void single_corners_kernel(int32_t* parent, int64_t n) {
    TK_GRID_STRIDE(i, n) parent[i] = static_cast<int32_t>(i);
}

// Joins the corners of faces that meet across an edge of exactly two (fans_of_corners of topology.hpp).
__global__ void join_corners_kernel(HalfEdges::View halves, const int32_t* faces, int32_t* parent) {
    TK_GRID_STRIDE(i, halves.count) {
        if (!halves.starts(i) || !halves.is_edge(i) || !halves.joins_two(i)) continue;
        const int32_t g = halves.half[i], h = halves.half[i + 1], g2 = next_in_face(g), h2 = next_in_face(h);
        const bool same_direction = faces[g] == faces[h];
        unite(parent, g, same_direction ? h : h2);
        unite(parent, g2, same_direction ? h2 : h);
    }
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
            if (corner < *static_cast<volatile int32_t*>(keeper + face[i])) atomicMin(keeper + face[i], corner);
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

// ---- Sizes of components ----

struct Sizes {
    int64_t* face_counts;
    double* areas;
    float *lows, *highs;
};

__global__ void clear_sizes_kernel(Sizes sizes, int64_t count) {
    TK_GRID_STRIDE(c, count) {
        sizes.face_counts[c] = 0;
        for (int k = 0; k < 3; ++k) {
            sizes.lows[3 * c + k] = __builtin_inff();
            sizes.highs[3 * c + k] = -__builtin_inff();
        }
    }
}

__device__ double face_area(const float* vertices, const int32_t* face) { return 0.5 * length(area_normal(vertices, face)); }

__global__ void largest_area_kernel(const float* vertices, const int32_t* faces, int64_t num_faces, uint64_t* largest) {
    uint64_t own = 0;
    TK_GRID_STRIDE(f, num_faces) own = max(own, magnitude_bits(face_area(vertices, faces + 3 * f)));
    raise_to_largest(largest, own);
}

// Floats compare as integers do once the negative ones are mirrored.
__device__ void lower(float* low, float x) {
    if (x < *static_cast<volatile float*>(low)) {
        if (__float_as_int(x) >= 0)
            atomicMin(reinterpret_cast<int*>(low), __float_as_int(x));
        else
            atomicMax(reinterpret_cast<unsigned*>(low), __float_as_uint(x));
    }
}
__device__ void raise(float* high, float x) {
    if (x > *static_cast<volatile float*>(high)) {
        if (__float_as_int(x) >= 0)
            atomicMax(reinterpret_cast<int*>(high), __float_as_int(x));
        else
            atomicMin(reinterpret_cast<unsigned*>(high), __float_as_uint(x));
    }
}

__global__ void measure_kernel(const float* vertices, const int32_t* faces, const int32_t* labels, int64_t num_faces,
                               const uint64_t* largest, ExactSum* sums, Sizes sizes) {
    const FixedPoint fixed(*largest, num_faces);
    const int64_t rounds = (num_faces + 31) / 32 * 32;
    TK_GRID_STRIDE(f, rounds) {
        const bool exists = f < num_faces;
        const int32_t label = exists ? labels[f] : -1;
        const double area = exists ? face_area(vertices, faces + 3 * f) : 0;
        // A warp of one component, as most are, adds once.
        const bool whole = __all_sync(~0u, label == __shfl_sync(~0u, label, 0));
        ExactSum part = area > 0 && isfinite(area) ? fixed.split(area) : ExactSum{0, 0};
        unsigned long long count = 1;
        float low[3] = {__builtin_inff(), __builtin_inff(), __builtin_inff()}, high[3] = {-low[0], -low[0], -low[0]};
        if (exists)
            for (int i = 0; i < 3; ++i)
                for (int k = 0; k < 3; ++k) {
                    const float x = vertices[3 * int64_t{faces[3 * f + i]} + k];
                    low[k] = x < low[k] ? x : low[k];
                    high[k] = x > high[k] ? x : high[k];
                }
        if (whole) {
            count = 32;
            for (int step = 16; step > 0; step /= 2) {
                part.high += __shfl_down_sync(~0u, part.high, step);
                part.low += __shfl_down_sync(~0u, part.low, step);
                for (int k = 0; k < 3; ++k) {
                    low[k] = fminf(low[k], __shfl_down_sync(~0u, low[k], step));
                    high[k] = fmaxf(high[k], __shfl_down_sync(~0u, high[k], step));
                }
            }
        }
        if (!exists || (whole && f % 32 != 0)) continue;
        add(sums + label, part);
        atomicAdd(reinterpret_cast<unsigned long long*>(sizes.face_counts + label), count);
        for (int k = 0; k < 3; ++k) {
            lower(sizes.lows + 3 * int64_t{label} + k, low[k]);
            raise(sizes.highs + 3 * int64_t{label} + k, high[k]);
        }
    }
}

__global__ void areas_kernel(const uint64_t* largest, int64_t num_faces, const ExactSum* sums, int64_t count, double* areas) {
    const FixedPoint fixed(*largest, num_faces);
    TK_GRID_STRIDE(c, count) areas[c] = fixed.value(sums[c]);
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

TK_API int tk_mesh_component_sizes(const float* vertices, const int32_t* faces, const int32_t* labels, int64_t num_faces,
                                   int64_t num_components, int64_t* face_counts, double* areas, float* lows, float* highs,
                                   void* scratch, int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        Scratch room(scratch, scratch_bytes);
        uint64_t* largest = room.take<uint64_t>(1);
        ExactSum* sums = room.take<ExactSum>(num_components);
        if (room.only_measured()) return;

        const cudaStream_t s = as_stream(stream);
        const Sizes sizes{face_counts, areas, lows, highs};
        TK_LAUNCH(clear_sizes_kernel, num_components, s, sizes, num_components);
        TK_CUDA(cudaMemsetAsync(largest, 0, sizeof *largest, s));
        if (num_components > 0) TK_CUDA(cudaMemsetAsync(sums, 0, static_cast<size_t>(num_components) * sizeof(ExactSum), s));
        TK_LAUNCH(largest_area_kernel, num_faces, s, vertices, faces, num_faces, largest);
        TK_LAUNCH(measure_kernel, num_faces, s, vertices, faces, labels, num_faces, largest, sums, sizes);
        TK_LAUNCH(areas_kernel, num_components, s, largest, num_faces, sums, num_components, areas);
    });
}
