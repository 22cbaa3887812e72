// A block of threads for each attempt: warps try four turns and eight rows at a time, lanes the words of a row.
#include "trellis_mesh.h"
#include "unwrap_flat_pack.hpp"

namespace tk::uv::flat {
namespace {

constexpr int rows_at_once = 8, lanes = 32, threads = turns * rows_at_once * lanes;
constexpr int spans_in_shared = 2048;  // rows and columns of a chart that is read from shared memory

struct PlaceBatch {
    PlaceTask first;
    int64_t orders;
    const int32_t* order;  // [orders][charts]
    const uint8_t* fits;   // [scales]
    int32_t* found;        // [attempts]: 1 where all charts have a place
    int in_shared;         // whether the bitmap is there too
};

// Spans of the chart that is being placed, packed as begin and end, in shared memory where they fit.
struct Spans {
    const uint32_t* packed;  // null: as the task has them
    int width, height;
    __device__ void read(const PlaceTask& t, int64_t chart, int quarters, int y, int& begin, int& end) const {
        if (!packed) return turned_span(t, chart, quarters, y, begin, end);
        const bool across = quarters % 2;
        const int count = across ? width : height, from = across ? height : 0;
        const uint32_t span = packed[from + (quarters >= 2 ? count - 1 - y : y)];
        const int low = static_cast<int>(span & 0xffff), high = static_cast<int>(span >> 16), side = across ? height : width;
        const bool mirrored = quarters == 1 || quarters == 2;
        begin = mirrored ? side - high : low;
        end = mirrored ? side - low : high;
    }
};

// The most free cells beside each other in a row.
__device__ int longest_run(const uint32_t* row, int words) {
    int longest = 0, run = 0;
    for (int w = 0; w < words; ++w) {
        const uint32_t taken = row[w];
        if (taken == 0) {
            run += 32;
            continue;
        }
        longest = max(longest, run + lowest_bit(taken));
        if (longest < 31) {  // it could be within the word
            int inner = 0;
            for (uint32_t free = ~taken; free; free &= free >> 1) ++inner;
            longest = max(longest, inner);
        }
        run = 31 - highest_bit(taken);
    }
    return max(longest, run);
}

__global__ void __launch_bounds__(threads) place_kernel(PlaceBatch batch) {
    extern __shared__ uint32_t bitmap[];
    __shared__ uint32_t packed[spans_in_shared];
    __shared__ int start[size_levels * size_levels];
    __shared__ uint32_t best;
    // The longest run of free cells of each row: most rows near the bottom are told unfit by it.
    uint16_t* const longest = reinterpret_cast<uint16_t*>(bitmap + (batch.in_shared ? batch.first.grid * batch.first.words : 0));
    const int64_t attempt = blockIdx.x, scale = attempt / batch.orders;
    PlaceTask t = batch.first;
    t.size += 2 * scale * t.charts;
    t.offset += scale * t.charts;
    t.order = batch.order + attempt % batch.orders * t.charts;
    t.taken = batch.in_shared ? bitmap : t.taken + attempt * t.grid * t.words;
    t.place += 3 * attempt * t.charts;
    const int thread = static_cast<int>(threadIdx.x), lane = thread % lanes, warp = thread / lanes, quarters = warp / rows_at_once;
    if (thread == 0) batch.found[attempt] = 0;
    if (!batch.fits[scale]) return;
    for (int i = thread; i < size_levels * size_levels; i += threads) start[i] = 0;
    for (int i = thread; i < t.grid * t.words; i += threads) t.taken[i] = 0;
    for (int i = thread; i < t.grid; i += threads) longest[i] = static_cast<uint16_t>(t.grid);
    for (int64_t i = 0; i < t.charts; ++i) {
        const int64_t c = t.order[i];
        const int w = t.size[2 * c], h = t.size[2 * c + 1];
        const bool near = w + h <= spans_in_shared;
        if (near)
            for (int k = thread; k < w + h; k += threads)
                packed[k] = static_cast<uint32_t>(t.low[t.offset[c] + k]) | static_cast<uint32_t>(t.high[t.offset[c] + k]) << 16;
        if (thread == 0) best = no_place;
        __syncthreads();
        const Spans spans{near ? packed : nullptr, w, h};
        const int wide = quarters % 2 ? h : w, high = quarters % 2 ? w : h;
        const int upright = size_class(w, h), sideways = size_class(h, w);
        const int from = i < careful ? 0 : start[quarters % 2 ? sideways : upright], step = stride_through(high);
        // Each warp looks through its rows until another has found a place that none of them can better.
        for (int y = from + warp % rows_at_once; y + high <= t.grid; y += rows_at_once) {
            const uint32_t so_far = __shfl_sync(0xffffffffu, *static_cast<volatile uint32_t*>(&best), 0);
            if (so_far != no_place && y + high > static_cast<int>(so_far >> 13) / turns) break;
            bool narrow = false;
            for (int row = lane; row - lane < high && !narrow; row += lanes) {
                int begin = 0, end = 0;
                if (row < high) spans.read(t, c, quarters, row, begin, end);
                narrow = __any_sync(0xffffffffu, row < high && end - begin > longest[y + row]);
            }
            if (narrow) continue;
            bool placed = false;
            for (int block = 0; block * lanes * 32 < t.grid; ++block) {
                const int x = (block * lanes + lane) * 32;
                // Places at which the chart would leave the grid are blocked.
                const int room = t.grid - wide - x;
                uint32_t mask = room >= 31 ? 0u : room < 0 ? 0xffffffffu : 0xfffffffeu << room;
                for (int done = 0, row = 0; done < high; done += 4) {
                    if (__all_sync(0xffffffffu, mask == 0xffffffffu)) break;
#pragma unroll
                    for (int k = 0; k < 4; ++k) {
                        if (done + k >= high) break;
                        int begin, end;
                        spans.read(t, c, quarters, row, begin, end);
                        mask |= blocked(t.taken + (y + row) * t.words, t.words, x + begin, end - begin);
                        row += row + step < high ? step : step - high;
                    }
                }
                const uint32_t open = __ballot_sync(0xffffffffu, mask != 0xffffffffu);
                if (!open) continue;
                if (lane == lowest_bit(open)) atomicMin(&best, place_key(y + high, quarters, x + lowest_bit(~mask)));
                placed = true;
                break;
            }
            if (placed) break;
        }
        __syncthreads();
        const uint32_t chosen = best;
        if (chosen == no_place) return;
        const int top = static_cast<int>(chosen >> 13) / turns, turn = static_cast<int>(chosen >> 13) % turns, x = static_cast<int>(chosen & 8191);
        const int rows = turn % 2 ? w : h, y = top - rows;
        for (int row = warp; row < rows; row += threads / lanes) {
            int begin, end;
            spans.read(t, c, turn, row, begin, end);
            begin += x;
            end += x;
            for (int word = begin / 32 + lane; word * 32 < end; word += lanes) {
                const int low = begin > word * 32 ? begin - word * 32 : 0, high_bit = end - word * 32 < 32 ? end - word * 32 : 32;
                t.taken[(y + row) * t.words + word] |= (0xffffffffu >> (32 - (high_bit - low))) << low;
            }
        }
        if (thread == 0) {
            t.place[3 * c] = x;
            t.place[3 * c + 1] = y;
            t.place[3 * c + 2] = turn;
            if (start[upright] < top - h) start[upright] = top - h;
            if (start[sideways] < top - w) start[sideways] = top - w;
        }
        __syncthreads();
        for (int row = y + thread; row < y + rows; row += threads) longest[row] = static_cast<uint16_t>(longest_run(t.taken + row * t.words, t.words));
    }
    if (thread == 0) batch.found[attempt] = 1;
}

}  // namespace
}  // namespace tk::uv::flat

TK_API int tk_mesh_flat_place(const int32_t* size, const int64_t* offset, const int32_t* low, const int32_t* high, const int32_t* order,
                              const uint8_t* fits, int64_t num_charts, int64_t num_scales, int64_t num_orders, int grid, uint32_t* taken, int32_t* place,
                              int32_t* found, int device, void* stream) {
    using namespace tk::uv::flat;
    return run(device, stream, [&](Runner on) {
        const int64_t attempts = num_scales * num_orders;
        if (attempts == 0 || num_charts == 0) return;
        int limit = 0;
        TK_CUDA(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
        const int bitmap = grid * (grid / 32) * 4, runs = grid * 2;
        const bool in_shared = bitmap + runs + 12 * 1024 <= limit;
        const int bytes = runs + (in_shared ? bitmap : 0);
        if (in_shared) TK_CUDA(cudaFuncSetAttribute(place_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
        const PlaceTask task{grid, grid / 32, num_charts, size, offset, low, high, nullptr, taken, place};
        const PlaceBatch batch{task, num_orders, order, fits, found, in_shared};
        place_kernel<<<static_cast<unsigned>(attempts), threads, bytes, on.stream>>>(batch);
    });
}
