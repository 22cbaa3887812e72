// Finds the rows of voxels on a device: open addressing over memory that the caller owns. A slot is a cube of 2 x 2 x 2
// voxels, so that the voxels around a point or under a kernel are found with few probes and whole sectors.
#pragma once

#include "child_slot.hpp"
#include "grid.hpp"
#include "trellis/coord_map.hpp"
#include "trellis/cuda.cuh"

namespace tk::sparse {

class VoxelHash {
public:
    // Three slots for two voxels: even where each voxel has a cube of its own a third stays free.
    static int64_t capacity(int64_t n) { return (n + n / 2) / 4 * 4 + 16; }
    static int64_t bytes(int64_t n) { return capacity(n) * static_cast<int64_t>(sizeof(unsigned long long) + 8 * sizeof(unsigned)); }

    // memory: of bytes(n), at a multiple of 32.
    VoxelHash(void* memory, int64_t n)
        : keys_(static_cast<unsigned long long*>(memory)),
          rows_(reinterpret_cast<unsigned*>(keys_ + capacity(n))),
          capacity_(static_cast<uint64_t>(capacity(n))) {
        require(memory != nullptr, "index: expected memory of index_bytes bytes, got null");
    }

    // The slot of the cube that holds voxel (2x, 2y, 2z), or -1.
    __device__ int64_t find_cube(int b, int x, int y, int z) const {
        const unsigned long long key = pack(b, x, y, z);
        for (uint64_t at = start(key);; at = next(at)) {
            const unsigned long long seen = __ldg(keys_ + at);
            if (seen == key) return static_cast<int64_t>(at);
            if (seen == empty) return -1;
        }
    }
    // The rows of a cube's voxels, by child_slot; -1 where there is none.
    __device__ const int32_t* cube_rows(int64_t cube) const { return reinterpret_cast<const int32_t*>(rows_ + 8 * cube); }
    // The row of a voxel of the grid, or -1.
    __device__ int32_t find(int b, int x, int y, int z) const {
        const int64_t cube = find_cube(b, x >> 1, y >> 1, z >> 1);
        return cube < 0 ? -1 : __ldg(cube_rows(cube) + child_slot(x, y, z));
    }
    // The smallest of repeated rows wins whatever the order of threads.
    __device__ void insert(int b, int x, int y, int z, unsigned row) {
        const unsigned long long key = pack(b, x >> 1, y >> 1, z >> 1);
        for (uint64_t at = start(key);; at = next(at)) {
            unsigned long long seen = keys_[at];
            if (seen == empty) seen = atomicCAS(keys_ + at, empty, key);
            if (seen == empty || seen == key) {
                atomicMin(rows_ + 8 * at + child_slot(x, y, z), row);
                return;
            }
        }
    }

private:
    static constexpr unsigned long long empty = ~0ull;  // no cube of a grid: all four components would be 65535
    __device__ static unsigned long long pack(int b, int x, int y, int z) {
        return static_cast<unsigned long long>(b) << 48 | static_cast<unsigned long long>(x) << 32 |
               static_cast<unsigned long long>(y) << 16 | static_cast<unsigned long long>(z);
    }
    // The finaliser of MurmurHash3 (public domain, Austin Appleby), scaled to the capacity.
    __device__ uint64_t start(uint64_t k) const {
        k ^= k >> 33;
        k *= 0xff51afd7ed558ccdull;
        k ^= k >> 33;
        k *= 0xc4ceb9fe1a85ec53ull;
        k ^= k >> 33;
        return __umul64hi(k, capacity_);
    }
    __device__ uint64_t next(uint64_t at) const { return at + 1 == capacity_ ? 0 : at + 1; }

    unsigned long long* keys_;
    unsigned* rows_;
    uint64_t capacity_;
};

}  // namespace tk::sparse
