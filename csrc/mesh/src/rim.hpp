// Marks of vertices that tell boundary edges without sorting all edges, for host and device.
//
// A vertex's mark is the exclusive or of a hash of both neighbours that each of its faces gives it. A neighbour across an edge of
// an even number of faces drops out, so the mark of a vertex without edges of an odd number is 0. At an end of a boundary edge it
// is not: of two odd neighbours, which a vertex on the rim of a surface has, the hashes differ, as the hash is one to one; that
// those of three or more cancel each other, where several rims meet at a vertex, has a chance of 2^-64.
#pragma once

#include "topology.hpp"

namespace tk::mesh {

// One to one, and 0 for no index (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
TK_BOTH inline uint64_t neighbour_hash(int32_t vertex) {
    uint64_t h = (static_cast<uint64_t>(vertex) + 1) * 0x9e3779b97f4a7c15ULL;
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9ULL;
    h = (h ^ h >> 27) * 0x94d049bb133111ebULL;
    return h ^ h >> 31;
}

TK_BOTH inline void toggle(uint64_t* mark, uint64_t bits) {
#ifdef __CUDA_ARCH__
    atomicXor(reinterpret_cast<unsigned long long*>(mark), static_cast<unsigned long long>(bits));
#else
    __atomic_fetch_xor(mark, bits, __ATOMIC_RELAXED);
#endif
}

struct MarkFace {
    const int32_t* faces;
    uint64_t* mark;
    TK_BOTH void operator()(int64_t f) const {
        const int32_t* face = faces + 3 * f;
        if (!is_proper(face)) return;
        const uint64_t a = neighbour_hash(face[0]), b = neighbour_hash(face[1]), c = neighbour_hash(face[2]);
        toggle(mark + face[0], b ^ c);
        toggle(mark + face[1], c ^ a);
        toggle(mark + face[2], a ^ b);
    }
};

struct TouchFace {
    const int32_t* faces;
    const uint64_t* mark;
    uint8_t* touching;
    TK_BOTH void operator()(int64_t f) const {
        const int32_t* face = faces + 3 * f;
        touching[f] = is_proper(face) && (mark[face[0]] || mark[face[1]] || mark[face[2]]);
    }
};

}  // namespace tk::mesh
