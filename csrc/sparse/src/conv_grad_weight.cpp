// The gradients of submanifold convolution for weight and bias. Output rows are cut into spans that depend on the
// problem alone; each span adds up its own gradient, and spans are added in order.
#include <algorithm>
#include <memory>

#include "conv.hpp"

namespace {

using namespace tk::sparse;

constexpr int64_t tile_out = 128, tile_in = 256;
static_assert(tile_in % panel_width == 0, "a tile holds whole panels");

// weight[o, tap, c] of one tile (o, c) and tap, over output rows [begin, end).
template <class T>
void add_tile(const T* grad_out, const T* feats, const int32_t* neighbors, const ConvShape& s, int64_t tap, int64_t o0,
              int64_t c0, int64_t begin, int64_t end, T* weight) {
    const PanelKernel<T> kernel = panel_kernels<T>().transposed;
    const int64_t height = std::min(tile_out, s.channels_out - o0), width = std::min(tile_in, s.channels_in - c0);
    T* sum = Workspace<T>::get(0, tile_out * tile_in);
    T* left = Workspace<T>::get(1, block_depth * tile_out);
    T* right = Workspace<T>::get(2, block_depth * tile_in);
    std::fill_n(sum, tile_out * tile_in, T(0));
    std::fill_n(right, block_depth * tile_in, T(0));
    int64_t count = 0;
    const auto multiply = [&] {
        for (int64_t j = 0; j < width; j += panel_width)
            kernel(left, tile_out, height, count, right + j * block_depth, sum + j, tile_in, nullptr);
        count = 0;
    };
    for (int64_t i = begin; i < end; ++i) {
        const int32_t row = neighbor(neighbors, s, i, tap);
        if (row < 0) continue;
        std::copy_n(grad_out + i * s.channels_out + o0, height, left + count * tile_out);
        for (int64_t j = 0; j < width; j += panel_width)
            std::copy_n(feats + row * s.channels_in + c0 + j, std::min(panel_width, width - j),
                        right + j * block_depth + count * panel_width);
        if (++count == block_depth) multiply();
    }
    if (count > 0) multiply();
    for (int64_t o = 0; o < height; ++o)
        std::copy_n(sum + o * tile_in, width, weight + ((o0 + o) * s.taps + tap) * s.channels_in + c0);
}

template <class T>
void grad_weight(const T* grad_out, const T* feats, const int32_t* neighbors, const ConvShape& s, T* weight) {
    const int64_t size = s.channels_out * s.taps * s.channels_in;
    if (size == 0) return;
    // Spans give threads work where there are few tiles; they cost memory, 256 MiB of floats at most.
    const int64_t spans = std::clamp<int64_t>((int64_t{1} << 26) / size, 1, std::max<int64_t>(tk::chunk_count(s.rows_out, 1 << 15), 1));
    const int64_t span = std::max<int64_t>(tk::chunk_count(s.rows_out, spans), 1);
    const std::unique_ptr<T[]> partial(spans > 1 ? new T[static_cast<size_t>(spans * size)] : nullptr);
    T* parts = spans > 1 ? partial.get() : weight;
    const int64_t tiles_out = tk::chunk_count(s.channels_out, tile_out), tiles_in = tk::chunk_count(s.channels_in, tile_in);
    tk::parallel_for(spans * s.taps * tiles_out * tiles_in, 1, [&](int64_t task) {
        const int64_t c = task % tiles_in, o = task / tiles_in % tiles_out, tap = task / tiles_in / tiles_out % s.taps;
        const int64_t part = task / tiles_in / tiles_out / s.taps;
        add_tile(grad_out, feats, neighbors, s, tap, o * tile_out, c * tile_in, std::min(s.rows_out, part * span),
                 std::min(s.rows_out, (part + 1) * span), parts + part * size);
    });
    if (spans == 1) return;
    tk::parallel_for(size, 1 << 14, [&](int64_t i) {
        T sum = 0;
        for (int64_t part = 0; part < spans; ++part) sum += parts[part * size + i];
        weight[i] = sum;
    });
}

template <class T>
void grad_bias(const T* grad_out, const ConvShape& s, T* bias) {
    constexpr int64_t span = 1 << 12;
    const int64_t spans = tk::chunk_count(s.rows_out, span);
    std::vector<T> parts(static_cast<size_t>(spans * s.channels_out), T(0));
    tk::parallel_chunks(s.rows_out, span, [&](int64_t part, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            for (int64_t c = 0; c < s.channels_out; ++c) parts[part * s.channels_out + c] += grad_out[i * s.channels_out + c];
    });
    for (int64_t c = 0; c < s.channels_out; ++c) bias[c] = 0;
    for (int64_t part = 0; part < spans; ++part)
        for (int64_t c = 0; c < s.channels_out; ++c) bias[c] += parts[part * s.channels_out + c];
}

template <class T>
void both(const void* grad_out, const void* feats, const int32_t* neighbors, const ConvShape& s, void* weight, void* bias) {
    const T* grad = static_cast<const T*>(grad_out);
    if (weight) grad_weight(grad, static_cast<const T*>(feats), neighbors, s, static_cast<T*>(weight));
    if (bias) grad_bias(grad, s, static_cast<T*>(bias));
}

}  // namespace

TK_API int tk_sparse_submanifold_conv3d_grad_weight(const void* grad_out, const void* feats, const int32_t* neighbors,
                                                    int64_t rows_in, int64_t rows_out, int64_t channels_in,
                                                    int64_t channels_out, int64_t taps, int precision, void* grad_weight,
                                                    void* grad_bias, int, void*) {
    return tk::guarded([&] {
        const ConvShape s{rows_in, rows_out, channels_in, channels_out, taps};
        check_conv(s, precision);
        if (precision == 32)
            both<float>(grad_out, feats, neighbors, s, grad_weight, grad_bias);
        else
            both<double>(grad_out, feats, neighbors, s, grad_weight, grad_bias);
    });
}
