// Products of small dense blocks, the inner loop of sparse convolution.
//
// Every element of a result is one chain of operations in one order: products are added up along the depth of a
// block, and that sum is added to the result. Vector lanes hold different elements, and multiplication and
// addition round separately (no fused multiply-add), so the bits do not depend on the processor. The blocking
// and packing follow K. Goto and R. van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
#pragma once

#include <cstdint>

namespace tk::sparse {

constexpr int64_t panel_width = 32;  // columns of a packed panel of B
constexpr int64_t block_depth = 256;  // products that are added up before they reach C

inline int64_t panels(int64_t columns) { return (columns + panel_width - 1) / panel_width; }

// C[c_row[i], j] += sum over k < depth of A[i, k] B[k, j], for i < rows and j < panel_width. Rows of C may repeat.
//   a      A[i, k] is a[i * lda + k], or a[k * lda + i] for the transposed kernel
//   b      [depth, panel_width]
//   c_row  rows of C, or null for c_row[i] = i
template <class T>
using PanelKernel = void (*)(const T* a, int64_t lda, int64_t rows, int64_t depth, const T* b, T* c, int64_t ldc,
                             const int32_t* c_row);

template <class T>
struct PanelKernels {
    PanelKernel<T> plain, transposed;
};

struct GemmKernels {
    PanelKernels<float> single;
    PanelKernels<double> twice;
};

// The kernels of one instruction set each (gemm_<name>.cpp), and those of the best one that this processor has.
extern const GemmKernels gemm_base, gemm_avx2, gemm_avx512;
const GemmKernels& gemm_kernels();

template <class T>
const PanelKernels<T>& panel_kernels();
template <>
inline const PanelKernels<float>& panel_kernels<float>() { return gemm_kernels().single; }
template <>
inline const PanelKernels<double>& panel_kernels<double>() { return gemm_kernels().twice; }

}  // namespace tk::sparse
