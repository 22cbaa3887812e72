#include "arguments.hpp"
#include "grid.hpp"
#include "voxel_hash.cuh"

namespace {

using namespace tk::sparse;
constexpr int block = 128;

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

// The usual kernel, 3 x 3 x 3 without spacing: it always covers 2 x 2 x 2 cubes of the index. One thread a voxel;
// rows are put together in shared memory (27 is odd, so banks differ) and written in whole lines.
__global__ __launch_bounds__(block) void find_neighbors_27(VoxelHash hash, const int4* coords, int64_t n, Grid grid,
                                                           int32_t* neighbors) {
    __shared__ int32_t found[block * 27];
    for (int64_t first = int64_t(blockIdx.x) * block; first < n; first += int64_t(block) * gridDim.x) {
        const int64_t rows = n - first < block ? n - first : block;
        __syncthreads();
        if (threadIdx.x < rows) {
            const int4 c = coords[first + threadIdx.x];
            int32_t* mine = found + 27 * threadIdx.x;
            const bool inside = grid.holds(c.x, c.y, c.z, c.w);
            // Per axis the first cube reaches from -1 to a cut: an even voxel begins a cube, an odd one ends one.
            const int cut_x = c.y & 1 ? 2 : 1, cut_y = c.z & 1 ? 2 : 1, cut_z = c.w & 1 ? 2 : 1;
            int64_t cubes[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                const int x = ((c.y - 1) >> 1) + (i & 1), y = ((c.z - 1) >> 1) + (i >> 1 & 1), z = ((c.w - 1) >> 1) + (i >> 2);
                const bool reachable = inside && x >= 0 && y >= 0 && z >= 0 && x <= 32767 && y <= 32767 && z <= 32767;
                cubes[i] = reachable ? hash.find_cube(c.x, x, y, z) : -1;
            }
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                int4 low{-1, -1, -1, -1}, high{-1, -1, -1, -1};
                if (cubes[i] >= 0) {
                    const int4* rows_of_cube = reinterpret_cast<const int4*>(hash.cube_rows(cubes[i]));
                    low = __ldg(rows_of_cube);
                    high = __ldg(rows_of_cube + 1);
                }
                const int32_t row[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
                // Voxels of the index lie inside the grid, so nothing needs to be tested again.
                const int x0 = i & 1 ? cut_x : cut_x - 2, y0 = i >> 1 & 1 ? cut_y : cut_y - 2, z0 = i >> 2 ? cut_z : cut_z - 2;
#pragma unroll
                for (int child = 0; child < 8; ++child) {
                    const int x = x0 + (child & 1), y = y0 + (child >> 1 & 1), z = z0 + (child >> 2);
                    if (x >= 0 && x < 3 && y >= 0 && y < 3 && z >= 0 && z < 3) mine[9 * x + 3 * y + z] = row[child];
                }
            }
        }
        __syncthreads();
        for (int64_t i = threadIdx.x; i < rows * 27; i += block) neighbors[first * 27 + i] = found[i];
    }
}

}  // namespace

TK_API int tk_sparse_neighbor_map(const int32_t* coords, int64_t n, int batch, int width, int height, int depth,
                                  int kernel_x, int kernel_y, int kernel_z, int dilation_x, int dilation_y,
                                  int dilation_z, const void* index, int32_t* neighbors, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("n", n, INT32_MAX);
        const Grid grid = checked_grid(batch, width, height, depth);
        const Kernel kernel = checked_kernel(kernel_x, kernel_y, kernel_z, dilation_x, dilation_y, dilation_z);
        if (n == 0) return;
        const auto queue = static_cast<cudaStream_t>(stream);
        const VoxelHash hash(const_cast<void*>(index), n);
        const bool usual = kernel_x == 3 && kernel_y == 3 && kernel_z == 3 && dilation_x == 1 && dilation_y == 1 && dilation_z == 1;
        if (usual)
            find_neighbors_27<<<tk::grid_size(n, block), block, 0, queue>>>(hash, reinterpret_cast<const int4*>(coords), n, grid, neighbors);
        else
            find_neighbors<<<tk::grid_size(n * kernel.taps(), block), block, 0, queue>>>(hash, coords, n, grid, kernel, neighbors);
    });
}
