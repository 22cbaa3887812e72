// Submanifold convolution on tensor cores from Turing on: the same implicit matrix product as conv_wgmma.cu by
// instructions that every architecture has. A block computes 128 rows by 128 channels, a warp 32 by 64.
#include <algorithm>

#include "conv_store.cuh"

namespace {

using namespace tk::sparse;

constexpr int rows = 128, columns = 128, line = 64, stages = 3, threads = 256;
constexpr int pieces = line / 16;                       // of 16 bytes
constexpr int map_stride = rows + 1;                    // odd, so that taps of a row lie in different banks
constexpr int stage_bytes = (rows + columns) * line;
static_assert(rows == 2 * group_rows, "tiles of a plan have two groups");

struct Args {
    const uint8_t *feats, *weight;
    const int32_t *neighbors, *order;
    const uint32_t* masks;
    const int32_t* tiles;
    Output output;
    PlanShape plan;
    int groups, tiles_of_part, column_tiles, row_bytes;
};

__device__ __forceinline__ uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// 16 bytes of global memory, or zeros.
__device__ __forceinline__ void copy_16(uint8_t* to, const uint8_t* from, bool exists) {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(exists ? 16 : 0) : "memory");
#else
    *reinterpret_cast<uint4*>(to) = exists ? *reinterpret_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
#endif
}
__device__ __forceinline__ void copies_commit() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}
template <int pending>
__device__ __forceinline__ void copies_wait() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;\n" ::"n"(pending) : "memory");
#endif
}
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

// d[16 x 8] += a[16 x 32 bytes] * b[8 x 32 bytes]^T
#define TK_MULTIPLY(type, shape)                                                                                        \
    asm volatile("mma.sync.aligned." shape ".row.col.f32." type "." type ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, " \
                 "{%8, %9}, {%0, %1, %2, %3};\n"                                                                        \
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                                                       \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __half) {
#if __CUDA_ARCH__ >= 800
    TK_MULTIPLY("f16", "m16n8k16");
#else
    for (int k = 0; k < 2; ++k)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};\n"
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                     : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(k ? b1 : b0));
#endif
}
// Before Ampere these two are never launched.
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, __nv_bfloat16) {
#if __CUDA_ARCH__ >= 800
    TK_MULTIPLY("bf16", "m16n8k16");
#endif
}
__device__ __forceinline__ void multiply(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, Tf32) {
#if __CUDA_ARCH__ >= 800
    TK_MULTIPLY("tf32", "m16n8k8");
#endif
}

// Where piece `piece` of a row lies: eight rows of one piece are in different banks.
__device__ __forceinline__ int place(int row, int piece) { return row * line + ((piece ^ (row >> 1 & 3)) << 4); }

template <class T>
__global__ __launch_bounds__(threads) void convolve(const Args a) {
    extern __shared__ uint4 dynamic[];
    uint8_t* memory = reinterpret_cast<uint8_t*>(dynamic);
    int32_t* map = reinterpret_cast<int32_t*>(memory + stages * stage_bytes);
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int column0 = blockIdx.x % a.column_tiles * columns, index = blockIdx.x / a.column_tiles;
    const int entry = a.tiles ? a.tiles[index] : index;
    const int part = entry / a.tiles_of_part, tile = entry % a.tiles_of_part;
    const int first_tap = a.plan.first_tap(part), taps = a.plan.taps_of(part);
    const int32_t* order = a.order + part * a.plan.rows;
    uint32_t mask[2];
    for (int g = 0; g < 2; ++g)
        mask[g] = 2 * tile + g < a.groups ? a.masks[static_cast<int64_t>(part) * a.groups + 2 * tile + g] : 0;
    const uint32_t all = mask[0] | mask[1];
    const int steps = (a.row_bytes + line - 1) / line, count = __popc(all) * steps;
    for (int i = thread; i < rows * taps; i += threads) {
        const int64_t at = static_cast<int64_t>(tile) * rows + i / taps;
        map[i % taps * map_stride + i / taps] =
            at < a.plan.rows ? a.neighbors[static_cast<int64_t>(order[at]) * a.plan.taps + first_tap + i % taps] : -1;
    }
    __syncthreads();

    // Four threads copy a row's line, of a and of b.
    const int piece = thread % pieces;
    uint32_t coming = all;
    int coming_step = 0, loaded = 0;
    const auto load = [&] {
        if (loaded < count) {
            const int tap = __ffs(coming) - 1, at = (coming_step * pieces + piece) * 16;
            uint8_t* stage = memory + loaded % stages * stage_bytes;
            const bool within = at < a.row_bytes;
#pragma unroll
            for (int row = thread / pieces; row < rows; row += threads / pieces) {
                const int32_t from = map[tap * map_stride + row];
                copy_16(stage + place(row, piece), a.feats + static_cast<int64_t>(from < 0 ? 0 : from) * a.row_bytes + (within ? at : 0),
                        from >= 0 && within);
            }
#pragma unroll
            for (int row = thread / pieces; row < columns; row += threads / pieces) {
                const bool exists = column0 + row < a.output.channels_out && within;
                const int64_t line_of = static_cast<int64_t>(exists ? column0 + row : 0) * a.plan.taps + first_tap + tap;
                copy_16(stage + (rows + row - row % 8) * line + place(row % 8, piece), a.weight + line_of * a.row_bytes + (within ? at : 0), exists);
            }
            if (++coming_step == steps) coming_step = 0, coming &= coming - 1;
        }
        ++loaded;
        copies_commit();
    };
    for (int i = 0; i < stages - 1; ++i) load();

    const int row0 = warp / 2 * 32, my_column0 = warp % 2 * 64;
    float d[2][32];
    for (int i = 0; i < 2; ++i)
#pragma unroll
        for (int j = 0; j < 32; ++j) d[i][j] = 0;
    uint32_t left = all;
    int step = 0;
    for (int i = 0; i < count; ++i) {
        copies_wait<stages - 2>();
        __syncthreads();  // the copies of all have come, and the stage that is filled next is no longer read
        load();
        if (mask[row0 / group_rows] & left & (0u - left)) {
            const uint8_t* stage = memory + i % stages * stage_bytes;
#pragma unroll
            for (int k = 0; k < line / 32; ++k) {
                uint32_t x[2][4];
#pragma unroll
                for (int m = 0; m < 2; ++m)
                    load_matrices(x[m], shared_address(stage + place(row0 + 16 * m + lane % 16, 2 * k + lane / 16)));
#pragma unroll
                for (int j = 0; j < 8; j += 2) {
                    uint32_t y[4];
                    const int row = my_column0 + 8 * j + lane / 16 * 8 + lane % 8;
                    load_matrices(y, shared_address(stage + rows * line + place(row, 2 * k + lane / 8 % 2)));
#pragma unroll
                    for (int m = 0; m < 2; ++m) {
                        multiply(*reinterpret_cast<float(*)[4]>(&d[m][4 * j]), x[m], y[0], y[1], T{});
                        multiply(*reinterpret_cast<float(*)[4]>(&d[m][4 * j + 4]), x[m], y[2], y[3], T{});
                    }
                }
            }
        }
        if (++step == steps) step = 0, left &= left - 1;
    }
    copies_wait<0>();
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int64_t at = static_cast<int64_t>(tile) * rows + row0 + 16 * m + 8 * half + lane / 4;
            const bool valid = at < a.plan.rows;
            store_row<T, 64>(a.output, d[m], half, valid ? order[at] : 0, valid, part, column0 + my_column0, lane % 4);
        }
}

template <class T>
void launch(const TensorConv& c, int element_bytes) {
    Args a{};
    a.feats = static_cast<const uint8_t*>(c.feats);
    a.weight = static_cast<const uint8_t*>(c.weight);
    a.neighbors = c.neighbors;
    a.order = c.order;
    a.masks = c.masks;
    a.tiles = c.tiles;
    a.output = output_of(c);
    a.plan = c.plan;
    a.groups = static_cast<int>(c.plan.groups());
    a.tiles_of_part = (a.groups + 1) / 2;
    a.column_tiles = (c.channels_out + columns - 1) / columns;
    a.row_bytes = c.channels_in * element_bytes;
    int most_taps = 0;
    for (int part = 0; part < c.plan.parts; ++part) most_taps = std::max(most_taps, c.plan.taps_of(part));
    const int64_t blocks = static_cast<int64_t>(c.plan.parts) * a.tiles_of_part * a.column_tiles;
    tk::require(blocks <= INT32_MAX, "rows_out, channels_out: too many tiles");
    const int bytes = stages * stage_bytes + most_taps * map_stride * 4;
    TK_CUDA(cudaFuncSetAttribute(convolve<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    convolve<T><<<static_cast<unsigned>(blocks), threads, bytes, c.stream>>>(a);
    TK_CUDA(cudaGetLastError());
}

}  // namespace

namespace tk::sparse {

void conv_mma(const TensorConv& c) {
    if (c.precision == TK_SPARSE_F16)
        launch<__half>(c, 2);
    else if (c.precision == TK_SPARSE_BF16)
        launch<__nv_bfloat16>(c, 2);
    else
        launch<Tf32>(c, 4);
}

}  // namespace tk::sparse
