// Orders of rows for convolution on tensor cores: what conv_plan.cpp does, with CUB's stable radix sort.
#include <algorithm>

#include <cub/cub.cuh>

#include "arguments.hpp"
#include "plan_key.hpp"
#include "trellis/cuda.cuh"

namespace {

using namespace tk::sparse;
constexpr int block = 128;

// Reads the map in whole lines through shared memory; a row has an odd number of taps or few, so banks differ.
// taps and parts: those of the plan, or 0 where they are not known at compile time.
template <int taps, int parts>
__global__ void make_keys(const int32_t* neighbors, int64_t rows_in, PlanShape shape, uint32_t* keys, int32_t* values,
                          unsigned long long* wrong) {
    const PlanShape s{shape.rows, taps ? taps : shape.taps, parts ? parts : shape.parts, shape.chunk_rows};
    extern __shared__ int32_t map[];
    for (int64_t first = int64_t(blockIdx.x) * block; first < s.rows; first += int64_t(block) * gridDim.x) {
        const int64_t rows = s.rows - first < block ? s.rows - first : block;
        __syncthreads();
        for (int64_t i = threadIdx.x; i < rows * s.taps; i += block) {
            const int32_t row = neighbors[first * s.taps + i];
            if (row < -1 || row >= rows_in) atomicMin(wrong, static_cast<unsigned long long>(first * s.taps + i));
            map[i] = row;
        }
        __syncthreads();
        if (threadIdx.x >= rows) continue;
        const int64_t row = first + threadIdx.x;
#pragma unroll
        for (int part = 0; part < s.parts; ++part) {
            keys[part * s.rows + row] = plan_key(s, map + threadIdx.x * s.taps, row, part);
            values[part * s.rows + row] = static_cast<int32_t>(row);
        }
    }
}

// One warp a group.
__global__ void make_masks(const uint32_t* keys, PlanShape s, uint32_t* masks) {
    const uint32_t low = (1u << s.most_bits()) - 1;
    const int lane = threadIdx.x % 32;
    const int64_t warps = int64_t(gridDim.x) * (block / 32);
    for (int64_t i = int64_t(blockIdx.x) * (block / 32) + threadIdx.x / 32; i < s.parts * s.groups(); i += warps) {
        const int part = static_cast<int>(i / s.groups());
        const int64_t first = i % s.groups() * group_rows;
        uint32_t bits = 0;
        for (int64_t row = first + lane; row < first + group_rows && row < s.rows; row += 32)
            bits |= gray_bits(keys[part * s.rows + row] & low);
        for (int step = 16; step > 0; step /= 2) bits |= __shfl_xor_sync(~0u, bits, step);
        if (lane == 0) masks[i] = mask_of_bits(s, part, bits);
    }
}

__global__ void make_costs(const uint32_t* masks, int64_t groups, int64_t tiles_of_part, int64_t n, uint32_t* keys, int32_t* values) {
    TK_GRID_STRIDE(i, n) {
        keys[i] = static_cast<uint32_t>(127 - tile_cost(masks, groups, tiles_of_part, i));
        values[i] = static_cast<int32_t>(i);
    }
}

// The scratch of a plan, cut up.
struct Scratch {
    uint32_t *keys, *sorted;
    int32_t* values;
    void* temporary;
    size_t temporary_bytes = 0, bytes;

    Scratch(void* memory, const PlanShape& s) {
        const size_t n = static_cast<size_t>(s.parts) * static_cast<size_t>(s.rows);
        TK_CUDA(cub::DeviceRadixSort::SortPairs(nullptr, temporary_bytes, static_cast<const uint32_t*>(nullptr), static_cast<uint32_t*>(nullptr),
                                                static_cast<const int32_t*>(nullptr), static_cast<int32_t*>(nullptr), static_cast<int64_t>(n)));
        const size_t array = (n * 4 + 255) / 256 * 256;
        bytes = 3 * array + temporary_bytes;
        uint8_t* at = static_cast<uint8_t*>(memory);
        keys = reinterpret_cast<uint32_t*>(at);
        sorted = reinterpret_cast<uint32_t*>(at + array);
        values = reinterpret_cast<int32_t*>(at + 2 * array);
        temporary = at + 3 * array;
    }
};

int bits_for(int64_t values) {
    int bits = 0;
    while (int64_t{1} << bits < values) ++bits;
    return bits;
}

}  // namespace

TK_API int tk_sparse_conv_plan_scratch(int64_t rows_out, int64_t taps, int parts, int64_t chunk_rows, int64_t* bytes, int device, void*) {
    return tk::guarded_on(device, [&] {
        require_count("rows_out", rows_out, INT32_MAX);
        *bytes = static_cast<int64_t>(Scratch(nullptr, checked_plan(rows_out, taps, parts, chunk_rows)).bytes);
    });
}

TK_API int tk_sparse_conv_plan(const int32_t* neighbors, int64_t rows_in, int64_t rows_out, int64_t taps, int parts,
                               int64_t chunk_rows, void* scratch, int32_t* order, uint32_t* masks, int32_t* tiles, int64_t* wrong,
                               int device, void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("rows_in", rows_in, INT32_MAX);
        require_count("rows_out", rows_out, INT32_MAX);
        const PlanShape s = checked_plan(rows_out, taps, parts, chunk_rows);
        const auto queue = static_cast<cudaStream_t>(stream);
        TK_CUDA(cudaMemsetAsync(wrong, 0x7F, sizeof(int64_t), queue));  // a number beyond any index
        if (rows_out == 0) return;
        tk::require(scratch != nullptr, "scratch: expected memory of conv_plan_scratch bytes, got null");
        const Scratch room(scratch, s);
        const size_t shared = sizeof(int32_t) * block * static_cast<size_t>(taps);
        const auto kernel = taps == 27 && parts == 1 ? make_keys<27, 1> : taps == 27 && parts == 2 ? make_keys<27, 2> : make_keys<0, 0>;
        TK_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared)));
        kernel<<<tk::grid_size(rows_out, block), block, shared, queue>>>(neighbors, rows_in, s, room.keys, room.values,
                                                                         reinterpret_cast<unsigned long long*>(wrong));
        TK_CUDA(cudaGetLastError());
        const int64_t n = parts * rows_out;
        size_t temporary = room.temporary_bytes;
        TK_CUDA(cub::DeviceRadixSort::SortPairs(room.temporary, temporary, room.keys, room.sorted, room.values, order, n, 0,
                                                std::max(1, s.most_bits() + bits_for(parts * s.chunks())), queue));
        make_masks<<<tk::grid_size(parts * s.groups() * 32, block), block, 0, queue>>>(room.sorted, s, masks);
        TK_CUDA(cudaGetLastError());
        if (!tiles) return;
        const int64_t tiles_of_part = (s.groups() + 1) / 2, count = parts * tiles_of_part;
        make_costs<<<tk::grid_size(count, block), block, 0, queue>>>(masks, s.groups(), tiles_of_part, count, room.keys, room.values);
        TK_CUDA(cudaGetLastError());
        temporary = room.temporary_bytes;
        TK_CUDA(cub::DeviceRadixSort::SortPairs(room.temporary, temporary, room.keys, room.sorted, room.values,
                                                tiles, count, 0, 7, queue));
    });
}
