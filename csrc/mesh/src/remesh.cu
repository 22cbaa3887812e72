// Narrow-band dual contouring on the device: the way of the new surface back to the mesh, and the C functions.
#include <cmath>
#include <memory>

#include "remesh_device.cuh"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

struct Ways {
    const Vec3d *from, *way;
    float* share;
    Vec3d* at;
};

struct Places {
    const Vec3d* at;
    __device__ Vec3f operator()(int64_t v) const { return static_cast<Vec3f>(at[v]); }
};

__global__ void __launch_bounds__(query_block) ways_kernel(BvhView tree, int64_t count, Places from, const int32_t* seed,
                                                         float project, Vec3d* way, float* share) {
    TK_GRID_STRIDE(v, count) {
        const Vec3f point = from(v);
        const DeviceClosest found = closest_on_device(tree, point, __builtin_inff(), seed[v / queries_per_seed]);
        Vec3d sum = {0, 0, 0};
        if (found.slot >= 0) {
            Vec3d corner[3];
            slot_corners(tree, found.slot, point, corner);
            const Vec3d weight = closest_barycentric(corner[0], corner[1], corner[2]);
            for (int k = 0; k < 3; ++k) sum = add_scaled(sum, corner[k], weight[k]);
        }
        way[v] = sum;
        share[v] = project;
    }
}

__global__ void move_kernel(Ways ways, int64_t count) {
    TK_GRID_STRIDE(v, count) ways.at[v] = add_scaled(ways.from[v], ways.way[v], static_cast<double>(ways.share[v]));
}

__global__ void sizes_kernel(const Quad* quads, int64_t count, int32_t* start) {
    TK_GRID_STRIDE(q, count + 1) start[q] = q < count ? triangles_of(quads[q]) : 0;
}

__global__ void cut_kernel(const Quad* quads, const int32_t* start, int64_t count, const Vec3d* at, int32_t* triangles) {
    TK_GRID_STRIDE(q, count) cut_quad(quads[q], at, triangles + 3 * int64_t{start[q]});
}

__global__ void turned_kernel(const int32_t* triangles, int64_t count, Ways ways, uint8_t* turned, int32_t* any) {
    TK_GRID_STRIDE(f, count) {
        const int32_t* c = triangles + 3 * f;
        if (!turns_over(ways.from, ways.at, c)) continue;
        for (int k = 0; k < 3; ++k) {
            if (ways.share[c[k]] == 0) continue;
            turned[c[k]] = 1;
            *any = 1;
        }
    }
}

__global__ void hold_back_kernel(const uint8_t* turned, int64_t count, bool halve, float* share) {
    TK_GRID_STRIDE(v, count) {
        if (turned[v]) share[v] = halve ? share[v] * 0.5f : 0;
    }
}

__global__ void held_back_kernel(const float* share, int64_t count, float project, unsigned long long* held_back) {
    TK_GRID_STRIDE(v, count) {
        if (share[v] < project) atomicAdd(held_back, 1ull);
    }
}

__global__ void store_kernel(const Vec3d* from, int64_t count, float* vertices) {
    TK_GRID_STRIDE(i, 3 * count) vertices[i] = static_cast<float>(from[i / 3][static_cast<int>(i % 3)]);
}

DeviceTriangles cut(const Arena& arena, const DeviceSurface& surface, cudaStream_t stream) {
    const int64_t count = surface.num_quads;
    int32_t* start = arena.take<int32_t>(count + 1);
    TK_LAUNCH(sizes_kernel, count + 1, stream, surface.quads, count, start);
    DeviceTriangles triangles{arena.scan(start, count + 1, stream), nullptr, 0};
    triangles.corners = arena.take<int32_t>(3 * triangles.count);
    TK_LAUNCH(cut_kernel, count, stream, surface.quads, start, count, surface.vertices, triangles.corners);
    return triangles;
}

struct Remeshed {
    DeviceSurface surface;
    DeviceTriangles triangles;
};

}  // namespace

DeviceTriangles project_and_cut(const Arena& arena, const BvhView& tree, double project, DeviceSurface& surface, cudaStream_t stream) {
    if (project == 0) return cut(arena, surface, stream);
    const int64_t count = surface.num_vertices;
    Vec3d *way = arena.take<Vec3d>(count), *at = arena.take<Vec3d>(count);
    float* share = arena.take<float>(count);
    const float whole = static_cast<float>(project);
    const Ways ways{surface.vertices, way, share, at};
    int32_t* seed = arena.take<int32_t>(seeds_of(count));
    const Places from{surface.vertices};
    find_seeds(tree, from, count, __builtin_inff(), seed, stream);
    if (count > 0)
        ways_kernel<<<grid_size(count, query_block), query_block, 0, stream>>>(tree, count, from, seed, whole, way, share);
    TK_LAUNCH(move_kernel, count, stream, ways, count);
    surface.vertices = at;
    DeviceTriangles triangles = cut(arena, surface, stream);

    uint8_t* turned = arena.take<uint8_t>(count);
    int32_t* any = arena.take<int32_t>(1);
    for (int round = 0;; ++round) {
        if (count > 0) TK_CUDA(cudaMemsetAsync(turned, 0, static_cast<size_t>(count), stream));
        TK_CUDA(cudaMemsetAsync(any, 0, sizeof *any, stream));
        TK_LAUNCH(turned_kernel, triangles.count, stream, triangles.corners, triangles.count, ways, turned, any);
        if (!read_back(any, stream)) break;
        TK_LAUNCH(hold_back_kernel, count, stream, turned, count, round < halvings, share);
        TK_LAUNCH(move_kernel, count, stream, ways, count);
    }
    unsigned long long* held_back = arena.take<unsigned long long>(1);
    TK_CUDA(cudaMemsetAsync(held_back, 0, sizeof *held_back, stream));
    TK_LAUNCH(held_back_kernel, count, stream, share, count, whole, held_back);
    triangles.held_back = static_cast<int64_t>(read_back(held_back, stream));
    return triangles;
}

}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_remesh_begin(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces, double origin_x,
                                double origin_y, double origin_z, double cell, int resolution, double band, double project, int fill,
                                void** state, int64_t* num_vertices, int64_t* num_new_faces, int64_t* held_back, void* allocate, int device,
                                void* stream) {
    return guarded_on(device, [&] {
        *state = nullptr;
        const Frame frame = make_frame(num_faces, {origin_x, origin_y, origin_z}, cell, resolution, band);
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        const Arena arena(allocate);
        const cudaStream_t s = as_stream(stream);
        DeviceField field = sample_distance(arena, tree, frame, band, s);
        mark_inside(arena, field, fill != 0, s);
        auto result = std::make_unique<Remeshed>();
        result->surface = extract_surface(arena, field, s);
        result->triangles = project_and_cut(arena, tree, project, result->surface, s);
        *num_vertices = result->surface.num_vertices;
        *num_new_faces = result->triangles.count;
        *held_back = result->triangles.held_back;
        *state = result.release();
    });
}

TK_API int tk_mesh_remesh_fill(const void* state, float* vertices, int32_t* faces, int device, void* stream) {
    return guarded_on(device, [&] {
        const Remeshed& result = *static_cast<const Remeshed*>(state);
        const cudaStream_t s = as_stream(stream);
        TK_LAUNCH(store_kernel, 3 * int64_t{result.surface.num_vertices}, s, result.surface.vertices, result.surface.num_vertices, vertices);
        const size_t bytes = static_cast<size_t>(result.triangles.count) * 3 * sizeof(int32_t);
        if (bytes > 0) TK_CUDA(cudaMemcpyAsync(faces, result.triangles.corners, bytes, cudaMemcpyDeviceToDevice, s));
    });
}

TK_API int tk_mesh_remesh_end(void* state) {
    return guarded([&] { delete static_cast<Remeshed*>(state); });
}
