// How rows of a neighbour map are ordered so that rows in one tile have the same neighbours; for host and device.
//
// The taps of a kernel are cut into parts, and each part has an order of its own: rows sorted by which of the
// part's taps they have. Fewer taps have fewer combinations, so tiles of rows waste less; but the parts' sums must
// then be added up. Within a part, rows can further be kept in chunks of neighbouring rows, for locality.
#pragma once

#include <cstdint>

#include "trellis/error.hpp"
#include "trellis/vec.hpp"

namespace tk::sparse {

constexpr int group_rows = 64;       // rows that share one mask
constexpr int max_part_bits = 26;    // of a 32-bit sorting key; the rest tells part and chunk
constexpr int max_parts = 16;

struct PlanShape {
    int64_t rows;
    int taps, parts;
    int64_t chunk_rows;

    TK_BOTH int first_tap(int part) const { return static_cast<int>(static_cast<int64_t>(part) * taps / parts); }
    TK_BOTH int taps_of(int part) const { return first_tap(part + 1) - first_tap(part); }
    TK_BOTH int64_t chunks() const { return (rows + chunk_rows - 1) / chunk_rows; }
    TK_BOTH int64_t groups() const { return (rows + group_rows - 1) / group_rows; }
    // The one tap that needs no bit: the middle of a kernel of 27 taps, where a submanifold map has the row itself.
    TK_BOTH bool implied(int tap) const { return taps == 27 && tap == 13; }
    TK_BOTH int bits(int part) const {
        const int first = first_tap(part), count = taps_of(part);
        return count - (taps == 27 && first <= 13 && 13 < first + count ? 1 : 0);
    }
    TK_BOTH int most_bits() const {
        int most = 0;
        for (int part = 0; part < parts; ++part) most = bits(part) > most ? bits(part) : most;
        return most;
    }
};

// Where the numbers of taps and parts are known to the compiler, the loops below become straight code.
#ifdef __CUDA_ARCH__
#define TK_UNROLL _Pragma("unroll")
#else
#define TK_UNROLL
#endif

// Calls body(tap) for the taps of a part that have bits, from the highest bit to the lowest. Of a 3 x 3 x 3 kernel
// those that surfaces have most often come first: face neighbours, then edges, then corners.
template <class Body>
TK_BOTH inline void for_each_key_bit(const PlanShape& s, int part, Body&& body) {
    const int first = s.first_tap(part), end = first + s.taps_of(part);
    TK_UNROLL
    for (int distance = 0; distance < (s.taps == 27 ? 4 : 1); ++distance)
        TK_UNROLL
        for (int tap = first; tap < end; ++tap) {
            if (s.implied(tap)) continue;
            if (s.taps == 27) {
                const int x = tap / 9 - 1, y = tap / 3 % 3 - 1, z = tap % 3 - 1;
                if (x * x + y * y + z * z != distance) continue;
            }
            body(tap);
        }
}

// The place of a set of taps (as bits, the highest first) in a reflected Gray code, where neighbours differ in one.
TK_BOTH inline uint32_t gray_rank(uint32_t bits) {
    for (int shift = 1; shift < 32; shift *= 2) bits ^= bits >> shift;
    return bits;
}
TK_BOTH inline uint32_t gray_bits(uint32_t rank) { return rank ^ rank >> 1; }

// neighbors: one row of the map. The segment is that of part and chunk, 0 to parts * chunks() - 1.
TK_BOTH inline uint32_t plan_key(const PlanShape& s, const int32_t* neighbors, int64_t row, int part) {
    uint32_t bits = 0;
    for_each_key_bit(s, part, [&](int tap) { bits = bits << 1 | (neighbors[tap] >= 0 ? 1u : 0u); });
    const uint32_t chunk = static_cast<uint32_t>(row) / static_cast<uint32_t>(s.chunk_rows);  // rows are below 2^31
    const uint32_t segment = static_cast<uint32_t>(part * s.chunks()) + chunk;
    return segment << s.most_bits() | gray_rank(bits);
}

// From the bits of plan_key to a mask whose bit i is tap first_tap(part) + i.
TK_BOTH inline uint32_t mask_of_bits(const PlanShape& s, int part, uint32_t bits) {
    uint32_t mask = 0;
    int at = s.bits(part);
    for_each_key_bit(s, part, [&](int tap) { mask |= (bits >> --at & 1u) << (tap - s.first_tap(part)); });
    const int first = s.first_tap(part);
    if (s.bits(part) < s.taps_of(part)) mask |= 1u << (13 - first);
    return mask;
}

// What tile i (of two groups, counted part by part) costs: multiplications of 64 rows, then loads of weights.
TK_BOTH inline int tile_cost(const uint32_t* masks, int64_t groups, int64_t tiles_of_part, int64_t i) {
    const int64_t part = i / tiles_of_part, first = i % tiles_of_part * 2;
    const uint32_t a = masks[part * groups + first], b = first + 1 < groups ? masks[part * groups + first + 1] : 0;
    int cost = 0;
    for (int bit = 0; bit < 32; ++bit) cost += (a >> bit & 1) + (b >> bit & 1) + ((a | b) >> bit & 1);
    return cost;  // at most 3 * 27
}

inline PlanShape checked_plan(int64_t rows, int64_t taps, int parts, int64_t chunk_rows) {
    require(taps >= 1 && taps <= max_parts * max_part_bits,
            format("taps: expected in [1, %d] for a plan, got %lld", max_parts * max_part_bits, static_cast<long long>(taps)));
    require(parts >= 1 && parts <= max_parts && parts <= taps,
            format("parts: expected in [1, %d], at most one a tap, got %d", max_parts, parts));
    require(chunk_rows >= 1, format("chunk_rows: expected at least 1, got %lld", static_cast<long long>(chunk_rows)));
    const PlanShape s{rows, static_cast<int>(taps), parts, chunk_rows < rows ? chunk_rows : rows > 1 ? rows : 1};
    require(s.most_bits() <= max_part_bits, format("parts: %d are too few for %lld taps; a part holds at most %d", parts,
                                                   static_cast<long long>(taps), max_part_bits));
    require(parts * s.chunks() <= int64_t{1} << (32 - s.most_bits()),
            format("chunk_rows: %lld makes more chunks than sorting keys can tell apart", static_cast<long long>(chunk_rows)));
    return s;
}

}  // namespace tk::sparse
