// Submanifold convolution (B. Graham, M. Engelcke, L. van der Maaten, "3D Semantic Segmentation with Submanifold
// Sparse Convolutional Networks", 2018) and its gradient for the features: for a tile of output rows and each tap,
// the rows that exist are gathered and multiplied by that tap's matrix.
#include <algorithm>
#include <memory>

#include "conv.hpp"
#include "inverse_rows.hpp"

namespace {

using namespace tk::sparse;

constexpr int64_t tile_columns = 256;
static_assert(tile_columns % panel_width == 0, "a tile holds whole panels");

// B[tap][block of depth][panel][k][panel_width], zero beyond the last column, where B[tap][k][j] is
// weight[tap * tap_stride + k * depth_stride + j * column_stride].
template <class T>
class PackedWeight {
public:
    PackedWeight(const T* weight, int64_t taps, int64_t depth, int64_t columns, int64_t tap_stride, int64_t depth_stride,
                 int64_t column_stride)
        : depth_(depth), panels_(panels(columns)), data_(new T[static_cast<size_t>(taps * depth * panels_ * panel_width)]) {
        tk::parallel_for(taps * panels_, 1, [&](int64_t i) {
            const int64_t tap = i / panels_, panel = i % panels_, j0 = panel * panel_width;
            const int64_t width = std::min(panel_width, columns - j0);
            for (int64_t k0 = 0; k0 < depth; k0 += block_depth) {
                const int64_t height = std::min(block_depth, depth - k0);
                T* to = const_cast<T*>(at(tap, k0, height, panel));
                const T* from = weight + tap * tap_stride + k0 * depth_stride + j0 * column_stride;
                for (int64_t k = 0; k < height; ++k)
                    for (int64_t j = 0; j < panel_width; ++j)
                        to[k * panel_width + j] = j < width ? from[k * depth_stride + j * column_stride] : T(0);
            }
        });
    }
    // The panel of `height` rows from k0 on.
    const T* at(int64_t tap, int64_t k0, int64_t height, int64_t panel) const {
        return data_.get() + ((tap * depth_ + k0) * panels_ + panel * height) * panel_width;
    }

private:
    int64_t depth_, panels_;
    std::unique_ptr<T[]> data_;
};

// Rows of a tile small enough that there is work for all threads; results do not depend on it.
int64_t tile_height(int64_t rows, int64_t column_tiles) {
    const int64_t wanted = rows * column_tiles / (4 * tk::num_threads());
    return std::clamp<int64_t>(wanted / 32 * 32, 32, 256);
}

// out[i] = bias + sum over taps and over the rows r that pair with output row i there, of B[tap]^T feats[r].
// tile_pairs(begin, end) gives a function that, called for tap 0, 1, ... in turn, writes the pairs
// (out_row - begin, in_row) of that tap and returns how many there are.
template <class T, class TilePairs>
void gather_gemm(const T* feats, const T* bias, const PackedWeight<T>& weight, int64_t rows, int64_t taps, int64_t depth,
                 int64_t columns, TilePairs&& tile_pairs, T* out) {
    const PanelKernel<T> kernel = panel_kernels<T>().plain;
    const int64_t column_tiles = (columns + tile_columns - 1) / tile_columns;
    const int64_t height = tile_height(rows, column_tiles);
    const int64_t row_tiles = tk::chunk_count(rows, height);
    // Columns outermost: the threads then share the part of the weights that they read.
    tk::parallel_for(row_tiles * column_tiles, 1, [&](int64_t task) {
        const int64_t begin = task % row_tiles * height, end = std::min(rows, begin + height);
        const int64_t j0 = task / row_tiles * tile_columns, width = std::min(tile_columns, columns - j0);
        T* sum = Workspace<T>::get(0, height * tile_columns);
        for (int64_t i = 0; i < end - begin; ++i)
            for (int64_t j = 0; j < tile_columns; ++j) sum[i * tile_columns + j] = bias && j < width ? bias[j0 + j] : T(0);
        auto pairs = tile_pairs(begin, end);
        for (int64_t tap = 0; tap < taps; ++tap) {
            const auto [count, out_row, in_row] = pairs(tap);
            T* gathered = Workspace<T>::get(1, count * block_depth);
            for (int64_t k0 = 0; k0 < depth && count > 0; k0 += block_depth) {
                const int64_t k_count = std::min(block_depth, depth - k0);
                for (int64_t i = 0; i < count; ++i)
                    std::copy_n(feats + in_row[i] * depth + k0, k_count, gathered + i * k_count);
                for (int64_t j = 0; j < width; j += panel_width)
                    kernel(gathered, k_count, count, k_count, weight.at(tap, k0, k_count, (j0 + j) / panel_width), sum + j,
                           tile_columns, out_row);
            }
        }
        for (int64_t i = begin; i < end; ++i)
            std::copy_n(sum + (i - begin) * tile_columns, width, out + i * columns + j0);
    });
}

struct Pairs {
    int64_t count;
    const int32_t *out_row, *in_row;
};

template <class T>
void forward(const T* feats, const T* weight, const T* bias, const int32_t* neighbors, const ConvShape& s, T* out) {
    const PackedWeight<T> packed(weight, s.taps, s.channels_in, s.channels_out, s.channels_in, 1, s.taps * s.channels_in);
    const auto tile_pairs = [&](int64_t begin, int64_t end) {
        int32_t* out_row = Workspace<int32_t>::get(0, end - begin);
        int32_t* in_row = Workspace<int32_t>::get(1, end - begin);
        return [=, &s](int64_t tap) {
            int64_t count = 0;
            for (int64_t i = begin; i < end; ++i) {
                const int32_t row = neighbor(neighbors, s, i, tap);
                if (row < 0) continue;
                out_row[count] = static_cast<int32_t>(i - begin);
                in_row[count++] = row;
            }
            return Pairs{count, out_row, in_row};
        };
    };
    gather_gemm(feats, bias, packed, s.rows_out, s.taps, s.channels_in, s.channels_out, tile_pairs, out);
}

template <class T>
void grad_feats(const T* grad_out, const T* weight, const int32_t* neighbors, const ConvShape& s, T* grad) {
    const PackedWeight<T> packed(weight, s.taps, s.channels_out, s.channels_in, s.channels_in, s.taps * s.channels_in, 1);
    // Reader (i, tap) is named tap * rows_out + i, so that a row's readers come tap by tap.
    const InverseRows readers(
        s.rows_in, s.rows_out * s.taps, [&](int64_t at) { return neighbor(neighbors, s, at / s.taps, at % s.taps); },
        [&](int64_t at) { return at % s.taps * s.rows_out + at / s.taps; });
    const auto tile_pairs = [&](int64_t begin, int64_t end) {
        std::vector<const int64_t*> next(static_cast<size_t>(end - begin));
        for (int64_t i = begin; i < end; ++i) next[i - begin] = readers.begin(i);
        return [&, begin, end, next](int64_t tap) mutable {
            int64_t count = 0, room = 0;
            int32_t *out_row = nullptr, *in_row = nullptr;
            for (int64_t i = begin; i < end; ++i)
                for (const int64_t*& at = next[i - begin]; at != readers.end(i) && *at < (tap + 1) * s.rows_out; ++at) {
                    if (count == room) {  // repeated neighbours can make more pairs than the tile has rows
                        room = std::max<int64_t>(end - begin, 2 * room);
                        out_row = Workspace<int32_t>::get(0, room);
                        in_row = Workspace<int32_t>::get(1, room);
                    }
                    out_row[count] = static_cast<int32_t>(i - begin);
                    in_row[count++] = static_cast<int32_t>(*at - tap * s.rows_out);
                }
            return Pairs{count, out_row, in_row};
        };
    };
    gather_gemm(grad_out, static_cast<const T*>(nullptr), packed, s.rows_in, s.taps, s.channels_out, s.channels_in, tile_pairs, grad);
}

}  // namespace

TK_API int tk_sparse_submanifold_conv3d(const void* feats, const void* weight, const void* bias,
                                        const int32_t* neighbors, int64_t rows_in, int64_t rows_out,
                                        int64_t channels_in, int64_t channels_out, int64_t taps, int precision,
                                        const int32_t*, const uint32_t*, const int32_t*, int, float*, void* out, int,
                                        void*) {
    return tk::guarded([&] {
        const ConvShape s{rows_in, rows_out, channels_in, channels_out, taps};
        check_conv(s, precision);
        if (precision == 32)
            forward(static_cast<const float*>(feats), static_cast<const float*>(weight), static_cast<const float*>(bias),
                    neighbors, s, static_cast<float*>(out));
        else
            forward(static_cast<const double*>(feats), static_cast<const double*>(weight), static_cast<const double*>(bias),
                    neighbors, s, static_cast<double*>(out));
    });
}

TK_API int tk_sparse_submanifold_conv3d_grad_feats(const void* grad_out, const void* weight, const int32_t* neighbors,
                                                   int64_t rows_in, int64_t rows_out, int64_t channels_in,
                                                   int64_t channels_out, int64_t taps, int precision, void* grad, int, void*) {
    return tk::guarded([&] {
        const ConvShape s{rows_in, rows_out, channels_in, channels_out, taps};
        check_conv(s, precision);
        if (precision == 32)
            grad_feats(static_cast<const float*>(grad_out), static_cast<const float*>(weight), neighbors, s, static_cast<float*>(grad));
        else
            grad_feats(static_cast<const double*>(grad_out), static_cast<const double*>(weight), neighbors, s, static_cast<double*>(grad));
    });
}
