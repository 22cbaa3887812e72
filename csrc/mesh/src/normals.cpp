#include "normals.hpp"

#include "topology.hpp"
#include "trellis_mesh.h"

TK_API int tk_mesh_face_normals(const float* vertices, const int32_t* faces, int64_t num_faces, float* normals, int, void*) {
    return tk::guarded([&] {
        tk::parallel_for(num_faces, 1 << 13, [&](int64_t f) {
            tk::mesh::store_direction(tk::mesh::area_normal(vertices, faces + 3 * f), normals + 3 * f);
        });
    });
}

TK_API int tk_mesh_vertex_corners(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* first,
                                  int32_t* corners, void*, int64_t*, int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        const tk::mesh::Groups groups = tk::mesh::corners_of_vertices(faces, num_faces, num_vertices, false);
        std::copy(groups.first.begin(), groups.first.end(), first);
        std::copy(groups.items.begin(), groups.items.end(), corners);
    });
}

TK_API int tk_mesh_vertex_normals(const float* vertices, const int32_t* faces, const int32_t* first, const int32_t* corners,
                                  int64_t num_vertices, int by_angle, float* normals, int, void*) {
    return tk::guarded([&] {
        tk::parallel_for(num_vertices, 1 << 12, [&](int64_t v) {
            const tk::Vec3d n = tk::mesh::vertex_normal(vertices, faces, corners + first[v], first[v + 1] - first[v], by_angle != 0);
            tk::mesh::store_direction(n, normals + 3 * v);
        });
    });
}

TK_API int tk_mesh_corner_normals(const float* vertices, const int32_t* faces, const int32_t* first, const int32_t* corners,
                                  int64_t num_vertices, double cos_crease, float* normals, int32_t* leaders, int, void*) {
    return tk::guarded([&] {
        tk::parallel_for(num_vertices, 1 << 12, [&](int64_t v) {
            tk::mesh::corner_normals(vertices, faces, corners + first[v], first[v + 1] - first[v], cos_crease, normals, leaders);
        });
    });
}
