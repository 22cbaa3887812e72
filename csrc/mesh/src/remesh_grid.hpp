// The grid of the remesher, for host and device: where its corners lie, and sets of corners within a brick of 8^3.
#pragma once

#include <cmath>
#include <cstdint>

#include "trellis/error.hpp"
#include "triangle.hpp"

namespace tk::mesh {

constexpr double cell_diagonal = 1.7320508075688772;
constexpr int brick_side = 8;
constexpr int brick_corners = brick_side * brick_side * brick_side;

// Allowance for the rounding of positions and distances to float, in cells.
constexpr double rounding_slack = 0.05;

// Where grid corners lie in space. Corner (pad, pad, pad) is the lower end of the user's box; the corners around
// it leave room for the band and, beyond it, a layer of bricks that the mesh cannot reach.
struct Frame {
    Vec3d origin;  // of the user's box
    double cell;
    int pad;
    int64_t bricks;  // an axis

    TK_BOTH Vec3d position(double x, double y, double z) const {
        return {plus(origin.x, times(x - pad, cell)), plus(origin.y, times(y - pad, cell)), plus(origin.z, times(z - pad, cell))};
    }
    // The number of the brick at (x, y, z).
    TK_BOTH int64_t at(int64_t x, int64_t y, int64_t z) const { return (z * bricks + y) * bricks + x; }
};

// The grid of resolution^3 cells of size `cell` from `origin`, with room around it; refuses what cannot be made.
inline Frame make_frame(int64_t num_faces, const Vec3d& origin, double cell, int resolution, double band) {
    require(num_faces > 0, format("num_faces: expected at least 1, got %lld", static_cast<long long>(num_faces)));
    require(resolution >= 1 && resolution <= 2048, format("resolution: expected 1 to 2048, got %d", resolution));
    require(cell > 0 && std::isfinite(cell), format("cell: expected a positive size, got %g", cell));
    require(band > 0 && band <= 16, format("band: expected more than 0 and at most 16 cells, got %g", band));
    Frame frame;
    frame.origin = origin;
    frame.cell = cell;
    // Room for the band, for the cells at its rim, and for a layer of bricks out of reach from any of their corners.
    const int margin = (static_cast<int>(std::ceil(band)) + 3 + brick_side - 1) / brick_side + 1;
    frame.pad = margin * brick_side;
    frame.bricks = (resolution + brick_side) / brick_side + 2 * margin;
    const double side = static_cast<double>(brick_side * frame.bricks);
    const Vec3d low = frame.position(0, 0, 0), high = frame.position(side, side, side);
    double largest = 0;
    for (int i = 0; i < 3; ++i) largest = std::fmax(largest, std::fmax(std::fabs(low[i]), std::fabs(high[i])));
    // Two corners, each off by at most half a unit in the last place of three coordinates, and their distances.
    require(largest * 2.5e-7 <= rounding_slack * cell,
            format("resolution: cells of size %g are too small for float32 coordinates up to %g; expected a lower resolution, or a "
                   "mesh nearer to the origin", cell, largest));
    return frame;
}

// One bit a corner: bit x + 8 y of word z.
struct Bits {
    uint64_t word[brick_side] = {};
    TK_BOTH bool get(int x, int y, int z) const { return word[z] >> (x + brick_side * y) & 1; }
    TK_BOTH bool get(int corner) const { return word[corner / 64] >> (corner % 64) & 1; }
    TK_BOTH void set(int corner) { word[corner / 64] |= uint64_t{1} << (corner % 64); }
};

constexpr uint64_t low_x = 0x0101010101010101ULL, high_x = low_x << 7, low_y = 0xff, high_y = low_y << 56;

// Spreads `reached` through `free` to neighbours along the axes, within one brick.
TK_BOTH inline void spread(Bits& reached, const Bits& free) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int sweep = 0; sweep < 2; ++sweep)
            for (int k = 0; k < brick_side; ++k) {
                const int z = sweep ? brick_side - 1 - k : k;
                const uint64_t before = reached.word[z];
                uint64_t w = before;
                if (z > 0) w |= reached.word[z - 1];
                if (z + 1 < brick_side) w |= reached.word[z + 1];
                w &= free.word[z];
                for (uint64_t last = 0; last != w;) {
                    last = w;
                    w |= (w & ~high_x) << 1 | (w & ~low_x) >> 1 | w << brick_side | w >> brick_side;
                    w &= free.word[z];
                }
                reached.word[z] = w;
                changed |= w != before;
            }
    }
}

// What `from` reaches of the brick next to it in direction `side` (axis * 2 + forward).
TK_BOTH inline Bits across(const Bits& from, int side) {
    Bits to;
    for (int z = 0; z < brick_side; ++z) {
        const uint64_t w = from.word[z];
        switch (side) {
            case 0: to.word[z] = (w & low_x) << 7; break;
            case 1: to.word[z] = (w & high_x) >> 7; break;
            case 2: to.word[z] = (w & low_y) << 56; break;
            case 3: to.word[z] = (w & high_y) >> 56; break;
            default: break;
        }
    }
    if (side == 4) to.word[brick_side - 1] = from.word[0];
    if (side == 5) to.word[0] = from.word[brick_side - 1];
    return to;
}

}  // namespace tk::mesh
