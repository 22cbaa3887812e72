// Glue for CUDA sources: device guard, error checks, launch sizes. Device memory is never allocated here;
// callers pass outputs and scratch (see architecture.md, "The binding rule").
#pragma once

#include <cuda_runtime.h>

#include "trellis/error.hpp"

namespace tk {

inline void cuda_check(cudaError_t status, const char* what) {
    if (status != cudaSuccess)
        throw Error(TK_CUDA_ERROR, format("%s: %s (%s)", what, cudaGetErrorName(status), cudaGetErrorString(status)));
}
#define TK_CUDA(call) ::tk::cuda_check((call), #call)

// Makes `device` current for a scope and restores the caller's choice after it.
class DeviceGuard {
public:
    explicit DeviceGuard(int device) {
        TK_CUDA(cudaGetDevice(&previous_));
        if (device != previous_) TK_CUDA(cudaSetDevice(device));
    }
    ~DeviceGuard() { cudaSetDevice(previous_); }
    DeviceGuard(const DeviceGuard&) = delete;
    DeviceGuard& operator=(const DeviceGuard&) = delete;

private:
    int previous_ = 0;
};

// Blocks for one thread per item. Kernels loop with a grid stride, so the cap costs nothing; callers skip
// the launch when n is 0, because an empty grid is an error.
inline unsigned grid_size(int64_t n, int block) {
    const int64_t blocks = (n + block - 1) / block;
    return static_cast<unsigned>(blocks < (int64_t{1} << 20) ? blocks : (int64_t{1} << 20));
}

// guarded() on a device; a failed launch is reported by the call that launched.
template <class Body>
int guarded_on(int device, Body&& body) noexcept {
    return guarded([&] {
        require(device >= 0, format("device: expected a CUDA device index, got %d", device));
        DeviceGuard guard(device);
        body();
        TK_CUDA(cudaGetLastError());
    });
}

}  // namespace tk

#define TK_GRID_STRIDE(i, n) \
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < (n); i += int64_t(blockDim.x) * gridDim.x)
