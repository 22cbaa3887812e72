// The octree of a .vxz chunk: Morton order, and the walk over its child masks.
//
// A chunk of side 2^depth is a pre-order list of 8-bit child masks, one for each inner node. Child number and Morton
// code take x as the highest bit of three: child = 4x + 2y + z.
#pragma once

#include <cstdint>
#include <string>

#include "trellis/error.hpp"

namespace tk::voxel {

constexpr int max_depth = 10;

// `require` for inner loops: there its message would be composed each time.
[[noreturn]] inline void refuse(const std::string& message) { throw Error(TK_INVALID_ARGUMENT, message); }

inline void check_depth(int depth) {
    require(depth >= 1 && depth <= max_depth, format("depth: expected 1 to %d, got %d", max_depth, depth));
}

// Spreads the low 10 bits of v to every third bit.
inline uint64_t spread(uint64_t v) {
    v = (v | (v << 16)) & 0x030000FF;
    v = (v | (v << 8)) & 0x0300F00F;
    v = (v | (v << 4)) & 0x030C30C3;
    return (v | (v << 2)) & 0x09249249;
}

inline uint64_t gather(uint64_t v) {
    v &= 0x09249249;
    v = (v | (v >> 2)) & 0x030C30C3;
    v = (v | (v >> 4)) & 0x0300F00F;
    v = (v | (v >> 8)) & 0x030000FF;
    return (v | (v >> 16)) & 0x3FF;
}

inline uint64_t morton(uint64_t x, uint64_t y, uint64_t z) { return spread(x) << 2 | spread(y) << 1 | spread(z); }

// Walks an octree in order, checking as it goes that it is whole: no empty node, no end within it, nothing after it.
//   leaf(index, code)                     each voxel, in ascending order of its code
//   sibling(slot, first, previous_first)  each child but the first of each node, when it is entered: first leaf of
//                                         its own and of the child before it; slots number these pairs from 1, node by
//                                         node in pre-order (slot 0 is the root's)
// Returns the number of leaves.
template <class Leaf, class Sibling>
int64_t walk(const uint8_t* octree, int64_t size, int depth, Leaf&& leaf, Sibling&& sibling) {
    struct Level {
        uint32_t children;       // not entered yet
        int64_t slot;            // of the next child but the first
        int64_t previous_first;  // first leaf of the child entered last
    } levels[max_depth];
    int64_t at = 0, leaves = 0, slots = 1;
    int level = 0;
    uint64_t code = 0;
    const auto enter = [&] {
        if (at >= size) refuse(format("octree: ends within its nodes, after %lld bytes", (long long)size));
        const uint32_t mask = octree[at];
        if (mask == 0) refuse(format("octree: node %lld has no children", (long long)at));
        ++at;
        levels[level] = {mask, slots, -1};
        slots += __builtin_popcount(mask) - 1;
    };
    enter();
    for (;;) {
        Level& here = levels[level];
        if (here.children == 0) {
            if (level == 0) break;
            --level;
            code >>= 3;
            continue;
        }
        const uint32_t child = static_cast<uint32_t>(__builtin_ctz(here.children));
        here.children &= here.children - 1;
        if (here.previous_first >= 0) sibling(here.slot++, leaves, here.previous_first);
        here.previous_first = leaves;
        if (level == depth - 1) {
            leaf(leaves++, code << 3 | child);
        } else {
            code = code << 3 | child;
            ++level;
            enter();
        }
    }
    require(at == size, format("octree: %lld bytes follow its last node", (long long)(size - at)));
    return leaves;
}

}  // namespace tk::voxel
