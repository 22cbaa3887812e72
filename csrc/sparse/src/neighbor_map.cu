#include "arguments.hpp"
#include "grid.hpp"
#include "voxel_hash.cuh"

namespace {

using namespace tk::sparse;
constexpr int block = 256;

// One thread for each voxel and tap; consecutive threads write consecutive entries.
__global__ void find_neighbors(VoxelHash hash, const int32_t* coords, int64_t n, Grid grid, Kernel kernel,
                               int32_t* neighbors) {
    const int taps = kernel.taps();
    TK_GRID_STRIDE(i, n * taps) {
        const int32_t* c = coords + 4 * (i / taps);
        const tk::Vec3i o = kernel.offset(static_cast<int>(i % taps));
        int32_t row = -1;
        if (grid.holds(c[0], c[1], c[2], c[3])) {
            const int x = c[1] + o.x, y = c[2] + o.y, z = c[3] + o.z;
            if (grid.holds(c[0], x, y, z)) row = hash.find(c[0], x, y, z);
        }
        neighbors[i] = row;
    }
}

}  // namespace

TK_API int tk_sparse_index_scratch(int64_t n, int64_t* bytes, int, void*) {
    return tk::guarded([&] {
        require_count("n", n, INT32_MAX);
        *bytes = VoxelHash::bytes(n);
    });
}

TK_API int tk_sparse_neighbor_map(const int32_t* coords, int64_t n, int batch, int width, int height, int depth,
                                  int kernel_x, int kernel_y, int kernel_z, int dilation_x, int dilation_y,
                                  int dilation_z, void* scratch, int32_t* neighbors, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("n", n, INT32_MAX);
        const Grid grid = checked_grid(batch, width, height, depth);
        const Kernel kernel = checked_kernel(kernel_x, kernel_y, kernel_z, dilation_x, dilation_y, dilation_z);
        if (n == 0) return;
        const auto queue = static_cast<cudaStream_t>(stream);
        const VoxelHash hash(scratch, coords, n, grid, queue);
        find_neighbors<<<tk::grid_size(n * kernel.taps(), block), block, 0, queue>>>(hash, coords, n, grid, kernel, neighbors);
    });
}
