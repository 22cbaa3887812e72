// A normalisation and the narrow linear layer behind it, on the CPU: a thread for some rows.
#include <vector>

#include "norm.hpp"
#include "trellis/parallel.hpp"

using namespace tk;
using namespace tk::sparse;

TK_API int tk_sparse_norm_linear(const void* x, const float* weight, const float* bias, int64_t rows, int64_t channels,
                                 int64_t outputs, double eps, int dtype, float* out, int, void*) {
    return guarded([&] {
        const NormLinear a{x, weight, bias, rows, channels, outputs, static_cast<float>(eps), dtype, out};
        check(a);
        require(dtype == TK_SPARSE_F32, format("dtype: the CPU computes in float32 (32), got %d", dtype));
        parallel_chunks(rows, 64, [&](int64_t, int64_t begin, int64_t end) {
            std::vector<float> normed(static_cast<size_t>(channels));
            for (int64_t row = begin; row < end; ++row) {
                const float* in = static_cast<const float*>(x) + row * channels;
                double sum = 0, squares = 0;
                for (int64_t i = 0; i < channels; ++i) sum += in[i];
                const float mean = static_cast<float>(sum / static_cast<double>(channels));
                for (int64_t i = 0; i < channels; ++i) squares += static_cast<double>(in[i] - mean) * (in[i] - mean);
                const float inverse = 1.0f / std::sqrt(static_cast<float>(squares / static_cast<double>(channels)) + a.eps);
                for (int64_t i = 0; i < channels; ++i) normed[i] = (in[i] - mean) * inverse;
                for (int64_t k = 0; k < outputs; ++k) {
                    double total = 0;
                    for (int64_t i = 0; i < channels; ++i) total += static_cast<double>(normed[i]) * weight[k * channels + i];
                    out[row * outputs + k] = static_cast<float>(total) + (bias ? bias[k] : 0.0f);
                }
            }
        });
    });
}
