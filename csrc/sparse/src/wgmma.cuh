// Hopper's asynchronous warpgroup multiplication (PTX ISA, "wgmma"), its barriers and copies, as functions.
//
// d[64 x columns] += a[64 x 32 bytes] * b[columns x 32 bytes]^T, a and b in shared memory in rows of 128 bytes whose
// 16-byte pieces are swizzled by the row (CU_TENSOR_MAP_SWIZZLE_128B). Thread t of the warpgroup holds of row
// t / 32 * 16 + t % 32 / 4 (+ 8) the columns 8 j + t % 4 * 2 (+ 1): d[4 j], d[4 j + 1] (d[4 j + 2], d[4 j + 3]).
#pragma once

#include "conv_store.cuh"

namespace tk::sparse::hopper {

template <class T, int columns>
struct Multiply;

// The instruction names every accumulator register one by one; the lists below name 32, 64 and 128 of them.
#define TK_NAMES_32 \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define TK_NAMES_64 \
    TK_NAMES_32 \
    ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
    "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define TK_NAMES_128 \
    TK_NAMES_64 \
    ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
    "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
    "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
    "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define TK_HELD_4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define TK_HELD_16(i) TK_HELD_4(i), TK_HELD_4(i + 4), TK_HELD_4(i + 8), TK_HELD_4(i + 12)
#define TK_HELD_32 TK_HELD_16(0), TK_HELD_16(16)
#define TK_HELD_64 TK_HELD_32, TK_HELD_16(32), TK_HELD_16(48)
#define TK_HELD_128 TK_HELD_64, TK_HELD_16(64), TK_HELD_16(80), TK_HELD_16(96), TK_HELD_16(112)

// Scales of 1 for d, a and b; what takes halves also says that neither matrix is transposed.
#define TK_HALVES ", 1, 1, 1, 0, 0;\n"
#define TK_FLOATS ", 1, 1, 1;\n"

#define TK_MULTIPLY(T, columns, count, first, second, shape, end) \
    template <> \
    struct Multiply<T, columns> { \
        static __device__ __forceinline__ void add(float(&d)[count], uint64_t a, uint64_t b) { \
            asm volatile("wgmma.mma_async.sync.aligned.m64n" shape " {" TK_NAMES_##count "}, " first ", " second end \
                         : TK_HELD_##count \
                         : "l"(a), "l"(b)); \
        } \
    };
TK_MULTIPLY(__half, 64, 32, "%32", "%33", "64k16.f32.f16.f16", TK_HALVES)
TK_MULTIPLY(__half, 128, 64, "%64", "%65", "128k16.f32.f16.f16", TK_HALVES)
TK_MULTIPLY(__half, 256, 128, "%128", "%129", "256k16.f32.f16.f16", TK_HALVES)
TK_MULTIPLY(__nv_bfloat16, 64, 32, "%32", "%33", "64k16.f32.bf16.bf16", TK_HALVES)
TK_MULTIPLY(__nv_bfloat16, 128, 64, "%64", "%65", "128k16.f32.bf16.bf16", TK_HALVES)
TK_MULTIPLY(__nv_bfloat16, 256, 128, "%128", "%129", "256k16.f32.bf16.bf16", TK_HALVES)
TK_MULTIPLY(Tf32, 64, 32, "%32", "%33", "64k8.f32.tf32.tf32", TK_FLOATS)
TK_MULTIPLY(Tf32, 128, 64, "%64", "%65", "128k8.f32.tf32.tf32", TK_FLOATS)
TK_MULTIPLY(Tf32, 256, 128, "%128", "%129", "256k8.f32.tf32.tf32", TK_FLOATS)
#undef TK_MULTIPLY
#undef TK_HALVES
#undef TK_FLOATS
#undef TK_HELD_4
#undef TK_HELD_16
#undef TK_HELD_32
#undef TK_HELD_64
#undef TK_HELD_128
#undef TK_NAMES_32
#undef TK_NAMES_64
#undef TK_NAMES_128

// A matrix of rows of 128 bytes at a multiple of 1024 bytes: 8 rows make a swizzle unit, 1024 bytes to the next.
__device__ __forceinline__ uint64_t descriptor(uint32_t shared_address) {
    return static_cast<uint64_t>((shared_address & 0x3FFFF) >> 4) | uint64_t{1} << 16 | uint64_t{1024 >> 4} << 32 | uint64_t{1} << 62;
}
__device__ __forceinline__ void multiply_fence() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
template <int pending>
__device__ __forceinline__ void multiply_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(pending) : "memory");
}

__device__ __forceinline__ uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void barrier_arrive_expecting(uint32_t barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes) : "memory");
}
// Arrives when the copies that this thread has started so far are done.
__device__ __forceinline__ void barrier_arrive_after_copies(uint32_t barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];\n" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra.uni over;\n"
        "bra.uni again;\n"
        "over:\n"
        "}\n" ::"r"(barrier), "r"(parity) : "memory");
}

// 16 bytes of global memory, or zeros when `bytes` is 0; past the first-level cache.
__device__ __forceinline__ void copy_16(uint32_t to, const void* from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void copy_4(uint32_t to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;\n" ::"r"(to), "l"(from) : "memory");
}
// A box of a three-dimensional tensor map, from element (x, y, z) on.
__device__ __forceinline__ void copy_box(uint32_t to, const void* map, int x, int y, int z, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];\n" ::"r"(to),
        "l"(map), "r"(x), "r"(y), "r"(z), "r"(barrier) : "memory");
}
__device__ __forceinline__ void fence_for_multiply() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

}  // namespace tk::sparse::hopper
