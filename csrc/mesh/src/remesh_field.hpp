// The distance to a mesh on the corners of a grid, kept in a narrow band around it, and which of the corners are
// inside the shell that is to be made.
#pragma once

#include <cstdint>
#include <vector>

#include "bvh_query.hpp"

namespace tk::mesh {

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

    Vec3d position(double x, double y, double z) const {
        return {origin.x + (x - pad) * cell, origin.y + (y - pad) * cell, origin.z + (z - pad) * cell};
    }
};

// One bit a corner: bit x + 8 y of word z.
struct Bits {
    uint64_t word[brick_side] = {};
    bool get(int x, int y, int z) const { return word[z] >> (x + brick_side * y) & 1; }
    bool get(int corner) const { return word[corner / 64] >> (corner % 64) & 1; }
    void set(int corner) { word[corner / 64] |= uint64_t{1} << (corner % 64); }
};

struct Brick {
    int32_t x, y, z;  // in bricks
    int64_t slot;     // a face of the mesh near its middle
};

// Corners in no stored brick are farther from the mesh than every corner of a cell that the surface crosses.
struct Field {
    Frame frame;
    std::vector<Brick> bricks;    // along a Z-order curve
    std::vector<int32_t> index;   // of the brick at (z * n + y) * n + x, -1 where none is stored
    std::vector<float> value;     // [brick][corner]: distance to the mesh less the offset, in cells; may be larger than
                                  // that where it is too large to matter
    std::vector<Bits> inside;     // [brick]
    std::vector<uint8_t> hollow;  // [brick position]: 1 where a brick that is not stored lies inside

    int64_t at(int64_t x, int64_t y, int64_t z) const { return (z * frame.bricks + y) * frame.bricks + x; }
};

// Distances in the band where they are at most `band` cells, and one cell beyond.
Field sample_distance(const BvhView& tree, const Frame& frame, double band);

// Sets what is inside: corners within the band, and with `fill` also all that the band cuts off from the border.
void mark_inside(Field& field, bool fill);

}  // namespace tk::mesh
