// Flexible dual grid to mesh on the GPU; see dual_grid_mesh.cpp and quads.hpp.
//
// The order of the quads is that of the voxels: each block of rows counts its quads, one block scans the counts,
// and each block then writes its own from its begin on.
#include <cstring>

#include "block_scan.cuh"
#include "quads.hpp"
#include "trellis/cuda.cuh"
#include "trellis_voxel.h"

namespace {

using namespace tk::voxel;

constexpr int scan_threads = 1024;

__global__ void insert_voxels(VoxelTable table, const float* local_dual, GridShape shape, int64_t n, uint32_t* bad_rows) {
    TK_GRID_STRIDE(i, n) {
        const int32_t row = static_cast<int32_t>(i);
        if (!shape.holds(table.coords + i * 3)) atomicMin(bad_rows, static_cast<uint32_t>(row));
        const float* d = local_dual + i * 3;
        if (!(isfinite(d[0]) && isfinite(d[1]) && isfinite(d[2]))) atomicMin(bad_rows + 1, static_cast<uint32_t>(row));
        table.insert(row);
    }
}

__global__ void count_quads(VoxelTable table, const uint8_t* intersected, int64_t n, uint8_t* axes, int64_t* block_counts) {
    __shared__ int warp_sums[32];
    const int64_t i = int64_t{blockIdx.x} * quad_block + threadIdx.x;
    int quads = 0;
    if (i < n) {
        const uint8_t mine = quad_axes(table, intersected, static_cast<int32_t>(i));
        axes[i] = mine;
        quads = quad_count(mine);
    }
    int total;
    exclusive_scan_block(quads, warp_sums, total);
    if (threadIdx.x == 0) block_counts[blockIdx.x] = total;
}

// Replaces counts by their exclusive prefix sums, with the total behind them; one block.
__global__ void scan_counts(int64_t* counts, int64_t blocks) {
    __shared__ long long warp_sums[32];
    long long running = 0;
    for (int64_t base = 0; base < blocks; base += scan_threads) {
        const int64_t i = base + threadIdx.x;
        const long long value = i < blocks ? counts[i] : 0;
        long long total;
        const long long before = exclusive_scan_block(value, warp_sums, total);
        if (i < blocks) counts[i] = running + before;
        running += total;
        __syncthreads();
    }
    if (threadIdx.x == 0) counts[blocks] = running;
}

__global__ void write_mesh(QuadSource source, const uint8_t* axes, const int64_t* block_begins, int64_t n, float* vertices, int32_t* faces) {
    __shared__ int warp_sums[32];
    const int64_t i = int64_t{blockIdx.x} * quad_block + threadIdx.x;
    const uint8_t mine = i < n ? axes[i] : 0;
    int total;
    const int before = exclusive_scan_block(quad_count(mine), warp_sums, total);
    if (i >= n) return;
    const int32_t row = static_cast<int32_t>(i);
    source.vertex(row, vertices + i * 3);
    source.write_quads(row, mine, faces + (block_begins[blockIdx.x] + before) * 6);
}

}  // namespace

TK_API int tk_voxel_dual_grid_to_mesh_scratch(int64_t voxel_count, int64_t* bytes) {
    return tk::guarded([&] {
        tk::require(voxel_count >= 0 && voxel_count < INT32_MAX,
                    tk::format("coords: expected fewer than 2^31 voxels, got %lld", static_cast<long long>(voxel_count)));
        *bytes = QuadScratch(nullptr, voxel_count).bytes;
    });
}

TK_API int tk_voxel_dual_grid_to_mesh_count(const int32_t* coords, const float* local_dual, const uint8_t* intersected,
                                            int64_t voxel_count, const int32_t* grid_size, void* scratch, int64_t* quads,
                                            int device, void* stream_pointer) {
    return tk::guarded_on(device, [&] {
        *quads = 0;
        if (voxel_count == 0) return;
        const cudaStream_t stream = static_cast<cudaStream_t>(stream_pointer);
        const QuadScratch memory(scratch, voxel_count);
        const GridShape shape{{grid_size[0], grid_size[1], grid_size[2]}};
        const VoxelTable table = memory.table(coords);
        TK_CUDA(cudaMemsetAsync(memory.bad_rows, 0xff, 2 * sizeof(uint32_t), stream));
        TK_CUDA(cudaMemsetAsync(memory.slots, 0xff, memory.slot_count * sizeof(int32_t), stream));
        insert_voxels<<<tk::grid_size(voxel_count, 256), 256, 0, stream>>>(table, local_dual, shape, voxel_count, memory.bad_rows);
        TK_CUDA(cudaGetLastError());
        count_quads<<<static_cast<unsigned>(memory.blocks), quad_block, 0, stream>>>(table, intersected, voxel_count, memory.axes,
                                                                                     memory.block_begins);
        TK_CUDA(cudaGetLastError());
        scan_counts<<<1, scan_threads, 0, stream>>>(memory.block_begins, memory.blocks);
        TK_CUDA(cudaGetLastError());
        // The total and the bad rows lie side by side.
        struct {
            int64_t quads;
            uint32_t bad_rows[2];
        } found;
        TK_CUDA(cudaMemcpyAsync(&found, memory.block_begins + memory.blocks, sizeof found, cudaMemcpyDeviceToHost, stream));
        TK_CUDA(cudaStreamSynchronize(stream));
        if (found.bad_rows[0] != UINT32_MAX) {
            int32_t c[3];
            TK_CUDA(cudaMemcpyAsync(c, coords + int64_t{found.bad_rows[0]} * 3, sizeof c, cudaMemcpyDeviceToHost, stream));
            TK_CUDA(cudaStreamSynchronize(stream));
            tk::require(false, tk::format("coords: expected voxels of a grid of size [%d, %d, %d], got [%d, %d, %d] at %u", shape.size[0],
                                          shape.size[1], shape.size[2], c[0], c[1], c[2], found.bad_rows[0]));
        }
        tk::require(found.bad_rows[1] == UINT32_MAX, tk::format("local_dual: expected finite numbers, got others at %u", found.bad_rows[1]));
        *quads = found.quads;
    });
}

TK_API int tk_voxel_dual_grid_to_mesh_fill(const int32_t* coords, const float* local_dual, const float* split_weight,
                                           int64_t voxel_count, const float* origin, const float* voxel_size, void* scratch,
                                           float* vertices, int32_t* faces, int device, void* stream_pointer) {
    return tk::guarded_on(device, [&] {
        if (voxel_count == 0) return;
        const QuadScratch memory(scratch, voxel_count);
        QuadSource source{memory.table(coords), local_dual, split_weight, {}};
        std::memcpy(source.placement.origin, origin, sizeof source.placement.origin);
        std::memcpy(source.placement.voxel_size, voxel_size, sizeof source.placement.voxel_size);
        write_mesh<<<static_cast<unsigned>(memory.blocks), quad_block, 0, static_cast<cudaStream_t>(stream_pointer)>>>(
            source, memory.axes, memory.block_begins, voxel_count, vertices, faces);
    });
}
