// The order of a voxel's eight children, for host and device: slot x + 2y + 4z.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::sparse {

TK_BOTH inline int child_slot(int x, int y, int z) { return (x & 1) + 2 * (y & 1) + 4 * (z & 1); }

// The part of tk_sparse_upsample that concerns voxel i.
TK_BOTH inline void write_children(const int32_t* coords, const uint8_t* mask, const int64_t* first, int64_t i,
                                   int32_t* children, int64_t* parent, int64_t* slot) {
    const int32_t* c = coords + 4 * i;
    int64_t to = first[i];
    for (int s = 0; s < 8; ++s) {
        if (!mask[8 * i + s]) continue;
        children[4 * to] = c[0];
        children[4 * to + 1] = 2 * c[1] + (s & 1);
        children[4 * to + 2] = 2 * c[2] + (s >> 1 & 1);
        children[4 * to + 3] = 2 * c[3] + (s >> 2 & 1);
        parent[to] = i;
        slot[to] = s;
        ++to;
    }
}

}  // namespace tk::sparse
