// The valid texel nearest to each texel.
//
// P. F. Felzenszwalb, D. P. Huttenlocher: Distance transforms of sampled functions, Theory of Computing 8, 2012:
// columns first, then rows by the lower envelope of parabolas. Everything is an integer, so the result is exact;
// the flat index of the source is added below the squared distance, so no two parabolas ever tie.
#include <algorithm>
#include <cstring>
#include <vector>

#include "gather_texels.hpp"
#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis_raster.h"

namespace {

constexpr int index_bits = 30;  // of row * width + column; a squared distance takes 31 more

// Nearest valid row of each texel in its own column, the upper one of two, into nearest; -1 for none.
void scan_columns(const uint8_t* mask, int64_t height, int64_t width, int32_t* nearest) {
    tk::parallel_chunks(width, 64, [&](int64_t, int64_t begin, int64_t end) {
        std::vector<int32_t> last(end - begin, -1);
        for (int64_t y = 0; y < height; ++y)
            for (int64_t x = begin; x < end; ++x) {
                if (mask[y * width + x]) last[x - begin] = static_cast<int32_t>(y);
                nearest[y * width + x] = last[x - begin];
            }
        std::fill(last.begin(), last.end(), -1);
        for (int64_t y = height - 1; y >= 0; --y)
            for (int64_t x = begin; x < end; ++x) {
                int32_t& above = nearest[y * width + x];
                if (above == y) last[x - begin] = above;
                const int32_t below = last[x - begin];
                if (below >= 0 && (above < 0 || below - y < y - above)) above = below;
            }
    });
}

int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); }  // b > 0

// Turns one row from nearest rows to flat indices of nearest texels.
void scan_row(int64_t y, int64_t width, int32_t* row, int32_t* column, int64_t* height_of, int32_t* from) {
    // The envelope: column[k] is lowest from from[k] on, up to from[k + 1]; height_of is its parabola's constant.
    int64_t n = 0;
    for (int64_t x = 0; x < width; ++x) {
        if (row[x] < 0) continue;
        const int64_t dy = row[x] - y;
        const int64_t constant = (dy * dy << index_bits) + row[x] * width + x;
        int64_t start = 0;
        while (n > 0) {
            // Parabolas of columns a < x: x is the lower one beyond this quotient.
            const int64_t a = column[n - 1];
            const int64_t crossing = floor_divide(((x * x - a * a) << index_bits) + constant - height_of[n - 1],
                                                  (2 * (x - a)) << index_bits);
            start = crossing + 1;
            if (start > from[n - 1]) break;
            --n;
            start = 0;
        }
        if (start >= width) continue;
        column[n] = static_cast<int32_t>(x);
        height_of[n] = constant;
        from[n++] = static_cast<int32_t>(start < 0 ? 0 : start);
    }
    if (n == 0) return;  // row is all -1 already
    int64_t k = n - 1;
    for (int64_t x = width - 1; x >= 0; --x) {
        while (from[k] > x) --k;
        const int64_t mask = (int64_t{1} << index_bits) - 1;
        row[x] = static_cast<int32_t>(height_of[k] & mask);
    }
}

template <size_t bytes>
void copy_texels(const char* image, const int32_t* nearest, int64_t begin, int64_t end, int64_t texels, int64_t width,
                 double limit, size_t size, char* out) {
    if (bytes != 0) size = bytes;
    for (int64_t i = begin; i < end; ++i) {
        const int64_t from = tk::raster::source_texel(i, nearest[i], texels, width, limit);
        std::memcpy(out + i * size, image + from * size, bytes != 0 ? bytes : size);
    }
}

}  // namespace

TK_API int tk_raster_nearest_texel_scratch(int64_t, int64_t, int64_t* bytes, int, void*) {
    return tk::guarded([&] { *bytes = 0; });
}

TK_API int tk_raster_nearest_texel(const uint8_t* mask, int64_t height, int64_t width, void*, int32_t* nearest, int,
                                   void*) {
    return tk::guarded([&] {
        tk::require(height <= TK_RASTER_MAX_SIDE && width <= TK_RASTER_MAX_SIDE,
                    tk::format("mask: expected sides of at most %d, got %lld x %lld", TK_RASTER_MAX_SIDE,
                               (long long)height, (long long)width));
        scan_columns(mask, height, width, nearest);
        tk::parallel_chunks(height, 16, [&](int64_t, int64_t begin, int64_t end) {
            std::vector<int32_t> column(width), from(width);
            std::vector<int64_t> height_of(width);
            for (int64_t y = begin; y < end; ++y)
                scan_row(y, width, nearest + y * width, column.data(), height_of.data(), from.data());
        });
    });
}

TK_API int tk_raster_gather_texels(const void* image, const int32_t* nearest, int64_t height, int64_t width,
                                   int64_t texel_bytes, double max_distance, void* out, int, void*) {
    return tk::guarded([&] {
        const char* from = static_cast<const char*>(image);
        char* to = static_cast<char*>(out);
        const int64_t texels = height * width;
        tk::parallel_chunks(texels, 1 << 14, [&](int64_t, int64_t begin, int64_t end) {
            switch (texel_bytes) {
                case 1: return copy_texels<1>(from, nearest, begin, end, texels, width, max_distance, 1, to);
                case 2: return copy_texels<2>(from, nearest, begin, end, texels, width, max_distance, 2, to);
                case 3: return copy_texels<3>(from, nearest, begin, end, texels, width, max_distance, 3, to);
                case 4: return copy_texels<4>(from, nearest, begin, end, texels, width, max_distance, 4, to);
                case 12: return copy_texels<12>(from, nearest, begin, end, texels, width, max_distance, 12, to);
                case 16: return copy_texels<16>(from, nearest, begin, end, texels, width, max_distance, 16, to);
                default:
                    return copy_texels<0>(from, nearest, begin, end, texels, width, max_distance,
                                          static_cast<size_t>(texel_bytes), to);
            }
        });
    });
}
