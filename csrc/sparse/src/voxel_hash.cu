#include "voxel_hash.cuh"

#include "arguments.hpp"

namespace {

using namespace tk::sparse;
constexpr int block = 256;

__global__ void insert_voxels(VoxelHash hash, const int4* coords, int64_t n, Grid grid, unsigned long long* outside) {
    TK_GRID_STRIDE(i, n) {
        const int4 c = coords[i];
        if (grid.holds(c.x, c.y, c.z, c.w))
            hash.insert(c.x, c.y, c.z, c.w, static_cast<unsigned>(i));
        else
            atomicMin(outside, static_cast<unsigned long long>(i));
    }
}

}  // namespace

TK_API int tk_sparse_index_bytes(int64_t n, int64_t* bytes, int, void*) {
    return tk::guarded([&] {
        require_count("n", n, INT32_MAX);
        *bytes = VoxelHash::bytes(n);
    });
}

TK_API int tk_sparse_index_build(const int32_t* coords, int64_t n, int batch, int width, int height, int depth, void* index,
                                 int64_t* outside, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("n", n, INT32_MAX);
        const Grid grid = checked_grid(batch, width, height, depth);
        const auto queue = static_cast<cudaStream_t>(stream);
        const VoxelHash hash(index, n);
        TK_CUDA(cudaMemsetAsync(outside, 0x7F, sizeof(int64_t), queue));  // a number beyond any row
        TK_CUDA(cudaMemsetAsync(index, 0xFF, static_cast<size_t>(VoxelHash::bytes(n)), queue));
        if (n == 0) return;
        tk::require(reinterpret_cast<uintptr_t>(coords) % 16 == 0, "coords: expected memory at a multiple of 16 bytes");
        insert_voxels<<<tk::grid_size(n, block), block, 0, queue>>>(hash, reinterpret_cast<const int4*>(coords), n, grid,
                                                                    reinterpret_cast<unsigned long long*>(outside));
    });
}
