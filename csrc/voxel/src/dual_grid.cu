// Mesh to flexible dual grid on the GPU; see dual_grid.cpp for what it computes.
//
// A thread takes one triangle in one tile, so that no thread has more than a tile's worth of work however large the
// triangle. Threads list what they find in the order of the triangles, first counting, then filling; a stable sort by
// voxel keeps that order, and one thread for each voxel adds its list up. The sums are those of the CPU to the bit
// (this file is compiled without fused multiply-add).
#include <memory>

#include "boundary.hpp"
#include "crossings.hpp"
#include "device_lists.cuh"
#include "dual_cell.hpp"
#include "tiles.hpp"
#include "trellis_voxel.h"

namespace tk::voxel {
namespace {

struct Scene {
    Mesh mesh;
    Lattice lattice;
    Weights weights;

    TK_INLINE uint64_t key(const Vec3i& c) const {
        return (static_cast<uint64_t>(c.x) * static_cast<uint64_t>(lattice.size.y) + static_cast<uint64_t>(c.y)) *
                   static_cast<uint64_t>(lattice.size.z) + static_cast<uint64_t>(c.z);
    }
    TK_INLINE Vec3i voxel(uint64_t key) const {
        const uint64_t y = static_cast<uint64_t>(lattice.size.y), z = static_cast<uint64_t>(lattice.size.z), row = key / z;
        return {static_cast<int>(row / y), static_cast<int>(row % y), static_cast<int>(key % z)};
    }
    uint64_t volume() const {
        return static_cast<uint64_t>(lattice.size.x) * static_cast<uint64_t>(lattice.size.y) * static_cast<uint64_t>(lattice.size.z);
    }
};

// Triangles and the tiles that each may reach into, in the order of the triangles.
struct Tasks {
    uint32_t* triangles;
    uint64_t* tiles;
    int64_t n;
};

// A point where a triangle meets a lattice line.
struct CrossingPoint {
    Vec3f at;
    uint32_t triangle_and_axis;  // the axis in the two highest bits
};
constexpr int axis_shift = 30;
constexpr uint32_t triangle_mask = (uint32_t{1} << axis_shift) - 1;

// In the list of voxels around crossings, a value is the number of the crossing above this bit, which is set in the
// lowest of its four voxels.
constexpr uint32_t lowest_voxel = 1;

__global__ void count_tiles(Scene scene, Quadric* planes, int64_t* counts) {
    TK_GRID_STRIDE(f, scene.mesh.face_count) {
        const Triangle t = scene.mesh.triangle(f);
        planes[f] = plane_quadric(unit_normal(t), t.v[0]);
        int64_t count = 0;
        for_each_tile(tile_range(t, scene.lattice, scene.weights.faces), t, scene.lattice, [&](const Vec3i&) { ++count; });
        counts[f] = count;
    }
}

__global__ void list_tiles(Scene scene, const int64_t* begins, Tasks tasks) {
    TK_GRID_STRIDE(f, scene.mesh.face_count) {
        const Triangle t = scene.mesh.triangle(f);
        const Tiling tiling(scene.lattice);
        int64_t at = begins[f];
        for_each_tile(tile_range(t, scene.lattice, scene.weights.faces), t, scene.lattice, [&](const Vec3i& tile) {
            tasks.triangles[at] = static_cast<uint32_t>(f);
            tasks.tiles[at++] = tiling.key(tile);
        });
    }
}

// Calls visit(crossing, axis) for the crossings of a triangle that touch voxels of `box`, in the order of the CPU.
template <class Visit>
__device__ void cross_all(const Triangle& t, const Lattice& lattice, const CellBox& box, Visit&& visit) {
    cross_lattice_lines<0>(t, lattice, box, [&](const Crossing& c) { visit(c, 0); });
    cross_lattice_lines<1>(t, lattice, box, [&](const Crossing& c) { visit(c, 1); });
    cross_lattice_lines<2>(t, lattice, box, [&](const Crossing& c) { visit(c, 2); });
}

// Calls visit(voxel, number) for those of the four voxels around a crossing that lie in `box`.
template <class Visit>
__device__ void around_crossing(const Crossing& crossing, int axis, const CellBox& box, Visit&& visit) {
    const int u = axis == 2 ? 0 : axis + 1, v = axis == 0 ? 2 : axis - 1;
    for (int around = 0; around < 4; ++around) {
        Vec3i c = crossing.i;
        c[u] += around >> 1;
        c[v] += around & 1;
        if (box.contains(u, c[u]) && box.contains(v, c[v])) visit(c, around);
    }
}

__global__ void count_crossings(Scene scene, Tasks tasks, int64_t* crossing_counts, int64_t* voxel_counts) {
    TK_GRID_STRIDE(i, tasks.n) {
        const CellBox box = Tiling(scene.lattice).voxels(tasks.tiles[i]);
        int crossings = 0, voxels = 0;
        cross_all(scene.mesh.triangle(tasks.triangles[i]), scene.lattice, box, [&](const Crossing& crossing, int axis) {
            ++crossings;
            around_crossing(crossing, axis, box, [&](const Vec3i&, int) { ++voxels; });
        });
        crossing_counts[i] = crossings;
        voxel_counts[i] = voxels;
    }
}

__global__ void list_crossings(Scene scene, Tasks tasks, const int64_t* crossing_begins, const int64_t* voxel_begins,
                               CrossingPoint* crossings, uint64_t* keys, uint32_t* values) {
    TK_GRID_STRIDE(i, tasks.n) {
        const CellBox box = Tiling(scene.lattice).voxels(tasks.tiles[i]);
        const uint32_t triangle = tasks.triangles[i];
        int64_t at = crossing_begins[i], to = voxel_begins[i];
        cross_all(scene.mesh.triangle(triangle), scene.lattice, box, [&](const Crossing& crossing, int axis) {
            crossings[at] = {static_cast<Vec3f>(crossing.at), triangle | static_cast<uint32_t>(axis) << axis_shift};
            around_crossing(crossing, axis, box, [&](const Vec3i& c, int around) {
                keys[to] = scene.key(c);
                values[to++] = static_cast<uint32_t>(at) << 1 | (around == 0 ? lowest_voxel : 0);
            });
            ++at;
        });
    }
}

// Calls visit(key of the voxel) for the voxels of a task that its triangle overlaps; only for those that exist where
// `existing` is not null.
template <class Visit>
__device__ void overlap_all(const Scene& scene, const Tasks& tasks, int64_t i, const Runs* existing, Visit&& visit) {
    const Triangle t = scene.mesh.triangle(tasks.triangles[i]);
    const CellBox box = bounding_cells(t, scene.lattice).clipped(Tiling(scene.lattice).voxels(tasks.tiles[i]));
    if (box.empty()) return;
    OverlapTest(t, unit_normal(t), scene.lattice).for_each(
        box, [](int, int, int) { return true; },
        [&](int x, int y, int z) {
            const uint64_t key = scene.key({x, y, z});
            if (!existing || existing->find(key) >= 0) visit(key);
        });
}

__global__ void count_overlaps(Scene scene, Tasks tasks, Runs voxels, bool only_existing, int64_t* counts) {
    TK_GRID_STRIDE(i, tasks.n) {
        int count = 0;
        overlap_all(scene, tasks, i, only_existing ? &voxels : nullptr, [&](uint64_t) { ++count; });
        counts[i] = count;
    }
}

__global__ void list_overlaps(Scene scene, Tasks tasks, Runs voxels, bool only_existing, const int64_t* begins, uint64_t* keys, uint32_t* values) {
    TK_GRID_STRIDE(i, tasks.n) {
        int64_t at = begins[i];
        overlap_all(scene, tasks, i, only_existing ? &voxels : nullptr, [&](uint64_t key) {
            keys[at] = key;
            values[at++] = tasks.triangles[i];
        });
    }
}

__global__ void list_sides(Mesh mesh, uint64_t* keys, uint32_t* values) {
    TK_GRID_STRIDE(i, mesh.face_count * 3) {
        const int64_t f = i / 3;
        const int32_t a = mesh.faces[i], b = mesh.faces[f * 3 + (i - f * 3 + 1) % 3];
        keys[i] = static_cast<uint64_t>(lesser(a, b)) * static_cast<uint64_t>(mesh.vertex_count) + static_cast<uint64_t>(greater(a, b));
        values[i] = 0;
    }
}

// Calls visit(row of the voxel) for the voxels that exist along a side that only one face has.
template <class Visit>
__device__ void walk_boundary(const Scene& scene, const Runs& sides, int64_t i, float shortest, const Runs& voxels, Visit&& visit) {
    if (sides.begins[i + 1] != sides.begins[i] + 1) return;
    const uint64_t base = static_cast<uint64_t>(scene.mesh.vertex_count);
    const Vec3f a = scene.mesh.vertex(static_cast<int64_t>(sides.keys[i] / base)), b = scene.mesh.vertex(static_cast<int64_t>(sides.keys[i] % base));
    if (!(length(static_cast<Vec3d>(b - a)) >= shortest)) return;
    walk_segment(a, b, scene.lattice, [&](const Vec3i& c) {
        const int64_t row = voxels.find(scene.key(c));
        if (row >= 0) visit(row);
    });
}

__global__ void count_boundary(Scene scene, Runs sides, float shortest, Runs voxels, int64_t* counts) {
    TK_GRID_STRIDE(i, sides.n) {
        int64_t count = 0;
        walk_boundary(scene, sides, i, shortest, voxels, [&](int64_t) { ++count; });
        counts[i] = count;
    }
}

__global__ void list_boundary(Scene scene, Runs sides, float shortest, Runs voxels, const int64_t* begins, uint64_t* keys, uint32_t* values) {
    TK_GRID_STRIDE(i, sides.n) {
        int64_t at = begins[i];
        walk_boundary(scene, sides, i, shortest, voxels, [&](int64_t row) {
            keys[at] = static_cast<uint64_t>(row);
            values[at++] = static_cast<uint32_t>(i);
        });
    }
}

// All that the voxels are made of.
struct Contributions {
    Scene scene;
    const Quadric* planes;
    const CrossingPoint* crossings;
    const uint32_t* around;  // see lowest_voxel; in the order of `voxels`
    int64_t around_count;
    Runs voxels;
    Pairs overlaps;  // triangles by row of the voxel; rows from voxels.n on are of none
    Runs sides;
    Pairs boundary;  // sides by row of the voxel
};

// Calls visit(value) for the pairs of a key.
template <class Visit>
__device__ void for_key(const Pairs& sorted, uint64_t key, Visit&& visit) {
    for (int64_t i = lower_bound(sorted.keys, sorted.n, key); i < sorted.n && sorted.keys[i] == key; ++i) visit(sorted.values[i]);
}

__global__ void solve_voxels(Contributions from, int32_t* coords, float* dual_vertices, uint8_t* intersected) {
    const Scene& scene = from.scene;
    TK_GRID_STRIDE(row, from.voxels.n) {
        DualCell cell;
        for (uint32_t e = from.voxels.begins[row]; e < from.voxels.begins[row + 1]; ++e) {
            const uint32_t value = from.around[e];
            const CrossingPoint crossing = from.crossings[value >> 1];
            cell.add_crossing(crossing.at, from.planes[crossing.triangle_and_axis & triangle_mask]);
            if (value & lowest_voxel) cell.intersected |= static_cast<uint8_t>(1 << (crossing.triangle_and_axis >> axis_shift));
        }
        for_key(from.overlaps, static_cast<uint64_t>(row), [&](uint32_t triangle) { cell.quadric += from.planes[triangle]; });
        for_key(from.boundary, static_cast<uint64_t>(row), [&](uint32_t side) {
            const uint64_t base = static_cast<uint64_t>(scene.mesh.vertex_count), key = from.sides.keys[side];
            const Vec3f a = scene.mesh.vertex(static_cast<int64_t>(key / base)), b = scene.mesh.vertex(static_cast<int64_t>(key % base));
            cell.quadric += line_quadric(a, b) * scene.weights.boundary;
        });
        const Vec3i c = scene.voxel(from.voxels.keys[row]);
        const Vec3f dual = cell.dual(c, scene.lattice, scene.weights.regularization);
        for (int a = 0; a < 3; ++a) {
            coords[row * 3 + a] = c[a];
            dual_vertices[row * 3 + a] = dual[a];
            intersected[row * 3 + a] = cell.intersected >> a & 1;
        }
    }
}

void refuse_from(int64_t count, int64_t limit, const char* what) {
    require(count < limit, format("grid_size: the surface has %lld %s of this grid, expected fewer than %lld on a CUDA device; use the CPU",
                                  static_cast<long long>(count), what, static_cast<long long>(limit)));
}

Tasks list_tasks(const Workspace& workspace, const Scene& scene, Quadric* planes) {
    const Counts counts(workspace, scene.mesh.face_count);
    launch(counts.n, workspace.stream, count_tiles, scene, planes, counts.at);
    counts.scan(workspace);
    Tasks tasks;
    tasks.n = counts.total(workspace);
    tasks.triangles = workspace.take<uint32_t>(tasks.n);
    tasks.tiles = workspace.take<uint64_t>(tasks.n);
    launch(counts.n, workspace.stream, list_tiles, scene, counts.at, tasks);
    return tasks;
}

void add_crossings(const Workspace& workspace, const Tasks& tasks, Contributions& to) {
    const Counts crossings(workspace, tasks.n), voxels(workspace, tasks.n);
    launch(tasks.n, workspace.stream, count_crossings, to.scene, tasks, crossings.at, voxels.at);
    crossings.scan(workspace);
    voxels.scan(workspace);
    const int64_t crossing_count = crossings.total(workspace), voxel_count = voxels.total(workspace);
    refuse_from(crossing_count, int64_t{1} << 31, "crossings with lattice lines");
    refuse_from(voxel_count, int64_t{1} << 32, "voxels around crossings with lattice lines");
    CrossingPoint* points = workspace.take<CrossingPoint>(crossing_count);
    Pairs around(workspace, voxel_count);
    launch(tasks.n, workspace.stream, list_crossings, to.scene, tasks, crossings.at, voxels.at, points, around.keys, around.values);
    around.sort(workspace, bits_below(to.scene.volume()));
    to.crossings = points;
    to.around = around.values;
    to.around_count = around.n;
    to.voxels = find_runs(workspace, around);
    refuse_from(to.voxels.n, INT32_MAX, "voxels");
}

void add_overlaps(const Workspace& workspace, const Tasks& tasks, Contributions& to) {
    // Most voxels that a surface overlaps are around its crossings, and looking them up is quicker one thread for each.
    // Where they are not (float32 sees the plane of a triangle of 1e7 voxels everywhere) only those are listed.
    const Counts all(workspace, tasks.n), existing(workspace, tasks.n);
    launch(tasks.n, workspace.stream, count_overlaps, to.scene, tasks, to.voxels, false, all.at);
    all.scan(workspace);
    const bool only_existing = all.total(workspace) > to.around_count + (int64_t{1} << 20);
    if (only_existing) {
        launch(tasks.n, workspace.stream, count_overlaps, to.scene, tasks, to.voxels, true, existing.at);
        existing.scan(workspace);
    }
    const Counts& counts = only_existing ? existing : all;
    to.overlaps = Pairs(workspace, counts.total(workspace));
    launch(tasks.n, workspace.stream, list_overlaps, to.scene, tasks, to.voxels, only_existing, counts.at, to.overlaps.keys, to.overlaps.values);
    sort_by_run(workspace, to.voxels, to.overlaps);
}

void add_boundary(const Workspace& workspace, Contributions& to) {
    const Mesh& mesh = to.scene.mesh;
    const Lattice& lattice = to.scene.lattice;
    Pairs sides(workspace, mesh.face_count * 3);
    launch(sides.n, workspace.stream, list_sides, mesh, sides.keys, sides.values);
    sides.sort(workspace, bits_below(static_cast<uint64_t>(mesh.vertex_count) * static_cast<uint64_t>(mesh.vertex_count)));
    to.sides = find_runs(workspace, sides);
    const Counts counts(workspace, to.sides.n);
    const float shortest = shortest_segment(lattice);
    launch(counts.n, workspace.stream, count_boundary, to.scene, to.sides, shortest, to.voxels, counts.at);
    counts.scan(workspace);
    to.boundary = Pairs(workspace, counts.total(workspace));
    launch(counts.n, workspace.stream, list_boundary, to.scene, to.sides, shortest, to.voxels, counts.at, to.boundary.keys, to.boundary.values);
    to.boundary.sort(workspace, bits_below(static_cast<uint64_t>(to.voxels.n)));
}

}  // namespace
}  // namespace tk::voxel

TK_API int tk_voxel_mesh_to_dual_grid_begin(const float* vertices, int64_t vertex_count, const int32_t* faces, int64_t face_count,
                                            const float* origin, const float* voxel_size, const int32_t* grid_size,
                                            int use_faces, float boundary_weight, float regularization_weight, void* allocate,
                                            void** state, int64_t* voxel_count, int device, void* stream) {
    *state = nullptr;
    return tk::guarded_on(device, [&] {
        using namespace tk::voxel;
        tk::require(face_count <= triangle_mask && vertex_count <= INT32_MAX,
                    "faces: expected at most 2^30 - 1 faces and 2^31 - 1 vertices on a CUDA device; use the CPU");
        const Workspace workspace(allocate, static_cast<cudaStream_t>(stream));
        auto made = std::make_unique<Contributions>();
        made->scene = {{vertices, faces, vertex_count, face_count, {origin[0], origin[1], origin[2]}},
                       {{voxel_size[0], voxel_size[1], voxel_size[2]}, {grid_size[0], grid_size[1], grid_size[2]}},
                       {use_faces != 0, boundary_weight, regularization_weight}};
        Quadric* planes = workspace.take<Quadric>(face_count);
        made->planes = planes;
        const Tasks tasks = list_tasks(workspace, made->scene, planes);
        add_crossings(workspace, tasks, *made);
        if (made->voxels.n > 0) {
            if (use_faces) add_overlaps(workspace, tasks, *made);
            if (boundary_weight > 0) add_boundary(workspace, *made);
        }
        *voxel_count = made->voxels.n;
        *state = made.release();
    });
}

TK_API int tk_voxel_mesh_to_dual_grid_fill(void* state, int32_t* coords, float* dual_vertices, uint8_t* intersected, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        using namespace tk::voxel;
        const Contributions& from = *static_cast<const Contributions*>(state);
        launch(from.voxels.n, static_cast<cudaStream_t>(stream), solve_voxels, from, coords, dual_vertices, intersected);
    });
}

TK_API int tk_voxel_mesh_to_dual_grid_end(void* state) {
    return tk::guarded([&] { delete static_cast<tk::voxel::Contributions*>(state); });
}
