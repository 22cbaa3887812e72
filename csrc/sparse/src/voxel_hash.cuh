// Finds the row of a voxel on a device: open addressing over scratch that the caller owns.
#pragma once

#include "grid.hpp"
#include "trellis/coord_map.hpp"
#include "trellis/cuda.cuh"

namespace tk::sparse {

class VoxelHash {
public:
    static int64_t capacity(int64_t n) {
        int64_t slots = 16;
        while (slots < 2 * n) slots *= 2;
        return slots;
    }
    static int64_t bytes(int64_t n) { return capacity(n) * static_cast<int64_t>(sizeof(unsigned long long) + sizeof(unsigned)); }

    // Fills the table; the smallest of repeated rows wins whatever the order of threads. Voxels outside `grid`
    // are left out.
    VoxelHash(void* scratch, const int32_t* coords, int64_t n, Grid grid, cudaStream_t stream);

    // The row of a voxel of the grid, or -1.
    __device__ int32_t find(int b, int x, int y, int z) const {
        const unsigned long long key = pack(b, x, y, z);
        for (uint64_t at = mix(key) & mask_;; at = (at + 1) & mask_) {
            const unsigned long long seen = keys_[at];
            if (seen == key) return static_cast<int32_t>(rows_[at]);
            if (seen == empty) return -1;
        }
    }
    __device__ void insert(int b, int x, int y, int z, unsigned row) {
        const unsigned long long key = pack(b, x, y, z);
        for (uint64_t at = mix(key) & mask_;; at = (at + 1) & mask_) {
            const unsigned long long seen = atomicCAS(keys_ + at, empty, key);
            if (seen == empty || seen == key) {
                atomicMin(rows_ + at, row);
                return;
            }
        }
    }

private:
    static constexpr unsigned long long empty = ~0ull;  // no voxel of a grid: all four components would be 65535
    __device__ static unsigned long long pack(int b, int x, int y, int z) {
        return static_cast<unsigned long long>(b) << 48 | static_cast<unsigned long long>(x) << 32 |
               static_cast<unsigned long long>(y) << 16 | static_cast<unsigned long long>(z);
    }
    // The finaliser of MurmurHash3 (public domain, Austin Appleby).
    __device__ static uint64_t mix(uint64_t k) {
        k ^= k >> 33;
        k *= 0xff51afd7ed558ccdull;
        k ^= k >> 33;
        k *= 0xc4ceb9fe1a85ec53ull;
        return k ^ k >> 33;
    }

    unsigned long long* keys_;
    unsigned* rows_;
    uint64_t mask_;
};

namespace detail {
static __global__ void insert_voxels(VoxelHash hash, const int32_t* coords, int64_t n, Grid grid) {
    TK_GRID_STRIDE(i, n) {
        const int32_t* c = coords + 4 * i;
        if (grid.holds(c[0], c[1], c[2], c[3])) hash.insert(c[0], c[1], c[2], c[3], static_cast<unsigned>(i));
    }
}
}  // namespace detail

inline VoxelHash::VoxelHash(void* scratch, const int32_t* coords, int64_t n, Grid grid, cudaStream_t stream)
    : keys_(static_cast<unsigned long long*>(scratch)),
      rows_(reinterpret_cast<unsigned*>(keys_ + capacity(n))),
      mask_(static_cast<uint64_t>(capacity(n)) - 1) {
    require(scratch != nullptr, "scratch: expected memory of index_scratch bytes, got null");
    TK_CUDA(cudaMemsetAsync(scratch, 0xFF, static_cast<size_t>(bytes(n)), stream));
    if (n == 0) return;
    constexpr int block = 256;
    detail::insert_voxels<<<grid_size(n, block), block, 0, stream>>>(*this, coords, n, grid);
    TK_CUDA(cudaGetLastError());
}

}  // namespace tk::sparse
