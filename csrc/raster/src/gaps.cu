// Filling of gaps on CUDA.
//
// The nearest valid texel is found exactly, in two steps as on the CPU: along rows, then along columns. In the column
// x, row r offers the squared distance (y - r)^2 + c(r) to the texel of row y. The best r of two rows bound that of
// every row between them (the costs are Monge: r1 < r2 gains on r2 as y falls), so rows are done at steps of 2^k, each
// between its neighbours at 2^(k+1), and looking begins at the row itself and ends where distance alone is too much.
#include "gather_texels.hpp"
#include "launch.cuh"
#include "pull_push.hpp"
#include "trellis_raster.h"

using namespace tk::raster;

namespace {

constexpr int block = 256, warp = 32;
constexpr uint16_t no_column = 0xffff;  // TK_RASTER_MAX_SIDE is below it

// The valid column nearest to each texel in its own row, the left one of two; a warp a row.
__global__ void __launch_bounds__(block) scan_rows(const uint8_t* mask, int64_t height, int64_t width,
                                                   uint16_t* column) {
    const int64_t y = (int64_t{blockIdx.x} * block + threadIdx.x) / warp;
    if (y >= height) return;
    const int lane = static_cast<int>(threadIdx.x % warp);
    const uint8_t* row = mask + y * width;
    uint16_t* out = column + y * width;
    int64_t last = -1;
    for (int64_t start = 0; start < width; start += warp) {
        const int64_t x = start + lane;
        const uint32_t valid = __ballot_sync(~0u, x < width && row[x] != 0);
        const uint32_t here = valid & (~0u >> (warp - 1 - lane));
        if (x < width) out[x] = here != 0 ? static_cast<uint16_t>(start + 31 - __clz(static_cast<int>(here)))
                                          : last < 0 ? no_column : static_cast<uint16_t>(last);
        if (valid != 0) last = start + 31 - __clz(static_cast<int>(valid));
    }
    last = -1;
    for (int64_t start = (width - 1) / warp * warp; start >= 0; start -= warp) {
        const int64_t x = start + lane;
        const uint32_t valid = __ballot_sync(~0u, x < width && row[x] != 0);
        const uint32_t here = valid & (~0u << lane);
        const int64_t right = here != 0 ? start + __ffs(static_cast<int>(here)) - 1 : last;
        if (x < width && right >= 0) {
            const uint16_t left = out[x];
            if (left == no_column || right - x < x - left) out[x] = static_cast<uint16_t>(right);
        }
        if (valid != 0) last = start + __ffs(static_cast<int>(valid)) - 1;
    }
}

struct Columns {
    const uint16_t* column;
    int32_t height, width;
    int32_t* best_row;  // [height, width], -1 where nothing is valid

    // Squared distance from (x, y) to what row r offers, and r below it; larger than any of those when r has nothing.
    __device__ unsigned long long offer(int32_t x, int32_t y, int32_t r) const {
        const uint16_t c = column[int64_t{r} * width + x];
        const int64_t dx = int64_t{c} - x, dy = int64_t{r} - y;
        return c == no_column ? ~0ull : static_cast<unsigned long long>(dx * dx + dy * dy) << 16 | static_cast<uint32_t>(r);
    }
    __device__ void find(int32_t x, int32_t y, int32_t low, int32_t high) const {
        constexpr int batch = 4;
        const int32_t middle = y < low ? low : y > high ? high : y;
        unsigned long long best = offer(x, y, middle);
        for (int32_t step = 1;; step += batch) {
            const int32_t up = middle - step, down = middle + step;
            // Distance along the column alone, for the nearer end of what is left on each side.
            auto too_far = [&](int32_t r) {
                const int64_t dy = int64_t{r} - y;
                return static_cast<unsigned long long>(dy * dy) << 16 > best;
            };
            const bool go_up = up >= low && !too_far(up), go_down = down <= high && !too_far(down);
            if (!go_up && !go_down) break;
            unsigned long long offers[2 * batch];
#pragma unroll
            for (int k = 0; k < batch; ++k) {
                offers[k] = go_up && up - k >= low ? offer(x, y, up - k) : ~0ull;
                offers[batch + k] = go_down && down + k <= high ? offer(x, y, down + k) : ~0ull;
            }
#pragma unroll
            for (int k = 0; k < 2 * batch; ++k) best = offers[k] < best ? offers[k] : best;
        }
        best_row[int64_t{y} * width + x] = best == ~0ull ? -1 : static_cast<int32_t>(best & 0xffff);
    }
};

// Rows step, 3 step, 5 step ... from rows 0, 2 step, 4 step ...; with step 0, row 0 from nothing.
__global__ void __launch_bounds__(block) halve_step(Columns columns, int32_t step, int64_t count) {
    TK_GRID_STRIDE(i, count) {
        const int32_t x = static_cast<int32_t>(i % columns.width);
        const int32_t y = (2 * static_cast<int32_t>(i / columns.width) + 1) * step;
        int32_t low = 0, high = columns.height - 1;
        if (step > 0) {
            low = columns.best_row[int64_t{y - step} * columns.width + x];
            if (low < 0) {  // nothing is valid anywhere
                columns.best_row[int64_t{y} * columns.width + x] = -1;
                continue;
            }
            if (y + step < columns.height) high = columns.best_row[int64_t{y + step} * columns.width + x];
        }
        columns.find(x, y, low, high);
    }
}

// Rows become flat indices.
__global__ void __launch_bounds__(block) name_texels(Columns columns, int64_t texels) {
    TK_GRID_STRIDE(i, texels) {
        const int32_t r = columns.best_row[i];
        if (r < 0) continue;
        const int64_t from = int64_t{r} * columns.width;
        columns.best_row[i] = static_cast<int32_t>(from + columns.column[from + i % columns.width]);
    }
}

// Four bytes of the result each, so that stores are whole words whatever the size of a texel.
template <class Index>
__global__ void __launch_bounds__(block) copy_words(const uint8_t* image, const int32_t* nearest, Index bytes,
                                                    Index texels, Index width, Index texel_bytes, double limit, uint8_t* out) {
    TK_GRID_STRIDE(word, (int64_t{bytes} + 3) / 4) {
        Index at = static_cast<Index>(word) * 4, texel = at / texel_bytes, byte = at % texel_bytes;
        Index from = static_cast<Index>(source_texel(texel, nearest[texel], texels, width, limit)) * texel_bytes;
        uint32_t value = 0;
        const int count = bytes - at < 4 ? static_cast<int>(bytes - at) : 4;
        for (int k = 0; k < count; ++k) {
            value |= static_cast<uint32_t>(image[from + byte]) << (8 * k);
            if (++byte == texel_bytes && k + 1 < count) {
                byte = 0;
                ++texel;
                from = static_cast<Index>(source_texel(texel, nearest[texel], texels, width, limit)) * texel_bytes;
            }
        }
        if (count == 4)
            *reinterpret_cast<uint32_t*>(out + at) = value;
        else
            for (int k = 0; k < count; ++k) out[at + k] = static_cast<uint8_t>(value >> (8 * k));
    }
}

}  // namespace

TK_API int tk_raster_nearest_texel_scratch(int64_t height, int64_t width, int64_t* bytes, int device, void*) {
    return tk::guarded_on(device, [&] { *bytes = height * width * static_cast<int64_t>(sizeof(uint16_t)); });
}

TK_API int tk_raster_nearest_texel(const uint8_t* mask, int64_t height, int64_t width, void* scratch,
                                   int32_t* nearest, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        tk::require(height <= TK_RASTER_MAX_SIDE && width <= TK_RASTER_MAX_SIDE,
                    tk::format("mask: expected sides of at most %d, got %lld x %lld", TK_RASTER_MAX_SIDE,
                               (long long)height, (long long)width));
        if (height == 0 || width == 0) return;
        const auto queue = static_cast<cudaStream_t>(stream);
        auto* column = static_cast<uint16_t*>(scratch);
        scan_rows<<<tk::grid_size(height * warp, block), block, 0, queue>>>(mask, height, width, column);
        const Columns columns{column, static_cast<int32_t>(height), static_cast<int32_t>(width), nearest};
        halve_step<<<tk::grid_size(width, block), block, 0, queue>>>(columns, 0, width);
        int32_t step = 1;
        while (step < height) step *= 2;
        for (step /= 2; step > 0; step /= 2) {
            const int64_t count = (height - 1 + step) / (2 * step) * width;  // of odd multiples of step below height
            if (count > 0) halve_step<<<tk::grid_size(count, block), block, 0, queue>>>(columns, step, count);
        }
        name_texels<<<tk::grid_size(height * width, block), block, 0, queue>>>(columns, height * width);
    });
}

TK_API int tk_raster_gather_texels(const void* image, const int32_t* nearest, int64_t height, int64_t width,
                                   int64_t texel_bytes, double max_distance, void* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        const int64_t bytes = height * width * texel_bytes;
        if (bytes == 0) return;
        const unsigned grid = tk::grid_size((bytes + 3) / 4, block);
        const auto queue = static_cast<cudaStream_t>(stream);
        const auto* from = static_cast<const uint8_t*>(image);
        auto* to = static_cast<uint8_t*>(out);
        if (bytes < INT32_MAX - 4)
            copy_words<uint32_t><<<grid, block, 0, queue>>>(from, nearest, static_cast<uint32_t>(bytes),
                                                           static_cast<uint32_t>(height * width),
                                                           static_cast<uint32_t>(width),
                                                           static_cast<uint32_t>(texel_bytes), max_distance, to);
        else
            copy_words<int64_t><<<grid, block, 0, queue>>>(from, nearest, bytes, height * width, width, texel_bytes, max_distance, to);
    });
}

TK_API int tk_raster_pull_push_scratch(int64_t height, int64_t width, int64_t channels, int64_t* bytes, int device,
                                       void*) {
    return tk::guarded_on(device, [&] { *bytes = PullLayout(height, width, channels).floats * static_cast<int64_t>(sizeof(float)); });
}

TK_API int tk_raster_pull_push(const float* image, const uint8_t* mask, int64_t height, int64_t width,
                               int64_t channels, void* scratch, float* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        const auto queue = static_cast<cudaStream_t>(stream);
        const int64_t texels = height * width;
        if (texels * channels == 0) return;
        TK_CUDA(cudaMemcpyAsync(out, image, sizeof(float) * static_cast<size_t>(texels * channels),
                                cudaMemcpyDeviceToDevice, queue));
        const PullLayout layout(height, width, channels);
        if (layout.levels == 0) return;
        auto* memory = static_cast<float*>(scratch);
        pull_push(
            [&](int64_t n, const auto& body) { launch(n, body, stream); },
            image, mask, height, width, channels, layout, memory, memory + layout.weight[layout.levels - 1], out);
    });
}
