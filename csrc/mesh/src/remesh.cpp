// Narrow-band dual contouring: the C functions.
#include <algorithm>
#include <cmath>
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
                                int64_t* held_back, int, void*) {
    return guarded([&] {
        require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
        require(resolution >= 1 && resolution <= 2048, format("resolution: expected 1 to 2048, got %d", resolution));
        require(cell > 0 && std::isfinite(cell), format("cell: expected a positive size, got %g", cell));
        require(band > 0 && band <= 16, format("band: expected more than 0 and at most 16 cells, got %g", band));
        *state = nullptr;
        const BvhView tree{nodes, leaves, ids, BvhShape(num_faces)};
        Frame frame;
        frame.origin = {origin_x, origin_y, origin_z};
        frame.cell = cell;
        // Room for the band, for the cells at its rim, and for a layer of bricks out of reach from any of their corners.
        const int margin = (static_cast<int>(std::ceil(band)) + 3 + brick_side - 1) / brick_side + 1;
        frame.pad = margin * brick_side;
        frame.bricks = (resolution + brick_side) / brick_side + 2 * margin;
        const Vec3d low = frame.position(0, 0, 0), high = frame.position(8.0 * frame.bricks, 8.0 * frame.bricks, 8.0 * frame.bricks);
        double largest = 0;
        for (int i = 0; i < 3; ++i) largest = std::max({largest, std::fabs(low[i]), std::fabs(high[i])});
        // Two corners, each off by at most half a unit in the last place of three coordinates, and their distances.
        require(largest * 2.5e-7 <= rounding_slack * cell,
                format("resolution: cells of size %g are too small for float32 coordinates up to %g; expected a lower resolution, or a "
                       "mesh nearer to the origin", cell, largest));
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
