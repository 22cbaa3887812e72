// The exported steps of the flat path. Included by unwrap_flat.cpp and unwrap_flat.cu, which give them the thread
// pool or the device to run on.
#pragma once

#include "trellis_mesh.h"
#include "unwrap_flat_cluster.hpp"
#include "unwrap_flat_layout.hpp"
#include "unwrap_flat_pack.hpp"
#include "unwrap_flat_surface.hpp"
#include "unwrap_flat_tree.hpp"

using namespace tk::uv::flat;
using tk::uv::TreeBox;
using tk::uv::Vec2d;

TK_API int tk_mesh_flat_measure_faces(const double* position, const int32_t* point, int64_t num_faces, double* normal, double* area, uint8_t* kind,
                                      int device, void* stream) {
    return run(device, stream, [&](Runner on) { on.each(num_faces, MeasureFace{position, point, normal, area, kind}); });
}

TK_API int tk_mesh_flat_glue(const int64_t* key, const int32_t* half, int64_t count, const int32_t* point, const double* normal, int32_t* twin,
                             int device, void* stream) {
    return run(device, stream, [&](Runner on) { on.each(count, Glue{key, half, point, normal, count, twin}); });
}

TK_API int tk_mesh_flat_smooth_normals(const double* area, const int32_t* twin, int64_t num_faces, int rounds, double* normal, double* scratch,
                                       int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        for (int i = 0; i < rounds; ++i) {
            on.each(num_faces, SmoothNormal{normal, area, twin, scratch});
            on.each(num_faces, SmoothNormal{scratch, area, twin, normal});
        }
    });
}

TK_API int tk_mesh_flat_components(const int32_t* twin, const int32_t* label, int64_t num_faces, int32_t* parent, int32_t* root, int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        on.each(num_faces, Identity{parent});
        on.each(3 * num_faces, UniteFaces{twin, label, parent});
        on.each(num_faces, Flatten{parent, root});
    });
}

TK_API int tk_mesh_flat_corner_sets(const int32_t* twin, const int32_t* label, const double* uv, int64_t num_faces, int32_t* parent, int32_t* root,
                                    int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        on.each(3 * num_faces, Identity{parent});
        on.each(3 * num_faces, UniteCorners{twin, label, uv, parent});
        on.each(3 * num_faces, Flatten{parent, root});
    });
}

// ---- clusters ----------------------------------------------------------------------------------------------------

TK_API int tk_mesh_flat_first_clusters(const double* normal, const double* area, const double* position, const int32_t* point, int64_t num_faces,
                                       double* nodes, double* length, int device, void* stream) {
    return run(device, stream, [&](Runner on) { on.each(num_faces, FirstNodes{normal, area, position, point, nodes, length}); });
}

TK_API int tk_mesh_flat_join(int64_t* ends, const double* shared, int64_t count, int64_t num_faces, double max_spread, double* nodes, int32_t* parent,
                             int64_t* cost, int64_t* best, int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        on.each(count, ClearBest{ends, num_faces, best});
        on.each(count, JoinCost{nodes, ends, shared, num_faces, max_spread, cost, best});
        on.each(count, JoinPairs{ends, cost, best, shared, num_faces, nodes, parent});
        on.each(count, RenameEnds{parent, num_faces, ends});
    });
}

TK_API int tk_mesh_flat_sum_shared(const int64_t* ends, const int64_t* order, const double* shared, int64_t count, double* sum, uint8_t* first,
                                   int device, void* stream) {
    return run(device, stream, [&](Runner on) { on.each(count, SumShared{ends, order, shared, count, sum, first}); });
}

TK_API int tk_mesh_flat_roots(int32_t* parent, int64_t count, int32_t* root, int device, void* stream) {
    return run(device, stream, [&](Runner on) { on.each(count, Flatten{parent, root}); });
}

TK_API int tk_mesh_flat_chart_sums(const double* normal, const double* area, const int32_t* label, int64_t num_faces, int64_t* sums, int device,
                                   void* stream) {
    return run(device, stream, [&](Runner on) { on.each(num_faces, ChartSums{normal, area, label, sums}); });
}

TK_API int tk_mesh_flat_border_distance(const double* area, const double* length, const int32_t* twin, const int32_t* label, int64_t num_faces,
                                        double* distance, int device, void* stream) {
    return run(device, stream, [&](Runner on) { on.each(num_faces, StartAtBorders{area, length, twin, label, distance}); });
}

TK_API int tk_mesh_flat_relax(const double* centre, const double* normal, const int32_t* twin, const int32_t* label, const int64_t* sums,
                              int64_t num_faces, int rounds, double* distance, int32_t* owner, double* distance_scratch, int32_t* owner_scratch,
                              int32_t* changed, int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        for (int i = 0; i < rounds; ++i) {
            on.each(num_faces, Relax{centre, normal, distance, twin, label, owner, sums, distance_scratch, owner_scratch, changed});
            on.each(1, Clear{changed});
            on.each(num_faces, Relax{centre, normal, distance_scratch, twin, label, owner_scratch, sums, distance, owner, changed});
        }
    });
}

TK_API int tk_mesh_flat_cores(const double* old_distance, const int32_t* label, int64_t num_faces, int64_t num_charts, int64_t* core, double* distance,
                              int32_t* owner, int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        on.each(num_faces, FindCores{old_distance, label, core});
        on.each(num_charts, StartAtCores{core, distance, owner});
    });
}

TK_API int tk_mesh_flat_straighten(const double* normal, const double* length, const int32_t* twin, const int64_t* sums, double tolerance,
                                   int64_t num_faces, int rounds, int32_t* wish, int32_t* label, int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        for (int i = 0; i < rounds; ++i) {
            on.each(num_faces, WishForChart{normal, length, twin, label, sums, tolerance, wish});
            on.each(num_faces, GrantWish{twin, wish, label});
        }
    });
}

// ---- layout ------------------------------------------------------------------------------------------------------

TK_API int tk_mesh_flat_rest_shapes(const double* position, const int32_t* point, const uint8_t* kind, int64_t num_faces, double* rest, int device,
                                    void* stream) {
    return run(device, stream, [&](Runner on) { on.each(num_faces, MakeRest{position, point, kind, rest}); });
}

TK_API int tk_mesh_flat_project(const double* position, const int32_t* vertex_point, const int32_t* vertex_chart, const int64_t* sums,
                                int64_t num_vertices, double* uv, int device, void* stream) {
    return run(device, stream, [&](Runner on) { on.each(num_vertices, Project{position, vertex_point, vertex_chart, sums, uv}); });
}

TK_API int tk_mesh_flat_colour(const int32_t* corner, const int32_t* ring_first, const int32_t* ring, int64_t num_vertices, int rounds, int32_t* colour,
                               int32_t* left, int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        for (int i = 0; i < rounds; ++i) {
            on.each(1, Clear{left});
            on.each(num_vertices, Colour{corner, ring_first, ring, colour, left});
        }
    });
}

TK_API int tk_mesh_flat_move(const int64_t* colour_first, int colours, const int32_t* list, const int32_t* corner, const int32_t* ring_first,
                             const int32_t* ring, const double* rest, const uint8_t* kind, const uint8_t* pinned, int64_t num_faces,
                             const double* softness, int sweeps, double* uv, uint8_t* active, int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        for (int s = 0; s < sweeps; ++s) {
            if (s == 0 || (softness[s] > 0) != (softness[s - 1] > 0)) on.each(num_faces, Activate{rest, uv, corner, kind, softness[s] > 0, active});
            for (int c = 0; c < colours; ++c)
                on.each(colour_first[c + 1] - colour_first[c],
                        Move{list + colour_first[c], corner, ring_first, ring, rest, active, pinned, softness[s], uv});
        }
    });
}

TK_API int tk_mesh_flat_rescale(const double* rest, const double* area, const int32_t* corner, const int32_t* label, const uint8_t* kind,
                                const int32_t* vertex_chart, int64_t num_faces, int64_t num_vertices, int64_t* sums, double* uv, int device,
                                void* stream) {
    return run(device, stream, [&](Runner on) {
        on.each(num_faces, LayoutSums{rest, uv, area, corner, label, kind, nullptr, sums});
        on.each(num_vertices, Rescale{sums, vertex_chart, uv});
    });
}

TK_API int tk_mesh_flat_judge(const double* rest, const double* area, const int32_t* corner, const int32_t* label, const uint8_t* kind,
                              const double* uv, int64_t num_faces, double max_stretch, double tolerance, int64_t* sums, uint8_t* out, int device,
                              void* stream) {
    return run(device, stream, [&](Runner on) {
        on.each(num_faces, JudgeFace{rest, uv, corner, kind, max_stretch, tolerance, out});
        on.each(num_faces, LayoutSums{rest, uv, area, corner, label, kind, out, sums});
    });
}

// ---- tree --------------------------------------------------------------------------------------------------------

TK_API int tk_mesh_flat_tree_keys(const double* corners, int64_t count, double low_x, double low_y, double scale, int64_t* keys, int device,
                                  void* stream) {
    return run(device, stream, [&](Runner on) { on.each(count, TreeKey{reinterpret_cast<const Vec2d*>(corners), low_x, low_y, scale, keys}); });
}

TK_API int tk_mesh_flat_tree_build(const double* corners, const int32_t* order, int64_t count, double tolerance, double* boxes, int device,
                                   void* stream) {
    return run(device, stream, [&](Runner on) {
        const int64_t leaves = tk::uv::tree_leaves(count);
        TreeBox* b = reinterpret_cast<TreeBox*>(boxes);
        on.each(leaves, TreeLeaf{reinterpret_cast<const Vec2d*>(corners), order, count, leaves, tolerance, b});
        for (int64_t level = leaves / 2; level > 0; level /= 2) on.each(level, TreeNode{level, b});
    });
}

TK_API int tk_mesh_flat_tree_find(const double* corners, const int32_t* order, int64_t count, double tolerance, const double* boxes, int32_t* other,
                                  int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        on.each(count, TreeFind{{reinterpret_cast<const Vec2d*>(corners), order, count, reinterpret_cast<const TreeBox*>(boxes),
                                 tk::uv::tree_leaves(count), tolerance}, other});
    });
}

// ---- packing -----------------------------------------------------------------------------------------------------

TK_API int tk_mesh_flat_boxes(const double* uv, const int64_t* chart_first, int64_t num_charts, int angles, double* boxes, int device, void* stream) {
    return run(device, stream, [&](Runner on) { on.each(num_charts * angles, BoxAtAngle{uv, chart_first, angles, boxes}); });
}

TK_API int tk_mesh_flat_draw(const double* uv, const int32_t* chart, int64_t num_faces, int64_t num_charts, const double* scales, int64_t num_scales,
                             double margin, const int32_t* size, const int64_t* offset, int32_t* low, int32_t* high, int device, void* stream) {
    return run(device, stream, [&](Runner on) {
        on.each(num_scales * num_faces, DrawFace{uv, chart, num_faces, num_charts, scales, margin, size, offset, low, high});
    });
}
