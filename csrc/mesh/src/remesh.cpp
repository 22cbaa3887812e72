// Narrow-band dual contouring: the C functions.
#include <algorithm>
#include <memory>

#include "remesh_surface.hpp"
#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis_mesh.h"

using namespace tk;
using namespace tk::mesh;

namespace {
struct Remeshed {
    std::vector<Vec3d> vertices;
    std::vector<int32_t> faces;
};
}  // namespace

TK_API int tk_mesh_remesh_begin(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                double origin_x, double origin_y, double origin_z, double cell, int resolution, double band,
                                double project, int fill, void** state, int64_t* num_vertices, int64_t* num_new_faces,
                                int64_t* held_back, void*, int, void*) {
    return guarded([&] {
        *state = nullptr;
        const Frame frame = make_frame(num_faces, {origin_x, origin_y, origin_z}, cell, resolution, band);
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        DualSurface surface;
        {
            Field field = sample_distance(tree, frame, band);
            mark_inside(field, fill != 0);
            surface = extract_surface(field);
        }
        auto result = std::make_unique<Remeshed>();
        Triangles triangles = project_and_cut(tree, project, surface);
        result->faces = std::move(triangles.corners);
        *held_back = triangles.held_back;
        result->vertices = std::move(surface.vertices);
        *num_vertices = static_cast<int64_t>(result->vertices.size());
        *num_new_faces = static_cast<int64_t>(result->faces.size() / 3);
        *state = result.release();
    });
}

TK_API int tk_mesh_remesh_fill(const void* state, float* vertices, int32_t* faces, int, void*) {
    return guarded([&] {
        const Remeshed& result = *static_cast<const Remeshed*>(state);
        parallel_for(static_cast<int64_t>(result.vertices.size()), 1 << 14, [&](int64_t v) {
            for (int i = 0; i < 3; ++i) vertices[3 * v + i] = static_cast<float>(result.vertices[v][i]);
        });
        std::copy(result.faces.begin(), result.faces.end(), faces);
    });
}

TK_API int tk_mesh_remesh_end(void* state) {
    return guarded([&] { delete static_cast<Remeshed*>(state); });
}
