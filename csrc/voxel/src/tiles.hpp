// Cubes of voxels, each worked on by one thread, and the triangles that reach into each of them.
#pragma once

#include <cstdint>
#include <vector>

#include "lattice.hpp"

namespace tk::voxel {

constexpr int tile_edge = 16;  // voxels

struct Mesh {
    const float* vertices;
    const int32_t* faces;
    int64_t vertex_count, face_count;
    Vec3f origin;

    Vec3f vertex(int64_t i) const {
        return Vec3f{vertices[i * 3], vertices[i * 3 + 1], vertices[i * 3 + 2]} - origin;
    }
    Triangle triangle(int64_t f) const {
        return {{vertex(faces[f * 3]), vertex(faces[f * 3 + 1]), vertex(faces[f * 3 + 2])}};
    }
};

class Tiling {
public:
    explicit Tiling(const Lattice& lattice) : lattice_(lattice) {
        for (int a = 0; a < 3; ++a) tiles_[a] = (lattice.size[a] + tile_edge - 1) / tile_edge;
    }
    uint64_t key(const Vec3i& tile) const {
        return (static_cast<uint64_t>(tile.x) * static_cast<uint64_t>(tiles_.y) + static_cast<uint64_t>(tile.y)) *
                   static_cast<uint64_t>(tiles_.z) + static_cast<uint64_t>(tile.z);
    }
    uint64_t key_of_voxel(const Vec3i& c) const { return key({c.x / tile_edge, c.y / tile_edge, c.z / tile_edge}); }
    // The voxels of the tile, cut off at the grid's border.
    CellBox voxels(uint64_t key) const {
        const Vec3i low{static_cast<int>(key / static_cast<uint64_t>(tiles_.z) / static_cast<uint64_t>(tiles_.y)) * tile_edge,
                        static_cast<int>(key / static_cast<uint64_t>(tiles_.z) % static_cast<uint64_t>(tiles_.y)) * tile_edge,
                        static_cast<int>(key % static_cast<uint64_t>(tiles_.z)) * tile_edge};
        return CellBox{low, {low.x + tile_edge, low.y + tile_edge, low.z + tile_edge}}.clipped(lattice_.all());
    }
    // Position of a voxel in its tile, z fastest.
    static uint16_t local(const Vec3i& c) {
        return static_cast<uint16_t>((c.x % tile_edge * tile_edge + c.y % tile_edge) * tile_edge + c.z % tile_edge);
    }

private:
    const Lattice& lattice_;
    Vec3i tiles_;
};

// Triangle numbers by tile: tile t has key keys[t] and triangles[begins[t]] up to triangles[begins[t + 1]], in
// ascending order. Tiles ascend by key; those without triangles are left out.
struct TileLists {
    std::vector<uint64_t> keys;
    std::vector<int64_t> begins;
    std::vector<uint32_t> triangles;
};

// Lists a triangle in each tile with a voxel that it crosses or, if `with_overlaps`, may overlap.
// Throws when the surface crosses 2^31 or more lattice lines.
TileLists list_triangles(const Mesh& mesh, const Lattice& lattice, const Tiling& tiling, bool with_overlaps);

}  // namespace tk::voxel
