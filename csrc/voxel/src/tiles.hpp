// Cubes of voxels, the unit of work of a thread, and which of them a triangle may reach into. For host and device.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "overlap.hpp"

namespace tk::voxel {

constexpr int tile_edge = 16;  // voxels

struct Mesh {
    const float* vertices;
    const int32_t* faces;
    int64_t vertex_count, face_count;
    Vec3f origin;

    TK_INLINE Vec3f vertex(int64_t i) const {
        return Vec3f{vertices[i * 3], vertices[i * 3 + 1], vertices[i * 3 + 2]} - origin;
    }
    TK_INLINE Triangle triangle(int64_t f) const {
        return {{vertex(faces[f * 3]), vertex(faces[f * 3 + 1]), vertex(faces[f * 3 + 2])}};
    }
};

class Tiling {
public:
    explicit TK_INLINE Tiling(const Lattice& lattice) : lattice_(lattice) {
        for (int a = 0; a < 3; ++a) tiles_[a] = (lattice.size[a] + tile_edge - 1) / tile_edge;
    }
    TK_INLINE uint64_t key(const Vec3i& tile) const {
        return (static_cast<uint64_t>(tile.x) * static_cast<uint64_t>(tiles_.y) + static_cast<uint64_t>(tile.y)) *
                   static_cast<uint64_t>(tiles_.z) + static_cast<uint64_t>(tile.z);
    }
    TK_INLINE uint64_t key_of_voxel(const Vec3i& c) const { return key({c.x / tile_edge, c.y / tile_edge, c.z / tile_edge}); }
    // The voxels of the tile, cut off at the grid's border.
    TK_INLINE CellBox voxels(uint64_t key) const {
        const Vec3i low{static_cast<int>(key / static_cast<uint64_t>(tiles_.z) / static_cast<uint64_t>(tiles_.y)) * tile_edge,
                        static_cast<int>(key / static_cast<uint64_t>(tiles_.z) % static_cast<uint64_t>(tiles_.y)) * tile_edge,
                        static_cast<int>(key % static_cast<uint64_t>(tiles_.z)) * tile_edge};
        return CellBox{low, {low.x + tile_edge, low.y + tile_edge, low.z + tile_edge}}.clipped(lattice_.all());
    }
    // Position of a voxel in its tile, z fastest.
    static TK_INLINE uint16_t local(const Vec3i& c) {
        return static_cast<uint16_t>((c.x % tile_edge * tile_edge + c.y % tile_edge) * tile_edge + c.z % tile_edge);
    }

private:
    Lattice lattice_;
    Vec3i tiles_;
};

struct TileRange {
    int low[3], high[3];  // inclusive; low[0] > high[0] when empty

    TK_INLINE int64_t volume() const {
        if (low[0] > high[0]) return 0;
        return int64_t{high[0] - low[0] + 1} * (high[1] - low[1] + 1) * (high[2] - low[2] + 1);
    }
};

// Voxels that hold all those around the triangle's crossings: between the least and the largest coordinate, with a
// margin for the rounding of a point on an edge.
TK_INLINE CellBox crossing_cells(const Triangle& t, const Lattice& lattice) {
    CellBox box;
    for (int a = 0; a < 3; ++a) {
        const double low = lesser(t.v[0][a], t.v[1][a], t.v[2][a]), high = greater(t.v[0][a], t.v[1][a], t.v[2][a]);
        const double cell = lattice.cell[a], margin = 1e-6 * cell + 1e-12 * greater(std::abs(low), std::abs(high));
        // A crossing may lie up to a cell below the grid; beyond that no axis has any.
        if (high + margin < -cell || low - margin > cell * lattice.size[a]) return CellBox::nothing();
        box.low[a] = lattice.clamped_cell(a, low - margin);
        box.high[a] = lattice.clamped_cell(a, high + margin) + 1;
    }
    return box;
}

// The tiles with a voxel that the triangle may cross or, if `with_overlaps`, overlap.
TK_INLINE TileRange tile_range(const Triangle& t, const Lattice& lattice, bool with_overlaps) {
    CellBox box = crossing_cells(t, lattice);
    if (with_overlaps) {
        const CellBox bounds = bounding_cells(t, lattice);
        if (!bounds.empty()) box.add(bounds);
    }
    if (box.empty()) return {{1, 0, 0}, {0, 0, 0}};
    TileRange range;
    for (int k = 0; k < 3; ++k) {
        range.low[k] = box.low[k] / tile_edge;
        range.high[k] = (box.high[k] - 1) / tile_edge;
    }
    return range;
}

// Calls visit(tile) for the tiles of `range` that the triangle's plane, give or take a voxel, runs through.
template <class Visit>
TK_BOTH void for_each_tile(const TileRange& range, const Triangle& t, const Lattice& lattice, Visit&& visit) {
    const int64_t tiles = range.volume();
    if (tiles == 0) return;
    const Vec3d a = static_cast<Vec3d>(t.v[0]), b = static_cast<Vec3d>(t.v[1]), c = static_cast<Vec3d>(t.v[2]);
    const Vec3d n = normalized(cross(b - a, c - b));
    int w = 0;
    for (int k = 1; k < 3; ++k)
        if (std::abs(n[k]) * lattice.cell[k] > std::abs(n[w]) * lattice.cell[w]) w = k;
    const bool whole = tiles <= 4 || !(std::abs(n[w]) > 0);
    const int u = (w + 1) % 3, v = (w + 2) % 3;
    const double height = dot(n, a);
    Vec3i tile;
    for (tile[u] = range.low[u]; tile[u] <= range.high[u]; ++tile[u])
        for (tile[v] = range.low[v]; tile[v] <= range.high[v]; ++tile[v]) {
            int first = range.low[w], last = range.high[w];
            if (!whole) {
                double low = height, high = height;
                for (int side = 0; side < 2; ++side) {
                    const int k = side ? v : u;
                    const double p = n[k] * lattice.cell[k] * (tile[k] * tile_edge - 1);
                    const double q = n[k] * lattice.cell[k] * (tile[k] * tile_edge + tile_edge + 1);
                    low -= greater(p, q);
                    high -= lesser(p, q);
                }
                low /= n[w] * lattice.cell[w];
                high /= n[w] * lattice.cell[w];
                if (low > high) exchange(low, high);
                first = static_cast<int>(clamped(std::floor((low - 1) / tile_edge), double(first), double(last) + 1));
                last = static_cast<int>(clamped(std::floor((high + 1) / tile_edge), double(first) - 1, double(last)));
            }
            for (tile[w] = first; tile[w] <= last; ++tile[w]) visit(tile);
        }
}

// Triangle numbers by tile: tile t has key keys[t] and triangles[begins[t]] up to triangles[begins[t + 1]], in
// ascending order. Tiles ascend by key; those without triangles are left out.
struct TileLists {
    std::vector<uint64_t> keys;
    std::vector<int64_t> begins;
    std::vector<uint32_t> triangles;
};

// Lists a triangle in each tile with a voxel that it crosses or, if `with_overlaps`, may overlap.
TileLists list_triangles(const Mesh& mesh, const Lattice& lattice, const Tiling& tiling, bool with_overlaps);

}  // namespace tk::voxel
