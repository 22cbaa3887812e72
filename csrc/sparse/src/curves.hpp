// Morton (Z-order) and Hilbert positions of grid cells, for host and device.
//
// Both curves write a position as one three-bit digit a level, x the highest bit of a digit. Hilbert:
// J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707 (2004): coordinates are turned,
// level by level, into the "transpose" of the position, which the Morton interleave then reads.
//
// An empty top level of the Hilbert curve only rotates the axes, so codes for l and l + 3 levels agree wherever
// both exist. TRELLIS.2's codes have 10 levels; 22 levels extend them to 2^21 cells an axis.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::sparse {

// The low 21 bits of v, each followed by two zeros on its low side.
TK_BOTH inline uint64_t spread_bits(uint64_t v) {
    v &= 0x1FFFFF;
    v = (v | v << 32) & 0x001F00000000FFFFull;
    v = (v | v << 16) & 0x001F0000FF0000FFull;
    v = (v | v << 8) & 0x100F00F00F00F00Full;
    v = (v | v << 4) & 0x10C30C30C30C30C3ull;
    v = (v | v << 2) & 0x1249249249249249ull;
    return v;
}

// The inverse of spread_bits; bits at other places are ignored.
TK_BOTH inline uint32_t gather_bits(uint64_t v) {
    v &= 0x1249249249249249ull;
    v = (v | v >> 2) & 0x10C30C30C30C30C3ull;
    v = (v | v >> 4) & 0x100F00F00F00F00Full;
    v = (v | v >> 8) & 0x001F0000FF0000FFull;
    v = (v | v >> 16) & 0x001F00000000FFFFull;
    v = (v | v >> 32) & 0x00000000001FFFFFull;
    return static_cast<uint32_t>(v);
}

struct Cell {
    uint32_t x, y, z;
};

TK_BOTH inline int64_t morton_encode(Cell c) {
    return static_cast<int64_t>(spread_bits(c.x) << 2 | spread_bits(c.y) << 1 | spread_bits(c.z));
}
TK_BOTH inline Cell morton_decode(int64_t code) {
    const uint64_t bits = static_cast<uint64_t>(code);
    return {gather_bits(bits >> 2), gather_bits(bits >> 1), gather_bits(bits)};
}

// One axis' share in a level of Skilling's transform: below `bit`, x is inverted where the axis has the bit,
// else x and the axis change places. Its own inverse.
TK_BOTH inline void hilbert_turn(uint32_t bit, uint32_t& x, uint32_t& axis) {
    const uint32_t below = bit - 1;
    if (axis & bit) {
        x ^= below;
    } else {
        const uint32_t differ = (x ^ axis) & below;
        x ^= differ;
        axis ^= differ;
    }
}

TK_BOTH inline int64_t hilbert_encode(Cell c, int levels) {
    for (uint32_t bit = uint32_t{1} << (levels - 1); bit > 1; bit >>= 1) {
        hilbert_turn(bit, c.x, c.x);
        hilbert_turn(bit, c.x, c.y);
        hilbert_turn(bit, c.x, c.z);
    }
    // Gray code across the axes; what z then says about each level goes to all levels below it.
    c.y ^= c.x;
    c.z ^= c.y;
    uint32_t parity = c.z >> 1;
    for (int shift = 1; shift < 32; shift *= 2) parity ^= parity >> shift;
    return morton_encode({c.x ^ parity, c.y ^ parity, c.z ^ parity});
}
TK_BOTH inline Cell hilbert_decode(int64_t code, int levels) {
    Cell c = morton_decode(code);
    const uint32_t carried = c.z >> 1;
    c.z ^= c.y;
    c.y ^= c.x;
    c.x ^= carried;
    for (int level = 1; level < levels; ++level) {
        const uint32_t bit = uint32_t{1} << level;
        hilbert_turn(bit, c.x, c.z);
        hilbert_turn(bit, c.x, c.y);
        hilbert_turn(bit, c.x, c.x);
    }
    return c;
}

}  // namespace tk::sparse
