#include "gemm.hpp"

#include <cstdlib>
#include <cstring>

namespace tk::sparse {

const GemmKernels& gemm_kernels() {
#ifdef __x86_64__
    static const GemmKernels& best = []() -> const GemmKernels& {
        // Lets a test compare the instruction sets: "base", "avx2", or unset for the best.
        const char* limit = std::getenv("TRELLIS_CPU");
        const bool base = limit && std::strcmp(limit, "base") == 0, avx2 = limit && std::strcmp(limit, "avx2") == 0;
        __builtin_cpu_init();
        if (!base && !avx2 && __builtin_cpu_supports("avx512f")) return gemm_avx512;
        if (!base && __builtin_cpu_supports("avx2")) return gemm_avx2;
        return gemm_base;
    }();
    return best;
#else
    return gemm_base;
#endif
}

}  // namespace tk::sparse
