// The panel kernel, included once by each gemm_<name>.cpp after it has chosen an instruction set. That file also
// defines TK_GEMM_BYTES, the size of a vector, and TK_GEMM_ROWS, the rows of C that stay in registers.
// No header may be included from here on: its inline functions would be compiled for that instruction set too,
// and the linker could pick them for all.

namespace tk::sparse {
namespace {

template <class T>
struct Simd {
    typedef T Vector __attribute__((vector_size(TK_GEMM_BYTES)));
    typedef T Unaligned __attribute__((vector_size(TK_GEMM_BYTES), aligned(sizeof(T)), may_alias));
    static constexpr int lanes = TK_GEMM_BYTES / sizeof(T);
};

// `Rows` rows of the product, two vectors of columns at a time.
template <class T, int Rows, bool Transposed>
inline void few_rows(const T* a, int64_t lda, int64_t depth, const T* b, T* c, int64_t ldc, const int32_t* c_row, int64_t at) {
    using S = Simd<T>;
    using Vector = typename S::Vector;
    using Unaligned = typename S::Unaligned;
    constexpr int vectors = 2, columns = vectors * S::lanes;
    for (int64_t j = 0; j < panel_width; j += columns) {
        Vector sum[Rows][vectors];
#pragma GCC unroll 16
        for (int i = 0; i < Rows; ++i)
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) sum[i][v] = Vector{};
        const T* left = a;
        const T* right = b + j;
        for (int64_t k = 0; k < depth; ++k) {
            Vector row[vectors];
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) row[v] = *reinterpret_cast<const Unaligned*>(right + v * S::lanes);
#pragma GCC unroll 16
            for (int i = 0; i < Rows; ++i) {
                const T scale = Transposed ? left[i] : left[i * lda];
#pragma GCC unroll 2
                for (int v = 0; v < vectors; ++v) sum[i][v] += scale * row[v];
            }
            left += Transposed ? lda : 1;
            right += panel_width;
        }
#pragma GCC unroll 16
        for (int i = 0; i < Rows; ++i) {
            T* to = c + (c_row ? c_row[at + i] : at + i) * ldc + j;
#pragma GCC unroll 2
            for (int v = 0; v < vectors; ++v) *reinterpret_cast<Unaligned*>(to + v * S::lanes) += sum[i][v];
        }
    }
}

template <class T, bool Transposed>
void panel(const T* a, int64_t lda, int64_t rows, int64_t depth, const T* b, T* c, int64_t ldc, const int32_t* c_row) {
    const int64_t step = Transposed ? 1 : lda;
    int64_t i = 0;
    for (; i + TK_GEMM_ROWS <= rows; i += TK_GEMM_ROWS)
        few_rows<T, TK_GEMM_ROWS, Transposed>(a + i * step, lda, depth, b, c, ldc, c_row, i);
    for (; i + 2 <= rows; i += 2) few_rows<T, 2, Transposed>(a + i * step, lda, depth, b, c, ldc, c_row, i);
    for (; i < rows; ++i) few_rows<T, 1, Transposed>(a + i * step, lda, depth, b, c, ldc, c_row, i);
}

}  // namespace
}  // namespace tk::sparse

#define TK_GEMM_KERNELS                                                        \
    {                                                                          \
        {tk::sparse::panel<float, false>, tk::sparse::panel<float, true>}, {   \
            tk::sparse::panel<double, false>, tk::sparse::panel<double, true> \
        }                                                                      \
    }
