// Hashes of places and of number triples, for host and device.
#pragma once

#include <cstdint>
#include <cstring>

#include "trellis/vec.hpp"

namespace tk::mesh {

// The bits of a point; -0 is the same place as 0.
struct PointBits {
    uint32_t x, y, z;
    TK_BOTH bool operator==(const PointBits& o) const { return x == o.x && y == o.y && z == o.z; }
};

TK_BOTH inline PointBits point_bits(const float* p) {
    const float q[3] = {p[0] + 0.0f, p[1] + 0.0f, p[2] + 0.0f};
    PointBits b;
    std::memcpy(&b, q, sizeof b);
    return b;
}

TK_BOTH inline uint64_t hash_triple(uint32_t x, uint32_t y, uint32_t z) {
    uint64_t h = (uint64_t{x} << 32 | y) * 0x9e3779b97f4a7c15ULL;
    h = (h ^ (h >> 29) ^ z) * 0xbf58476d1ce4e5b9ULL;
    return h ^ (h >> 32);
}

}  // namespace tk::mesh
