// Mesh to flexible dual grid.
//
// The representation is that of Xiang et al., "Native and Compact Structured Latents for 3D Generation" (2025):
// voxels around the lattice edges that the surface crosses, and in each voxel the point that fits the surface
// best in the sense of dual contouring (Ju, Losasso, Schaefer and Warren, "Dual contouring of Hermite data",
// SIGGRAPH 2002), constrained to the voxel.
//
// The grid is cut into tiles. A tile's thread scans the triangles that reach into the tile, in their order, and
// gathers each voxel's quadric in a dense array of its own, so sums have one order whatever the threads do.
#include <array>
#include <atomic>
#include <memory>

#include "boundary.hpp"
#include "crossings.hpp"
#include "dual_cell.hpp"
#include "overlap.hpp"
#include "tiles.hpp"
#include "trellis/error.hpp"
#include "trellis/sort.hpp"
#include "trellis_voxel.h"

namespace tk::voxel {
namespace {

struct Voxel {
    Vec3i coord;
    Vec3f dual;
    uint8_t intersected;  // bit a: the lattice edge along axis a
};

// The boundary segments that run through the voxels of each tile, sorted by tile.
struct BoundaryCells {
    struct Cell {
        uint32_t edge;
        uint16_t local;
    };
    std::vector<std::pair<int32_t, int32_t>> edges;
    std::vector<uint64_t> tiles;
    std::vector<Cell> cells;
};

BoundaryCells find_boundary(const Mesh& mesh, const Lattice& lattice, const Tiling& tiling) {
    constexpr int64_t grain = 1 << 12;
    BoundaryCells out;
    out.edges = boundary_edges(mesh.faces, mesh.face_count, mesh.vertex_count);
    const float shortest = shortest_segment(lattice);
    auto walk = [&](int64_t e, auto&& visit) {
        const Vec3f a = mesh.vertex(out.edges[static_cast<size_t>(e)].first);
        const Vec3f b = mesh.vertex(out.edges[static_cast<size_t>(e)].second);
        if (length(static_cast<Vec3d>(b - a)) >= shortest) walk_segment(a, b, lattice, visit);
    };
    const int64_t n = static_cast<int64_t>(out.edges.size());
    std::vector<int64_t> begins(static_cast<size_t>(n));
    parallel_for(n, grain, [&](int64_t e) {
        int64_t count = 0;
        walk(e, [&](const Vec3i&) { ++count; });
        begins[static_cast<size_t>(e)] = count;
    });
    const size_t total = static_cast<size_t>(exclusive_scan(begins.data(), n));
    out.tiles.resize(total);
    out.cells.resize(total);
    parallel_for(n, grain, [&](int64_t e) {
        size_t at = static_cast<size_t>(begins[static_cast<size_t>(e)]);
        walk(e, [&](const Vec3i& c) {
            out.tiles[at] = tiling.key_of_voxel(c);
            out.cells[at++] = {static_cast<uint32_t>(e), Tiling::local(c)};
        });
    });
    stable_sort_by_key(out.tiles, out.cells);
    return out;
}

// One thread's work on one tile after another.
class TileWorker {
public:
    TileWorker(const Mesh& mesh, const Lattice& lattice, const Tiling& tiling, const Weights& weights)
        : mesh_(mesh), lattice_(lattice), tiling_(tiling), weights_(weights) {
        slots_.fill(none);
    }

    void run(uint64_t tile, const uint32_t* begin, const uint32_t* end, const BoundaryCells& boundary, std::vector<Voxel>& out) {
        box_ = tiling_.voxels(tile);
        for (const uint32_t* f = begin; f != end; ++f) add_crossings(mesh_.triangle(*f));
        if (cells_.empty()) return;
        if (weights_.faces)
            for (const uint32_t* f = begin; f != end; ++f) add_overlaps(mesh_.triangle(*f));
        add_boundary(tile, boundary);
        for (Cell& cell : cells_) {
            out.push_back({cell.coord, cell.dual(cell.coord, lattice_, weights_.regularization), cell.intersected});
            slots_[Tiling::local(cell.coord)] = none;
        }
        cells_.clear();
    }

    // Of the tiles so far; a crossing belongs to the tile of its lowest voxel.
    int64_t crossings() const { return crossings_; }

private:
    static constexpr uint16_t none = 0xffff;

    struct Cell : DualCell {
        Vec3i coord;
    };

    Cell& cell_at(const Vec3i& c) {
        uint16_t& slot = slots_[Tiling::local(c)];
        if (slot == none) {
            slot = static_cast<uint16_t>(cells_.size());
            cells_.emplace_back();
            cells_.back().coord = c;
        }
        return cells_[slot];
    }

    void add_crossings(const Triangle& t) {
        const Quadric plane = plane_quadric(unit_normal(t), t.v[0]);
        add_crossings_along<0>(t, plane);
        add_crossings_along<1>(t, plane);
        add_crossings_along<2>(t, plane);
    }

    template <int W>
    void add_crossings_along(const Triangle& t, const Quadric& plane) {
        constexpr int U = (W + 1) % 3, V = (W + 2) % 3;
        cross_lattice_lines<W>(t, lattice_, box_, [&](const Crossing& crossing) {
            for (int around = 0; around < 4; ++around) {
                Vec3i c = crossing.i;
                c[U] += around >> 1;
                c[V] += around & 1;
                if (!box_.contains(U, c[U]) || !box_.contains(V, c[V])) continue;
                Cell& cell = cell_at(c);
                cell.add_crossing(static_cast<Vec3f>(crossing.at), plane);
                if (around == 0) {
                    cell.intersected |= static_cast<uint8_t>(1 << W);
                    ++crossings_;
                }
            }
        });
    }

    void add_overlaps(const Triangle& t) {
        const CellBox box = bounding_cells(t, lattice_).clipped(box_);
        if (box.empty()) return;
        const Vec3f normal = unit_normal(t);
        const Quadric plane = plane_quadric(normal, t.v[0]);
        OverlapTest(t, normal, lattice_).for_each(
            box, [&](int x, int y, int z) { return slots_[Tiling::local({x, y, z})] != none; },
            [&](int x, int y, int z) { cells_[slots_[Tiling::local({x, y, z})]].quadric += plane; });
    }

    void add_boundary(uint64_t tile, const BoundaryCells& boundary) {
        const auto [first, last] = std::equal_range(boundary.tiles.begin(), boundary.tiles.end(), tile);
        for (auto i = first - boundary.tiles.begin(); i < last - boundary.tiles.begin(); ++i) {
            const BoundaryCells::Cell& at = boundary.cells[static_cast<size_t>(i)];
            if (slots_[at.local] == none) continue;
            Cell& cell = cells_[slots_[at.local]];
            const Vec3f a = mesh_.vertex(boundary.edges[at.edge].first), b = mesh_.vertex(boundary.edges[at.edge].second);
            cell.quadric += line_quadric(a, b) * weights_.boundary;
        }
    }

    const Mesh& mesh_;
    const Lattice& lattice_;
    const Tiling& tiling_;
    const Weights& weights_;
    CellBox box_;
    std::array<uint16_t, tile_edge * tile_edge * tile_edge> slots_;  // index into cells_
    std::vector<Cell> cells_;
    int64_t crossings_ = 0;
};

std::vector<Voxel> build(const Mesh& mesh, const Lattice& lattice, const Weights& weights) {
    constexpr int64_t grain = 4;
    const Tiling tiling(lattice);
    const TileLists lists = list_triangles(mesh, lattice, tiling, weights.faces);
    const BoundaryCells boundary = weights.boundary > 0 ? find_boundary(mesh, lattice, tiling) : BoundaryCells{};
    const int64_t tiles = static_cast<int64_t>(lists.keys.size());
    std::vector<std::vector<Voxel>> parts(static_cast<size_t>(chunk_count(tiles, grain)));
    std::atomic<int64_t> crossings{0};
    parallel_chunks(tiles, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        TileWorker worker(mesh, lattice, tiling, weights);
        for (int64_t t = begin; t < end; ++t)
            worker.run(lists.keys[static_cast<size_t>(t)], lists.triangles.data() + lists.begins[static_cast<size_t>(t)],
                       lists.triangles.data() + lists.begins[static_cast<size_t>(t) + 1], boundary,
                       parts[static_cast<size_t>(chunk)]);
        if (crossings.fetch_add(worker.crossings()) + worker.crossings() >= INT32_MAX)
            throw Error(TK_INVALID_ARGUMENT, "grid_size: the surface crosses 2^31 or more lattice lines of this grid, expected fewer");
    });
    std::vector<size_t> offsets(parts.size());
    size_t total = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
        offsets[p] = total;
        total += parts[p].size();
    }
    require(total < size_t{INT32_MAX}, format("grid_size: the dual grid has %zu voxels, expected fewer than 2^31", total));
    std::vector<Voxel> voxels(total);
    parallel_for(static_cast<int64_t>(parts.size()), 4, [&](int64_t p) {
        std::copy(parts[static_cast<size_t>(p)].begin(), parts[static_cast<size_t>(p)].end(),
                  voxels.begin() + static_cast<int64_t>(offsets[static_cast<size_t>(p)]));
        std::vector<Voxel>().swap(parts[static_cast<size_t>(p)]);
    });
    return voxels;
}

struct State {
    Lattice lattice;
    std::vector<Voxel> voxels;
};

}  // namespace
}  // namespace tk::voxel

TK_API int tk_voxel_mesh_to_dual_grid_begin(const float* vertices, int64_t vertex_count, const int32_t* faces, int64_t face_count,
                                            const float* origin, const float* voxel_size, const int32_t* grid_size,
                                            int use_faces, float boundary_weight, float regularization_weight, void*, void** state,
                                            int64_t* voxel_count, int, void*) {
    return tk::guarded([&] {
        using namespace tk::voxel;
        *state = nullptr;
        tk::require(face_count <= INT32_MAX && vertex_count <= INT32_MAX, "faces: expected fewer than 2^31 vertices and faces");
        auto made = std::make_unique<State>();
        made->lattice = {{voxel_size[0], voxel_size[1], voxel_size[2]}, {grid_size[0], grid_size[1], grid_size[2]}};
        const Mesh mesh{vertices, faces, vertex_count, face_count, {origin[0], origin[1], origin[2]}};
        made->voxels = build(mesh, made->lattice, {use_faces != 0, boundary_weight, regularization_weight});
        *voxel_count = static_cast<int64_t>(made->voxels.size());
        *state = made.release();
    });
}

TK_API int tk_voxel_mesh_to_dual_grid_fill(void* state, int32_t* coords, float* dual_vertices, uint8_t* intersected, int, void*) {
    return tk::guarded([&] {
        using namespace tk::voxel;
        const State& made = *static_cast<const State*>(state);
        const tk::Vec3i size = made.lattice.size;
        const int64_t n = static_cast<int64_t>(made.voxels.size());
        std::vector<uint64_t> keys(static_cast<size_t>(n));
        std::vector<uint32_t> order(static_cast<size_t>(n));
        tk::parallel_for(n, 1 << 14, [&](int64_t i) {
            const tk::Vec3i& c = made.voxels[static_cast<size_t>(i)].coord;
            keys[static_cast<size_t>(i)] =
                (static_cast<uint64_t>(c.x) * static_cast<uint64_t>(size.y) + static_cast<uint64_t>(c.y)) * static_cast<uint64_t>(size.z) +
                static_cast<uint64_t>(c.z);
            order[static_cast<size_t>(i)] = static_cast<uint32_t>(i);
        });
        tk::stable_sort_by_key(keys, order);
        tk::parallel_for(n, 1 << 14, [&](int64_t i) {
            const Voxel& voxel = made.voxels[order[static_cast<size_t>(i)]];
            for (int a = 0; a < 3; ++a) {
                coords[i * 3 + a] = voxel.coord[a];
                dual_vertices[i * 3 + a] = voxel.dual[a];
                intersected[i * 3 + a] = voxel.intersected >> a & 1;
            }
        });
    });
}

TK_API int tk_voxel_mesh_to_dual_grid_end(void* state) {
    return tk::guarded([&] { delete static_cast<tk::voxel::State*>(state); });
}
