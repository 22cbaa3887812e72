// Finds the row of a voxel: a hash map of blocks of 4 x 4 x 4 voxels. Within a block a 64-bit mask says which
// voxels exist, and the number of lower bits that are set says where a voxel's row stands. The queries of a
// neighbourhood fall into at most eight blocks for kernels of 3 and into one or two on average, so most of them
// cost no hash lookup at all, and absent voxels cost no memory access.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "grid.hpp"
#include "trellis/coord_map.hpp"
#include "trellis/sort.hpp"

namespace tk::sparse {

class VoxelIndex {
public:
    // coords: int32 [n, 4], n < 2^31. Where voxels repeat the smallest row wins; those outside the grid are never found.
    VoxelIndex(const int32_t* coords, int64_t n, const Grid& grid) {
        std::vector<int32_t> block_of(static_cast<size_t>(n));
        const int64_t count = number_blocks(coords, n, grid, block_of.data());
        blocks_.resize(static_cast<size_t>(count));
        std::unique_ptr<std::atomic<uint64_t>[]> masks(new std::atomic<uint64_t>[static_cast<size_t>(count)]());
        parallel_for(n, grain, [&](int64_t i) {
            masks[block_of[i]].fetch_or(uint64_t{1} << bit(coords + 4 * i), std::memory_order_relaxed);
        });
        std::vector<int64_t> first(static_cast<size_t>(count));
        parallel_for(count, grain, [&](int64_t k) { first[k] = ones(masks[k]); });
        const int64_t voxels = exclusive_scan(first.data(), count);
        rows_.reset(new std::atomic<int32_t>[static_cast<size_t>(voxels)]);
        parallel_for(voxels, grain, [&](int64_t i) { rows_[i].store(INT32_MAX, std::memory_order_relaxed); });
        parallel_for(count, grain, [&](int64_t k) {
            blocks_[k].mask = masks[k];
            blocks_[k].first = static_cast<int32_t>(first[k]);
        });
        parallel_for(n, grain, [&](int64_t i) {
            const Block& block = blocks_[block_of[i]];
            std::atomic<int32_t>& row = rows_[block.first + ones(block.mask & below(bit(coords + 4 * i)))];
            int32_t seen = row.load(std::memory_order_relaxed);
            while (i < seen && !row.compare_exchange_weak(seen, static_cast<int32_t>(i), std::memory_order_relaxed)) {}
        });
        map_.reset(new CoordMap(count, [&](int64_t k) { return blocks_[k].key; }));
    }

    // Looks up voxels; one for each thread, since it remembers the blocks last seen.
    class Finder {
    public:
        explicit Finder(const VoxelIndex& index) : index_(index) {
            for (Seen& s : seen_) s = {~uint64_t{0}, 0, 0};
        }
        // The row of a voxel of the grid, or -1.
        int32_t operator()(int b, int x, int y, int z) {
            const uint64_t key = pack_coord(b, x >> 2, y >> 2, z >> 2);
            // Eight blocks that meet in a corner differ in these bits.
            Seen& seen = seen_[(x >> 2 & 1) << 2 | (y >> 2 & 1) << 1 | (z >> 2 & 1)];
            if (seen.key != key) {
                const int64_t k = index_.map_->find(key);
                seen = k < 0 ? Seen{key, 0, 0} : Seen{key, index_.blocks_[k].mask, index_.blocks_[k].first};
            }
            const int at = (x & 3) << 4 | (y & 3) << 2 | (z & 3);
            if (!(seen.mask >> at & 1)) return -1;
            return index_.rows_[seen.first + ones(seen.mask & below(at))].load(std::memory_order_relaxed);
        }

    private:
        struct Seen {
            uint64_t key, mask;
            int32_t first;
        };
        const VoxelIndex& index_;
        Seen seen_[8];
    };

private:
    static constexpr int64_t grain = 1 << 14;
    static constexpr uint64_t outside = uint64_t{0xFFFF} << 32;  // no block of a grid has this x
    struct Block {
        uint64_t key, mask;
        int32_t first;
    };

    static uint64_t below(int bit) { return (uint64_t{1} << bit) - 1; }
    static int bit(const int32_t* c) { return (c[1] & 3) << 4 | (c[2] & 3) << 2 | (c[3] & 3); }
    // Number of set bits, by halving: the popcnt instruction cannot be counted on.
    static int ones(uint64_t v) {
        v -= v >> 1 & 0x5555555555555555ull;
        v = (v & 0x3333333333333333ull) + (v >> 2 & 0x3333333333333333ull);
        v = (v + (v >> 4)) & 0x0F0F0F0F0F0F0F0Full;
        return static_cast<int>(v * 0x0101010101010101ull >> 56);
    }

    // Numbers the blocks in the order in which the rows first touch them.
    int64_t number_blocks(const int32_t* coords, int64_t n, const Grid& grid, int32_t* block_of) {
        auto key = [&](int64_t i) {
            const int32_t* c = coords + 4 * i;
            const bool inside = grid.holds(c[0], c[1], c[2], c[3]);
            return inside ? pack_coord(c[0], c[1] >> 2, c[2] >> 2, c[3] >> 2) : outside;
        };
        const CoordMap first_row(n, key);
        std::vector<int32_t> number(static_cast<size_t>(n));
        parallel_for(n, grain, [&](int64_t i) {
            block_of[i] = static_cast<int32_t>(first_row.find(key(i)));
            number[i] = block_of[i] == i;
        });
        const int64_t count = exclusive_scan(number.data(), n);
        blocks_.resize(static_cast<size_t>(count));
        parallel_for(n, grain, [&](int64_t i) {
            const int32_t block = number[block_of[i]];
            if (block_of[i] == i) blocks_[block].key = key(i);
            block_of[i] = block;
        });
        return count;
    }

    std::vector<Block> blocks_;
    std::unique_ptr<std::atomic<int32_t>[]> rows_;
    std::unique_ptr<CoordMap> map_;
};

}  // namespace tk::sparse
