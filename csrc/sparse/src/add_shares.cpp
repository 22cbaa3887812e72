#include "add_shares.hpp"
#include "trellis/parallel.hpp"

using namespace tk;
using namespace tk::sparse;

TK_API int tk_sparse_add_shares(const void* update, const void* shares, const int64_t* source, int64_t rows, int64_t channels,
                                int64_t rows_in, int64_t share, int dtype, void* out, int, void*) {
    return guarded([&] {
        check(AddShares{update, shares, source, rows, channels, rows_in, share, dtype, out});
        require(dtype == TK_SPARSE_F32, format("dtype: the CPU computes in float32 (32), got %d", dtype));
        const int64_t repeats = channels / share;
        parallel_for(rows, 1 << 10, [&](int64_t i) {
            const bool known = source[i] >= 0 && source[i] < rows_in;
            for (int64_t c = 0; c < channels; ++c)
                static_cast<float*>(out)[i * channels + c] =
                    static_cast<const float*>(update)[i * channels + c] +
                    (known ? static_cast<const float*>(shares)[source[i] * share + c / repeats] : NAN);
        });
    });
}
