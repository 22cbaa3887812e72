#include "gemm.hpp"

#ifdef __x86_64__
#pragma GCC target("avx512f")
#define TK_GEMM_BYTES 64
#define TK_GEMM_ROWS 8
#include "gemm_kernel.hpp"

const tk::sparse::GemmKernels tk::sparse::gemm_avx512 = TK_GEMM_KERNELS;
#endif
