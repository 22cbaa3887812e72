#include "gemm.hpp"

#define TK_GEMM_BYTES 16
#define TK_GEMM_ROWS 4
#include "gemm_kernel.hpp"

const tk::sparse::GemmKernels tk::sparse::gemm_base = TK_GEMM_KERNELS;
