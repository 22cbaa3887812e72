// Submanifold convolution on Hopper's tensor cores (sm_90a): an implicit matrix product. A tile of rows, sorted so that
// they have nearly the same neighbours, goes through the taps that any of them has; for each, the neighbours' features
// are gathered into shared memory by one warpgroup, beside a box of the tap's weights, and multiplied by others.
#include <cuda.h>
#include <dlfcn.h>

#include <algorithm>

#include "conv_cuda.cuh"
#include "conv_store.cuh"
#include "wgmma.cuh"

namespace {

using namespace tk::sparse;
using namespace tk::sparse::hopper;

constexpr int line = 128;  // bytes of a row in one stage
constexpr int gatherers = 128;

// The shared memory of a block. Tiles of a and b lie at multiples of 1024 bytes.
template <int groups, int columns, int stages>
struct Layout {
    static constexpr int rows = groups * group_rows;
    static constexpr int map_stride = rows + 1;  // odd, so that taps of a row lie in different banks
    static constexpr int a = 0, b = a + stages * rows * line, full = b + stages * columns * line;
    static constexpr int empty = full + 8 * stages, map_full = empty + 8 * stages, item_full = map_full + 16,
                         item_empty = item_full + 16, items = item_empty + 16, maps = items + 8;
    static int bytes(int most_taps) { return 1024 + maps + 2 * most_taps * map_stride * 4; }
};

struct Args {
    const uint8_t* feats;
    const int32_t *neighbors, *order;
    const uint32_t* masks;
    const int32_t* tiles;
    Output output;
    int* next;
    PlanShape plan;
    int groups, tiles_of_part, column_tiles, count;  // count: of all items
    int row_bytes, most_taps;
};

struct Item {
    int part, tile, column;

    Item() = default;
    __device__ Item(const Args& a, int index) {
        column = index % a.column_tiles;
        const int entry = a.tiles ? a.tiles[index / a.column_tiles] : index / a.column_tiles;
        part = entry / a.tiles_of_part;
        tile = entry % a.tiles_of_part;
    }
};

__device__ __forceinline__ uint32_t tile_mask(const Args& a, const Item& item, int groups_of_tile) {
    uint32_t all = 0;
    for (int g = 0; g < groups_of_tile; ++g) {
        const int group = item.tile * groups_of_tile + g;
        if (group < a.groups) all |= a.masks[static_cast<int64_t>(item.part) * a.groups + group];
    }
    return all;
}

// The gathering warpgroup: fills stages with neighbours' features and weights, and hands out tiles. With one warp for each
// scheduler it is a chain of dependent instructions that nothing hides, so they are kept few.
template <class T, int groups_of_tile, int columns, int stages>
__device__ __forceinline__ void gather(const Args& a, const CUtensorMap* weight, uint32_t base, uint8_t* memory) {
    using L = Layout<groups_of_tile, columns, stages>;
    constexpr int rows = L::rows, mine = rows / 16;  // eight threads read a row's line
    constexpr int rows_of_warp = rows / (gatherers / 32), held = (rows_of_warp + 31) / 32;
    constexpr int channels = line / static_cast<int>(sizeof(T));
    const int thread = threadIdx.x, chunk = thread % 8, first_row = thread / 8;
    const int lane = thread % 32, first_of_warp = thread / 32 * rows_of_warp;
    int32_t* maps = reinterpret_cast<int32_t*>(memory + L::maps);
    volatile int* items = reinterpret_cast<volatile int*>(memory + L::items);
    const int steps = (a.row_bytes + line - 1) / line;
    const auto sync = [] { asm volatile("bar.sync 1, 128;\n" ::: "memory"); };

    // What a tile needs is read while the one before it is under way: first its masks and which rows it has, a row a
    // lane, then their part of the neighbour map.
    Item ahead;
    int32_t id[held];
    uint32_t next_mask[groups_of_tile];
    const auto read_rows = [&](int index) {
        if (index >= a.count) return;
        ahead = Item(a, index);
#pragma unroll
        for (int i = 0; i < held; ++i) {
            // Beyond the last row stands the last one again; what becomes of it is not stored.
            const int64_t row = static_cast<int64_t>(ahead.tile) * rows + first_of_warp + i * 32 + lane;
            id[i] = a.order[ahead.part * a.plan.rows + (row < a.plan.rows ? row : a.plan.rows - 1)];
        }
#pragma unroll
        for (int g = 0; g < groups_of_tile; ++g) {
            const int group = ahead.tile * groups_of_tile + g;
            next_mask[g] = group < a.groups ? a.masks[static_cast<int64_t>(ahead.part) * a.groups + group] : 0;
        }
    };
    const auto read_map = [&](int index, int buffer) {
        if (index < a.count) {
            // A warp copies a row's taps at once; there are at most 32.
            const bool any = lane < a.plan.taps_of(ahead.part);
            const uint32_t to = shared_address(maps + (buffer * a.most_taps + lane) * L::map_stride + first_of_warp);
            const auto* from = reinterpret_cast<const uint8_t*>(a.neighbors + a.plan.first_tap(ahead.part) + lane);
            const uint32_t bytes = 4 * static_cast<uint32_t>(a.plan.taps);
#pragma unroll
            for (int i = 0; i < held; ++i)
#pragma unroll 8
                for (int row = i * 32; row < (i < held - 1 ? i * 32 + 32 : rows_of_warp); ++row) {
                    const uint32_t which = __shfl_sync(~0u, id[i], row % 32);
                    if (any) copy_4(to + 4 * row, from + static_cast<uint64_t>(which) * bytes);
                }
        }
        barrier_arrive_after_copies(base + L::map_full + 8 * buffer);
    };

    int index = blockIdx.x, turn = 0, stage = 0;
    uint32_t phase = 1;  // of `empty`: the first round of stages waits for nobody
    int upcoming = 0;
    if (thread == 0) upcoming = static_cast<int>(gridDim.x) + atomicAdd(a.next, 1);
    read_rows(index);
    read_map(index, 0);
    while (index < a.count) {
        const int buffer = turn & 1;
        barrier_wait(base + L::map_full + 8 * buffer, turn >> 1 & 1);
        if (thread == 0) {
            // The slot was last used two turns ago: wait until all have read it.
            const int slot = (turn + 1) & 1;
            barrier_wait(base + L::item_empty + 8 * slot, (turn >> 1 & 1) ^ 1);
            items[slot] = upcoming;
            barrier_arrive(base + L::item_full + 8 * slot);
            if (upcoming < a.count) upcoming = static_cast<int>(gridDim.x) + atomicAdd(a.next, 1);
        }
        sync();  // also: nobody reads the other map any more
        const int next = items[(turn + 1) & 1];
        uint32_t mask[groups_of_tile], all = 0;
#pragma unroll
        for (int g = 0; g < groups_of_tile; ++g) all |= mask[g] = next_mask[g];
        const Item item = ahead;
        read_rows(next);
        const int32_t* map = maps + buffer * a.most_taps * L::map_stride + first_row;
        const int first_tap = a.plan.first_tap(item.part);
        int until_map = 3;  // stages to fill before the next map is read: by then its rows have arrived
        for (uint32_t left = all; left; left &= left - 1) {
            const int tap = __ffs(left) - 1;
            int32_t from[mine];
#pragma unroll
            for (int i = 0; i < mine; ++i) from[i] = map[tap * L::map_stride + 16 * i];
            for (int step = 0; step < steps; ++step) {
                barrier_wait(base + L::empty + 8 * stage, phase);
                const uint32_t full = base + L::full + 8 * stage;
                if (thread == 0) {
                    barrier_arrive_expecting(full, columns * line);
                    copy_box(base + L::b + stage * columns * line, weight, step * channels, first_tap + tap,
                             item.column * columns, full);
                }
                const int at = step * line + chunk * 16;
                const bool inside = at < a.row_bytes;
                const uint8_t* row[mine];
#pragma unroll
                for (int i = 0; i < mine; ++i) {
                    // 32 by 32 bits are one instruction. Where there is no neighbour, the address is no address, and not read.
                    row[i] = a.feats + at + static_cast<uint64_t>(static_cast<uint32_t>(from[i])) * static_cast<uint32_t>(a.row_bytes);
                    asm volatile("" : "+l"(row[i]));  // all before the first copy, so that none waits for another's register
                }
                const uint32_t to = base + L::a + stage * rows * line + first_row * line + ((chunk ^ (first_row & 7)) << 4);
#pragma unroll
                for (int i = 0; i < mine; ++i)
                    if (mask[i / 4] >> tap & 1) copy_16(to + i * 16 * line, row[i], from[i] >= 0 && inside ? 16 : 0);
                barrier_arrive_after_copies(full);
                if (++stage == stages) stage = 0, phase ^= 1;
                if (--until_map == 0) read_map(next, buffer ^ 1);
            }
        }
        if (until_map > 0) read_map(next, buffer ^ 1);
        index = next;
        ++turn;
    }
}

// A multiplying warpgroup: 64 rows of the tile. It waits for every stage but leaves out taps that its rows lack.
template <class T, int groups_of_tile, int columns, int stages>
__device__ __forceinline__ void multiply(const Args& a, uint32_t base, uint8_t* memory) {
    using L = Layout<groups_of_tile, columns, stages>;
    const int warpgroup = threadIdx.x / 128 - 1, lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    volatile int* items = reinterpret_cast<volatile int*>(memory + L::items);
    const int steps = (a.row_bytes + line - 1) / line;
    int index = blockIdx.x, turn = 0, stage = 0;
    uint32_t phase = 0;
    float d[columns / 2];
    // The next tile: read before this one's sums are stored.
    struct Tile {
        int part, column;
        uint32_t all, own;
        int32_t row[2];  // -1 beyond the last
    } tile{};
    const auto read_tile = [&] {
        if (index >= a.count) return;
        const Item item(a, index);
        const int group = item.tile * groups_of_tile + warpgroup;
        const int64_t place = static_cast<int64_t>(group) * group_rows + warp * 16 + lane / 4;
        const int32_t* order = a.order + item.part * a.plan.rows;
        tile = {item.part, item.column * columns, tile_mask(a, item, groups_of_tile),
                group < a.groups ? a.masks[static_cast<int64_t>(item.part) * a.groups + group] : 0,
                {place < a.plan.rows ? order[place] : -1, place + 8 < a.plan.rows ? order[place + 8] : -1}};
    };
    read_tile();
    while (index < a.count) {
        const Tile now = tile;
#pragma unroll
        for (int i = 0; i < columns / 2; ++i) d[i] = 0;
        int unreleased = -1;  // the stage that the multiplications in flight read
        for (uint32_t left = now.all; left; left &= left - 1) {
            const bool wanted = now.own & left & (0u - left);
            for (int step = 0; step < steps; ++step) {
                barrier_wait(base + L::full + 8 * stage, phase);
                if (wanted) {
                    fence_for_multiply();
                    const uint64_t left_matrix = descriptor(base + L::a + (stage * groups_of_tile + warpgroup) * group_rows * line);
                    const uint64_t right_matrix = descriptor(base + L::b + stage * columns * line);
                    multiply_fence();
#pragma unroll
                    for (int k = 0; k < 4; ++k) Multiply<T, columns>::add(d, left_matrix + 2 * k, right_matrix + 2 * k);
                    multiply_commit();
                    if (unreleased >= 0) {
                        multiply_wait<1>();
                        if (lane == 0) barrier_arrive(base + L::empty + 8 * unreleased);
                    }
                    unreleased = stage;
                } else {
                    // Nothing may stay held here: the next stage that is wanted could be more than a round away.
                    multiply_wait<0>();
                    if (lane == 0) {
                        if (unreleased >= 0) barrier_arrive(base + L::empty + 8 * unreleased);
                        barrier_arrive(base + L::empty + 8 * stage);
                    }
                    unreleased = -1;
                }
                if (++stage == stages) stage = 0, phase ^= 1;
            }
        }
        multiply_wait<0>();
        if (unreleased >= 0 && lane == 0) barrier_arrive(base + L::empty + 8 * unreleased);
        ++turn;
        const int slot = turn & 1;
        barrier_wait(base + L::item_full + 8 * slot, (turn - 1) >> 1 & 1);
        if (lane == 0) {
            index = items[slot];
            barrier_arrive(base + L::item_empty + 8 * slot);
        }
        index = __shfl_sync(~0u, index, 0);
        read_tile();
#pragma unroll
        for (int half = 0; half < 2; ++half)
            store_row<T, columns>(a.output, d, half, now.row[half] < 0 ? 0 : now.row[half], now.row[half] >= 0, now.part, now.column, lane % 4);
    }
}

// Two blocks leave a thread 80 registers. Gathering needs more, for all addresses of a stage, and multiplying fewer.
template <int wanted>
__device__ __forceinline__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(wanted));
}
template <int kept>
__device__ __forceinline__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kept));
}

template <class T, int groups_of_tile, int columns, int stages, int blocks>
__global__ __launch_bounds__((groups_of_tile + 1) * 128, blocks) void convolve(const __grid_constant__ CUtensorMap weight, const Args a) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    using L = Layout<groups_of_tile, columns, stages>;
    extern __shared__ uint8_t dynamic[];
    const uint32_t start = shared_address(dynamic), base = (start + 1023) / 1024 * 1024;
    uint8_t* memory = dynamic + (base - start);
    if (threadIdx.x == 0) {
        for (int i = 0; i < stages; ++i) {
            barrier_init(base + L::full + 8 * i, gatherers + 1);
            barrier_init(base + L::empty + 8 * i, groups_of_tile * 4);
        }
        for (int i = 0; i < 2; ++i) {
            barrier_init(base + L::map_full + 8 * i, gatherers);
            barrier_init(base + L::item_full + 8 * i, 1);
            barrier_init(base + L::item_empty + 8 * i, groups_of_tile * 4);
        }
        asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
    }
    __syncthreads();
    static_assert(blocks == 1 || (blocks == 2 && groups_of_tile == 2 && columns == 64), "96 + 2 * 72 = 3 * 80 registers");
    if (threadIdx.x < gatherers) {
        if constexpr (blocks == 2) take_registers<96>();
        gather<T, groups_of_tile, columns, stages>(a, &weight, base, memory);
    } else {
        if constexpr (blocks == 2) give_registers<72>();
        multiply<T, groups_of_tile, columns, stages>(a, base, memory);
    }
#endif
}

// The driver's function, found where the process has loaded it: the library is linked with the runtime alone.
using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*, const cuuint64_t*,
                            const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                            CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
Encode encoder() {
    void* driver = dlopen("libcuda.so.1", RTLD_NOW);
    void* found = driver ? dlsym(driver, "cuTensorMapEncodeTiled") : nullptr;
    if (!found) throw tk::Error(TK_CUDA_ERROR, "libcuda.so.1 has no cuTensorMapEncodeTiled: the driver is older than CUDA 12");
    return reinterpret_cast<Encode>(found);
}

CUtensorMap weight_map(const TensorConv& c, int element_bytes, int columns) {
    const CUtensorMapDataType type = c.precision == TK_SPARSE_F16    ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                                     : c.precision == TK_SPARSE_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                                         : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    const auto channels = static_cast<cuuint64_t>(c.channels_in), taps = static_cast<cuuint64_t>(c.plan.taps);
    const cuuint64_t sizes[] = {channels, taps, static_cast<cuuint64_t>(c.channels_out)};
    const cuuint64_t strides[] = {channels * element_bytes, taps * channels * element_bytes};
    const cuuint32_t box[] = {static_cast<cuuint32_t>(line / element_bytes), 1, static_cast<cuuint32_t>(columns)}, step[] = {1, 1, 1};
    CUtensorMap map;
    static const Encode encode = encoder();
    const CUresult result = encode(&map, type, 3, const_cast<void*>(c.weight), sizes, strides, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                   CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) throw tk::Error(TK_CUDA_ERROR, tk::format("cuTensorMapEncodeTiled failed with code %d", static_cast<int>(result)));
    return map;
}

// blocks: how many share a multiprocessor.
template <class T, int groups_of_tile, int columns, int stages, int blocks = 1>
void launch(const TensorConv& c) {
    using L = Layout<groups_of_tile, columns, stages>;
    Args a{};
    a.feats = static_cast<const uint8_t*>(c.feats);
    a.neighbors = c.neighbors;
    a.order = c.order;
    a.masks = c.masks;
    a.tiles = groups_of_tile == 2 ? c.tiles : nullptr;
    a.output = output_of(c);
    a.next = c.next;
    a.plan = c.plan;
    a.groups = static_cast<int>(c.plan.groups());
    a.tiles_of_part = (a.groups + groups_of_tile - 1) / groups_of_tile;
    a.column_tiles = (c.channels_out + columns - 1) / columns;
    const int64_t count = static_cast<int64_t>(c.plan.parts) * a.tiles_of_part * a.column_tiles;
    if (count > INT32_MAX / 2) throw tk::Error(TK_INVALID_ARGUMENT, "too many tiles: rows_out times channels_out is too large");
    a.count = static_cast<int>(count);
    a.row_bytes = c.channels_in * static_cast<int>(sizeof(T));
    for (int part = 0; part < c.plan.parts; ++part) a.most_taps = std::max(a.most_taps, c.plan.taps_of(part));
    const auto kernel = convolve<T, groups_of_tile, columns, stages, blocks>;
    const int bytes = L::bytes(a.most_taps);
    TK_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
    kernel<<<std::min(a.count, blocks * c.processors), (groups_of_tile + 1) * 128, bytes, c.stream>>>(
        weight_map(c, static_cast<int>(sizeof(T)), columns), a);
    TK_CUDA(cudaGetLastError());
}

// The table: rows of a tile in groups of 64, channels, stages, blocks. Measured on an H100 and an H200 with surfaces of
// voxels; tiles of 128 x 256 read the fewest bytes for each product, narrower ones do not multiply channels that do not
// exist. Of 64 channels two small blocks are faster than one of 192 rows: while one waits the other has work.
template <class T>
void choose(const TensorConv& c) {
    if (c.channels_out > 128)
        launch<T, 2, 256, 4>(c);
    else if (c.channels_out > 64)
        launch<T, 3, 128, 4>(c);
    else
        launch<T, 2, 64, 3, 2>(c);
}

}  // namespace

namespace tk::sparse {

void conv_wgmma(const TensorConv& c) {
    if (c.precision == TK_SPARSE_F16)
        choose<__half>(c);
    else if (c.precision == TK_SPARSE_BF16)
        choose<__nv_bfloat16>(c);
    else
        choose<Tf32>(c);
}

}  // namespace tk::sparse
