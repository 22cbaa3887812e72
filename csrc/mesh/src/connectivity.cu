// Edges, edge-connected components and the corners around vertices, on the device.
#include <memory>

#include "disjoint_sets.cuh"
#include "half_edges.cuh"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

struct EdgeList {
    HalfEdges::View halves;
    const int32_t* slot;
    bool boundary_only;
};

__device__ bool is_listed(const HalfEdges::View& halves, int64_t i, bool boundary_only) {
    return halves.is_edge(i) && halves.starts(i) && !(boundary_only && halves.continues(i));
}

__global__ void listed_kernel(HalfEdges::View halves, bool boundary_only, int32_t* slot) {
    TK_GRID_STRIDE(i, halves.count + 1) slot[i] = i < halves.count && is_listed(halves, i, boundary_only);
}

__global__ void list_kernel(EdgeList list, int32_t* edges) {
    TK_GRID_STRIDE(i, list.halves.count) {
        if (list.slot[i + 1] == list.slot[i]) continue;
        edges[2 * int64_t{list.slot[i]}] = list.halves.low(i);
        edges[2 * int64_t{list.slot[i]} + 1] = list.halves.high(i);
    }
}

__global__ void singletons_kernel(int32_t* parent, int32_t* first, int64_t n) {
    TK_GRID_STRIDE(i, n) {
        parent[i] = static_cast<int32_t>(i);
        first[i] = INT32_MAX;
    }
}

__global__ void join_faces_kernel(HalfEdges::View halves, int32_t* parent) {
    TK_GRID_STRIDE(i, halves.count) {
        if (!halves.starts(i) && halves.is_edge(i)) unite<ScatteredFirst>(parent, halves.half[i - 1] / 3, halves.half[i] / 3);
    }
}

// The smallest face of each set, by root; sets are numbered in the order of these.
__global__ void roots_kernel(int32_t* parent, int64_t n, int32_t* root, int32_t* first) {
    TK_GRID_STRIDE(f, n) {
        root[f] = find_root(parent, static_cast<int32_t>(f));
        lower_to(first + root[f], static_cast<int32_t>(f));
    }
}

__global__ void leads_kernel(const int32_t* root, const int32_t* first, int64_t n, int32_t* rank) {
    TK_GRID_STRIDE(f, n + 1) rank[f] = f < n && first[root[f]] == f;
}

__global__ void label_kernel(const int32_t* first, const int32_t* rank, int64_t n, int32_t* labels) {
    TK_GRID_STRIDE(f, n) labels[f] = rank[first[labels[f]]];
}

__global__ void corners_kernel(const int32_t* faces, int64_t count, uint32_t* owner, int32_t* corner) {
    TK_GRID_STRIDE(c, count) {
        owner[c] = static_cast<uint32_t>(faces[c]);
        corner[c] = static_cast<int32_t>(c);
    }
}

// first[v] for the vertices from that of the corner before up to this corner's own.
__global__ void first_kernel(const uint32_t* owner, int64_t count, int64_t num_vertices, int32_t* first) {
    TK_GRID_STRIDE(i, count + 1) {
        const int64_t from = i == 0 ? 0 : int64_t{owner[i - 1]} + 1, to = i == count ? num_vertices : owner[i];
        for (int64_t v = from; v <= to; ++v) first[v] = static_cast<int32_t>(i);
    }
}

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_edges_begin(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int boundary_only, void** state,
                               int64_t* num_edges, void* scratch, int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        require_indexable(num_faces, num_vertices);
        Scratch room(scratch, scratch_bytes);
        HalfEdges halves(room, num_faces, num_vertices);
        const int64_t count = 3 * num_faces;
        int32_t* slot = room.take<int32_t>(count + 1);
        Scanner scanner(room, count + 1);
        if (room.only_measured()) return;

        const cudaStream_t s = as_stream(stream);
        halves.sort(faces, s);
        auto list = std::make_unique<EdgeList>(EdgeList{halves.view(), slot, boundary_only != 0});
        TK_LAUNCH(listed_kernel, count + 1, s, list->halves, list->boundary_only, slot);
        scanner.exclusive_sum(slot, s);
        *num_edges = read_back(slot + count, s);
        *state = list.release();
    });
}

TK_API int tk_mesh_edges_fill(void* state, int32_t* edges, int device, void* stream) {
    return guarded_on(device, [&] {
        const EdgeList& list = *static_cast<const EdgeList*>(state);
        TK_LAUNCH(list_kernel, list.halves.count, as_stream(stream), list, edges);
    });
}

TK_API int tk_mesh_edges_end(void* state) {
    return guarded([&] { delete static_cast<EdgeList*>(state); });
}

TK_API int tk_mesh_connected_components(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* labels,
                                        int64_t* count, void* scratch, int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        require_indexable(num_faces, num_vertices);
        Scratch room(scratch, scratch_bytes);
        int32_t* parent = room.take<int32_t>(num_faces);
        int32_t* first = room.take<int32_t>(num_faces);
        int32_t* rank = room.take<int32_t>(num_faces + 1);
        Scanner scanner(room, num_faces + 1);
        HalfEdges halves(room, num_faces, num_vertices);
        if (room.only_measured()) return;

        const cudaStream_t s = as_stream(stream);
        halves.sort(faces, s);
        TK_LAUNCH(singletons_kernel, num_faces, s, parent, first, num_faces);
        TK_LAUNCH(join_faces_kernel, 3 * num_faces, s, halves.view(), parent);
        TK_LAUNCH(roots_kernel, num_faces, s, parent, num_faces, labels, first);
        TK_LAUNCH(leads_kernel, num_faces + 1, s, labels, first, num_faces, rank);
        scanner.exclusive_sum(rank, s);
        TK_LAUNCH(label_kernel, num_faces, s, first, rank, num_faces, labels);
        *count = read_back(rank + num_faces, s);
    });
}

TK_API int tk_mesh_vertex_corners(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* first, int32_t* corners,
                                  void* scratch, int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        require_indexable(num_faces, num_vertices);
        Scratch room(scratch, scratch_bytes);
        const int64_t count = 3 * num_faces;
        PairSorter<uint32_t> sorter(room, count, bit_width(num_vertices));
        if (room.only_measured()) return;

        const cudaStream_t s = as_stream(stream);
        TK_LAUNCH(corners_kernel, count, s, faces, count, sorter.keys(), sorter.values());
        sorter.sort(s);
        TK_LAUNCH(first_kernel, count + 1, s, sorter.keys(), count, num_vertices, first);
        if (count > 0)
            TK_CUDA(cudaMemcpyAsync(corners, sorter.values(), static_cast<size_t>(count) * sizeof(int32_t), cudaMemcpyDeviceToDevice, s));
    });
}
