// The distance to a mesh on the corners of a grid, kept in a narrow band around it, and which of the corners are
// inside the shell that is to be made.
#pragma once

#include <cstdint>
#include <vector>

#include "bvh_query.hpp"
#include "remesh_grid.hpp"

namespace tk::mesh {

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

    int64_t at(int64_t x, int64_t y, int64_t z) const { return frame.at(x, y, z); }
};

// Distances in the band where they are at most `band` cells, and one cell beyond.
Field sample_distance(const BvhView& tree, const Frame& frame, double band);

// Sets what is inside: corners within the band, and with `fill` also all that the band cuts off from the border.
void mark_inside(Field& field, bool fill);

}  // namespace tk::mesh
