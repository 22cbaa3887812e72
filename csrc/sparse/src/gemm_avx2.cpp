#include "gemm.hpp"

#ifdef __x86_64__
#pragma GCC target("avx2")
#define TK_GEMM_BYTES 32
#define TK_GEMM_ROWS 6
#include "gemm_kernel.hpp"

const tk::sparse::GemmKernels tk::sparse::gemm_avx2 = TK_GEMM_KERNELS;
#endif
