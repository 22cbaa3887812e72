// Compiled without fused multiply-add, for the bits of the CPU: a face of which two corners lie at one place has no area.
#include "normals.hpp"

#include "trellis/cuda.cuh"
#include "trellis_mesh.h"

namespace {

constexpr int block = 256;

__global__ void face_normals_kernel(const float* vertices, const int32_t* faces, int64_t num_faces, float* normals) {
    TK_GRID_STRIDE(f, num_faces) {
        tk::mesh::store_direction(tk::mesh::area_normal(vertices, faces + 3 * f), normals + 3 * f);
    }
}

__global__ void proper_faces_kernel(const float* vertices, const int32_t* faces, int64_t num_faces, double absolute,
                                    double relative, uint8_t* keep) {
    TK_GRID_STRIDE(f, num_faces) keep[f] = tk::mesh::has_area(vertices, faces + 3 * f, absolute, relative);
}

// One thread gathers one vertex: no atomics, and each sum is made in the order of its list.
__global__ void vertex_normals_kernel(const float* vertices, const int32_t* faces, const int32_t* first, const int32_t* corners,
                                      int64_t num_vertices, bool by_angle, float* normals) {
    TK_GRID_STRIDE(v, num_vertices) {
        const int32_t begin = first[v], count = first[v + 1] - begin;
        tk::mesh::store_direction(tk::mesh::vertex_normal(vertices, faces, corners + begin, count, by_angle), normals + 3 * v);
    }
}

__global__ void corner_normals_kernel(const float* vertices, const int32_t* faces, const int32_t* first, const int32_t* corners,
                                      int64_t num_vertices, double cos_crease, float* normals, int32_t* leaders) {
    TK_GRID_STRIDE(v, num_vertices) {
        const int32_t begin = first[v], count = first[v + 1] - begin;
        tk::mesh::corner_normals(vertices, faces, corners + begin, count, cos_crease, normals, leaders);
    }
}

}  // namespace

TK_API int tk_mesh_face_normals(const float* vertices, const int32_t* faces, int64_t num_faces, float* normals, int device,
                                void* stream) {
    return tk::guarded_on(device, [&] {
        if (num_faces == 0) return;
        face_normals_kernel<<<tk::grid_size(num_faces, block), block, 0, static_cast<cudaStream_t>(stream)>>>(
            vertices, faces, num_faces, normals);
    });
}

TK_API int tk_mesh_vertex_normals(const float* vertices, const int32_t* faces, const int32_t* first, const int32_t* corners,
                                  int64_t num_vertices, int by_angle, float* normals, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        if (num_vertices == 0) return;
        vertex_normals_kernel<<<tk::grid_size(num_vertices, block), block, 0, static_cast<cudaStream_t>(stream)>>>(
            vertices, faces, first, corners, num_vertices, by_angle != 0, normals);
    });
}

TK_API int tk_mesh_proper_faces(const float* vertices, const int32_t* faces, int64_t num_faces, double absolute, double relative,
                                uint8_t* keep, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        if (num_faces == 0) return;
        proper_faces_kernel<<<tk::grid_size(num_faces, block), block, 0, static_cast<cudaStream_t>(stream)>>>(
            vertices, faces, num_faces, absolute, relative, keep);
    });
}

TK_API int tk_mesh_corner_normals(const float* vertices, const int32_t* faces, const int32_t* first, const int32_t* corners,
                                  int64_t num_vertices, double cos_crease, float* normals, int32_t* leaders, int device,
                                  void* stream) {
    return tk::guarded_on(device, [&] {
        if (num_vertices == 0) return;
        corner_normals_kernel<<<tk::grid_size(num_vertices, block), block, 0, static_cast<cudaStream_t>(stream)>>>(
            vertices, faces, first, corners, num_vertices, cos_crease, normals, leaders);
    });
}
