#include "add_shares.hpp"
#include "float_types.cuh"
#include "trellis/cuda.cuh"

namespace tk::sparse {
namespace {

constexpr int block = 256;

template <class T, int n>
struct alignas(sizeof(T) * n) Pack {
    T v[n];
};

// `n` consecutive channels a thread.
template <class T, int n>
__global__ void __launch_bounds__(block) add_shares(AddShares a) {
    using Channels = Pack<T, n>;
    const int packs = static_cast<int>(a.channels) / n, repeats = static_cast<int>(a.channels / a.share);
    TK_GRID_STRIDE(i, a.rows * packs) {
        const int64_t row = i / packs, from = a.source[row];
        const int first = static_cast<int>(i % packs) * n;
        const bool known = from >= 0 && from < a.rows_in;
        const T* share = static_cast<const T*>(a.shares) + (known ? from * a.share : 0);
        Channels sum = static_cast<const Channels*>(a.update)[i];
#pragma unroll
        for (int k = 0; k < n; ++k)
            sum.v[k] = T(static_cast<float>(sum.v[k]) + (known ? static_cast<float>(share[(first + k) / repeats]) : NAN));
        static_cast<Channels*>(a.out)[i] = sum;
    }
}

template <class T>
void launch(const AddShares& a, cudaStream_t stream) {
    constexpr int n = 16 / sizeof(T);
    const uintptr_t together = reinterpret_cast<uintptr_t>(a.update) | reinterpret_cast<uintptr_t>(a.out);
    if (a.channels % n == 0 && together % 16 == 0)
        add_shares<T, n><<<grid_size(a.rows * a.channels / n, block), block, 0, stream>>>(a);
    else
        add_shares<T, 1><<<grid_size(a.rows * a.channels, block), block, 0, stream>>>(a);
}

}  // namespace
}  // namespace tk::sparse

using namespace tk;
using namespace tk::sparse;

TK_API int tk_sparse_add_shares(const void* update, const void* shares, const int64_t* source, int64_t rows, int64_t channels,
                                int64_t rows_in, int64_t share, int dtype, void* out, int device, void* stream) {
    return guarded_on(device, [&] {
        const AddShares a{update, shares, source, rows, channels, rows_in, share, dtype, out};
        check(a);
        if (rows == 0 || channels == 0) return;
        with_float_type(dtype, [&](auto zero) { launch<decltype(zero)>(a, static_cast<cudaStream_t>(stream)); });
    });
}
