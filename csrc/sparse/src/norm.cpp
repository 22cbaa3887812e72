// Normalisations of token features, on the CPU: a thread for some rows, sums in the order of the channels.
#include "norm.hpp"
#include "trellis/parallel.hpp"

using namespace tk;
using namespace tk::sparse;

namespace {

void require_float(int dtype) {
    require(dtype == TK_SPARSE_F32, format("dtype: the CPU computes in float32 (32), got %d", dtype));
}

void norm_row(const NormRows& a, int64_t row, float* kept) {
    const int64_t c = a.channels, at = row * c, from = a.source ? a.source[row] : row;
    const bool known = !a.source || (from >= 0 && from < a.rows_in);
    const int64_t entry = (a.entries ? a.entries[row] : 0) * a.modulation_stride;
    auto value = [](const void* array, int64_t i) { return static_cast<const float*>(array)[i]; };
    double sum = 0;
    for (int64_t i = 0; i < c; ++i) {
        float v = known ? value(a.x, from * c + i) : NAN;
        if (a.update) v += value(a.update, at + i) * (a.gate ? value(a.gate, entry + i) : 1.0f);
        kept[i] = v;
        sum += v;
    }
    const float mean = static_cast<float>(sum / static_cast<double>(c));
    double squares = 0;
    for (int64_t i = 0; i < c; ++i) squares += static_cast<double>(kept[i] - mean) * (kept[i] - mean);
    const float inverse = 1.0f / std::sqrt(static_cast<float>(squares / static_cast<double>(c)) + a.eps);
    float* normed = static_cast<float*>(a.normed) + at;
    for (int64_t i = 0; i < c; ++i) {
        float v = (kept[i] - mean) * inverse;
        if (a.weight) v *= value(a.weight, i);
        if (a.bias) v += value(a.bias, i);
        if (a.scale) v *= 1.0f + value(a.scale, entry + i);
        if (a.shift) v += value(a.shift, entry + i);
        normed[i] = activated(v, a.activation);
    }
    if (a.sum) std::copy(kept, kept + c, static_cast<float*>(a.sum) + at);
}

void norm_head(const NormHeads& a, int64_t row, int64_t group, int64_t head) {
    const int64_t d = a.head_dim, which = group * a.heads + head;
    const float* in = static_cast<const float*>(a.x) + row * a.row_stride + which * d;
    const float* gamma = a.gamma ? static_cast<const float*>(a.gamma) + which * d : nullptr;
    float* out = static_cast<float*>(a.out) + (row * a.groups * a.heads + which) * d;
    float scale = 1;
    if (gamma) {
        double squares = 0;
        for (int64_t i = 0; i < d; ++i) squares += static_cast<double>(in[i]) * in[i];
        scale = head_scale(static_cast<float>(squares), d);
    }
    for (int64_t i = 0; i < d; i += 2) {
        const float p = gamma ? in[i] * scale * gamma[i] : in[i], q = gamma ? in[i + 1] * scale * gamma[i + 1] : in[i + 1];
        const float cosine = a.turns ? a.turns[row * d + i] : 1.0f, sine = a.turns ? a.turns[row * d + i + 1] : 0.0f;
        out[i] = p * cosine - q * sine;
        out[i + 1] = p * sine + q * cosine;
    }
}

}  // namespace

TK_API int tk_sparse_norm_rows(const void* x, const int64_t* source, int64_t rows_in, const void* update, const void* gate,
                               const void* scale, const void* shift, int64_t modulation_stride, const int32_t* entries, const void* weight, const void* bias,
                               int64_t rows, int64_t channels, double eps, int activation, int dtype, int weight_dtype,
                               void* sum, void* normed, int, void*) {
    return guarded([&] {
        const NormRows a{x, source, rows_in, update, gate, scale, shift, modulation_stride, entries, weight, bias, rows, channels,
                         static_cast<float>(eps), activation, dtype, weight_dtype, sum, normed};
        check(a);
        require_float(dtype);
        require_float(weight_dtype);
        parallel_chunks(rows, 64, [&](int64_t, int64_t begin, int64_t end) {
            std::vector<float> kept(static_cast<size_t>(channels));
            for (int64_t row = begin; row < end; ++row) norm_row(a, row, kept.data());
        });
    });
}

TK_API int tk_sparse_norm_heads(const void* x, int64_t row_stride, const void* gamma, const float* turns, int64_t rows,
                                int64_t groups, int64_t heads, int64_t head_dim, int dtype, void* out, int, void*) {
    return guarded([&] {
        const NormHeads a{x, row_stride, gamma, turns, rows, groups, heads, head_dim, dtype, out};
        check(a);
        require_float(dtype);
        parallel_for(rows, 64, [&](int64_t row) {
            for (int64_t group = 0; group < groups; ++group)
                for (int64_t head = 0; head < heads; ++head) norm_head(a, row, group, head);
        });
    });
}
