// Which faces touch which tile of the image.
#pragma once

#include <cstdint>
#include <vector>

#include "triangle.hpp"

namespace tk::raster {

constexpr int tile_bits = 6, tile_side = 1 << tile_bits;

// Faces over more tiles than this are listed once rather than in each tile, which bounds the memory by the number
// of faces; every tile then looks at that list.
constexpr int64_t max_listed_tiles = 32;

struct LargeFace {
    int32_t face;
    Box tiles;
};

struct Bins {
    int tiles_x, tiles_y;
    std::vector<int64_t> begin;     // [tiles + 1] into faces
    std::vector<int32_t> faces;     // ascending within a tile
    std::vector<LargeFace> large;   // ascending
};

Bins make_bins(const Scene& scene);

}  // namespace tk::raster
