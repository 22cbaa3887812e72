// The rim of a mesh on the device: the faces around its boundary edges, and the chains that these make.
#include "rim.hpp"

#include "fans.cuh"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

template <class Op>
__global__ void faces_kernel(int64_t num_faces, Op op) {
    TK_GRID_STRIDE(f, num_faces) op(f);
}

struct Rim {
    const int32_t* faces;
    HalfEdges::View halves;
    int32_t* slot;    // [3 F + 1]: 1 for boundary edges; then the number of the edge, the last the number of them
    int32_t* parent;  // [3 F]: fans of corners
    int32_t *first, *last;  // [3 F]: by fan, the boundary edges that end in it, of which there are at most two
    int32_t* fan;     // [3 F][2]: in which the edge ends
    int32_t* chain;   // [3 F]: sets of edges
    int32_t* open;    // [3 F]: by chain
    int32_t* counts;  // edges; those in closed chains

    __device__ bool is_listed(int64_t i) const { return slot[i + 1] != slot[i]; }
    __device__ int32_t edges() const { return slot[halves.count]; }
};

__global__ void begin_kernel(Rim rim, const uint64_t* mark) {
    const HalfEdges::View& halves = rim.halves;
    TK_GRID_STRIDE(i, halves.count + 1) {
        const bool listed = i < halves.count && halves.is_edge(i) && halves.starts(i) && !halves.continues(i);
        rim.slot[i] = listed && mark[halves.low(i)] && mark[halves.high(i)];
        if (i == halves.count) {
            rim.counts[1] = 0;
            continue;
        }
        rim.parent[i] = static_cast<int32_t>(i);
        rim.first[i] = INT32_MAX;
        rim.last[i] = -1;
    }
}

__global__ void fans_kernel(Rim rim) {
    TK_GRID_STRIDE(i, rim.halves.count) join_fans(rim.halves, rim.faces, i, rim.parent);
}

__global__ void edges_kernel(Rim rim, int32_t* edges) {
    TK_GRID_STRIDE(i, rim.halves.count) {
        if (!rim.is_listed(i)) continue;
        const int32_t e = rim.slot[i], h = rim.halves.half[i];
        edges[2 * int64_t{e}] = rim.halves.low(i);
        edges[2 * int64_t{e} + 1] = rim.halves.high(i);
        rim.chain[e] = e;
        rim.open[e] = 0;
        for (int k = 0; k < 2; ++k) {
            const int32_t fan = find_root(rim.parent, k ? next_in_face(h) : h);
            rim.fan[2 * int64_t{e} + k] = fan;
            atomicMin(rim.first + fan, e);
            atomicMax(rim.last + fan, e);
        }
    }
}

__global__ void join_edges_kernel(Rim rim) {
    TK_GRID_STRIDE(i, 2 * int64_t{rim.edges()}) {
        const int32_t fan = rim.fan[i], e = static_cast<int32_t>(i / 2);
        if (rim.first[fan] == e && rim.last[fan] != e) unite<ScatteredFirst>(rim.chain, e, rim.last[fan]);
    }
}

__global__ void open_kernel(Rim rim) {
    TK_GRID_STRIDE(i, 2 * int64_t{rim.edges()}) {
        const int32_t fan = rim.fan[i];
        if (rim.first[fan] == rim.last[fan]) rim.open[find_root(rim.chain, static_cast<int32_t>(i / 2))] = 1;
    }
}

__global__ void closed_kernel(Rim rim, uint8_t* closed) {
    if (blockIdx.x == 0 && threadIdx.x == 0) rim.counts[0] = rim.edges();
    TK_GRID_STRIDE(e, rim.edges()) {
        closed[e] = !rim.open[find_root(rim.chain, static_cast<int32_t>(e))];
        if (closed[e]) atomicAdd(rim.counts + 1, 1);
    }
}

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_rim_faces(const int32_t* faces, int64_t num_faces, int64_t num_vertices, uint64_t* mark, uint8_t* touching, int device,
                             void* stream) {
    return guarded_on(device, [&] {
        require_indexable(num_faces, num_vertices);
        const cudaStream_t s = as_stream(stream);
        if (num_vertices > 0) TK_CUDA(cudaMemsetAsync(mark, 0, static_cast<size_t>(num_vertices) * sizeof *mark, s));
        TK_LAUNCH(faces_kernel, num_faces, s, num_faces, MarkFace{faces, mark});
        TK_LAUNCH(faces_kernel, num_faces, s, num_faces, TouchFace{faces, mark, touching});
    });
}

TK_API int tk_mesh_rim_chains(const int32_t* faces, int64_t num_faces, int64_t num_vertices, const uint64_t* mark, int32_t* edges,
                              uint8_t* closed, int64_t* counts, void* scratch, int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        require_indexable(num_faces, num_vertices);
        const int64_t count = 3 * num_faces;
        Scratch room(scratch, scratch_bytes);
        Rim rim{};
        rim.faces = faces;
        rim.slot = room.take<int32_t>(count + 1);
        for (int32_t** array : {&rim.parent, &rim.first, &rim.last, &rim.chain, &rim.open}) *array = room.take<int32_t>(count);
        rim.fan = room.take<int32_t>(2 * count);
        rim.counts = room.take<int32_t>(2);
        Scanner scanner(room, count + 1);
        HalfEdges halves(room, num_faces, num_vertices);
        if (room.only_measured()) return;

        const cudaStream_t s = as_stream(stream);
        halves.sort(faces, s);
        rim.halves = halves.view();
        TK_LAUNCH(begin_kernel, count + 1, s, rim, mark);
        TK_LAUNCH(fans_kernel, count, s, rim);
        scanner.exclusive_sum(rim.slot, s);
        TK_LAUNCH(edges_kernel, count, s, rim, edges);
        TK_LAUNCH(join_edges_kernel, 2 * count, s, rim);
        TK_LAUNCH(open_kernel, 2 * count, s, rim);
        TK_LAUNCH(closed_kernel, count + 1, s, rim, closed);
        struct Counts {
            int32_t edges, closed;
        };
        const Counts found = read_back(reinterpret_cast<const Counts*>(rim.counts), s);
        counts[0] = found.edges;
        counts[1] = found.closed;
    });
}
