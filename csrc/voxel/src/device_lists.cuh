// Lists in device memory, built by counting and then filling: memory from the caller, prefix sums, stable sorts and
// the runs of equal keys.
#pragma once

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "block_scan.cuh"
#include "numeric.hpp"
#include "trellis/cuda.cuh"

namespace tk::voxel {

// Takes device memory from the caller (see tk_voxel_mesh_to_dual_grid_begin), who holds it until the end of the work.
class Workspace {
public:
    Workspace(void* allocate, cudaStream_t stream) : stream(stream), allocate_(reinterpret_cast<void* (*)(int64_t)>(allocate)) {
        require(allocate != nullptr, "allocate: expected a function, got null");
    }
    template <class T>
    T* take(int64_t count) const {
        const int64_t bytes = greater<int64_t>(count, 1) * static_cast<int64_t>(sizeof(T));
        void* memory = allocate_(bytes);
        if (!memory) throw Error(TK_OUT_OF_MEMORY, format("out of device memory: %lld more bytes are needed", static_cast<long long>(bytes)));
        return static_cast<T*>(memory);
    }

    const cudaStream_t stream;

private:
    void* (*allocate_)(int64_t);
};

// One thread for each of n items.
template <class... Parameters, class... Arguments>
void launch(int64_t n, cudaStream_t stream, void (*kernel)(Parameters...), const Arguments&... arguments) {
    if (n == 0) return;
    kernel<<<grid_size(n, 128), 128, 0, stream>>>(arguments...);
    TK_CUDA(cudaGetLastError());
}

// Reads numbers that kernels have written; waits for the stream.
template <class T>
T read_back(const T* at, cudaStream_t stream) {
    T value;
    TK_CUDA(cudaMemcpyAsync(&value, at, sizeof value, cudaMemcpyDeviceToHost, stream));
    TK_CUDA(cudaStreamSynchronize(stream));
    return value;
}

// Counts of n items, which `scan` turns into where each one's part of a list begins, with the whole length behind.
struct Counts {
    int64_t* at;
    int64_t n;

    Counts(const Workspace& workspace, int64_t n) : at(workspace.take<int64_t>(n + 1)), n(n) {
        TK_CUDA(cudaMemsetAsync(at + n, 0, sizeof *at, workspace.stream));
    }
    void scan(const Workspace& workspace) const {
        size_t bytes = 0;
        TK_CUDA(cub::DeviceScan::ExclusiveSum(nullptr, bytes, at, at, n + 1, workspace.stream));
        void* scratch = workspace.take<char>(static_cast<int64_t>(bytes));
        TK_CUDA(cub::DeviceScan::ExclusiveSum(scratch, bytes, at, at, n + 1, workspace.stream));
    }
    int64_t total(const Workspace& workspace) const { return read_back(at + n, workspace.stream); }
};

// Values with keys.
struct Pairs {
    uint64_t* keys = nullptr;
    uint32_t* values = nullptr;
    int64_t n = 0;

    Pairs() = default;
    Pairs(const Workspace& workspace, int64_t n) : keys(workspace.take<uint64_t>(n)), values(workspace.take<uint32_t>(n)), n(n) {}

    // Ascending by key, whose lowest `bits` bits may be set; equal keys keep their order.
    void sort(const Workspace& workspace, int bits) {
        if (n < 2) return;
        Pairs other(workspace, n);
        cub::DoubleBuffer<uint64_t> all_keys(keys, other.keys);
        cub::DoubleBuffer<uint32_t> all_values(values, other.values);
        size_t bytes = 0;
        TK_CUDA(cub::DeviceRadixSort::SortPairs(nullptr, bytes, all_keys, all_values, n, 0, bits, workspace.stream));
        void* scratch = workspace.take<char>(static_cast<int64_t>(bytes));
        TK_CUDA(cub::DeviceRadixSort::SortPairs(scratch, bytes, all_keys, all_values, n, 0, bits, workspace.stream));
        keys = all_keys.Current();
        values = all_values.Current();
    }
};

// Bits that numbers below `bound` may have.
inline int bits_below(uint64_t bound) {
    int bits = 1;
    while (bits < 64 && bound - 1 >> bits) ++bits;
    return bits;
}

// The first of n ascending keys that is not below `key`.
TK_INLINE int64_t lower_bound(const uint64_t* keys, int64_t n, uint64_t key) {
    int64_t low = 0, high = n;
    while (low < high) {
        const int64_t middle = (low + high) >> 1;
        if (keys[middle] < key) low = middle + 1;
        else high = middle;
    }
    return low;
}

// Distinct keys in ascending order and the runs of a sorted list that hold them: run r is [begins[r], begins[r + 1]).
struct Runs {
    uint64_t* keys = nullptr;
    uint32_t* begins = nullptr;
    int64_t n = 0;

    // The run of a key, or -1.
    TK_INLINE int64_t find(uint64_t key) const {
        const int64_t at = lower_bound(keys, n, key);
        return at < n && keys[at] == key ? at : -1;
    }
};

namespace detail {

constexpr int run_block = 256;

static __global__ void count_runs(const uint64_t* sorted, int64_t n, int64_t* block_counts) {
    const int64_t i = int64_t{blockIdx.x} * run_block + threadIdx.x;
    const int heads = __syncthreads_count(i < n && (i == 0 || sorted[i] != sorted[i - 1]));
    if (threadIdx.x == 0) block_counts[blockIdx.x] = heads;
}

static __global__ void write_runs(const uint64_t* sorted, int64_t n, const int64_t* block_begins, uint64_t* keys, uint32_t* begins) {
    __shared__ int warp_sums[32];
    const int64_t i = int64_t{blockIdx.x} * run_block + threadIdx.x;
    const bool head = i < n && (i == 0 || sorted[i] != sorted[i - 1]);
    int total;
    const int64_t at = block_begins[blockIdx.x] + exclusive_scan_block(static_cast<int>(head), warp_sums, total);
    if (head) {
        keys[at] = sorted[i];
        begins[at] = static_cast<uint32_t>(i);
    }
    if (i == n - 1) begins[at + head] = static_cast<uint32_t>(n);
}

static __global__ void find_keys(Runs runs, uint64_t* keys, int64_t n) {
    TK_GRID_STRIDE(i, n) {
        const int64_t run = runs.find(keys[i]);
        keys[i] = static_cast<uint64_t>(run < 0 ? runs.n : run);
    }
}

}  // namespace detail

// Replaces keys by the numbers of their runs, or by the number of runs where there is none, and sorts by that.
inline void sort_by_run(const Workspace& workspace, const Runs& runs, Pairs& pairs) {
    launch(pairs.n, workspace.stream, detail::find_keys, runs, pairs.keys, pairs.n);
    pairs.sort(workspace, bits_below(static_cast<uint64_t>(runs.n) + 1));
}

// Of fewer than 2^32 pairs. Waits for the stream.
inline Runs find_runs(const Workspace& workspace, const Pairs& sorted) {
    Runs runs;
    if (sorted.n == 0) return runs;
    const Counts blocks(workspace, (sorted.n + detail::run_block - 1) / detail::run_block);
    detail::count_runs<<<static_cast<unsigned>(blocks.n), detail::run_block, 0, workspace.stream>>>(sorted.keys, sorted.n, blocks.at);
    TK_CUDA(cudaGetLastError());
    blocks.scan(workspace);
    runs.n = blocks.total(workspace);
    runs.keys = workspace.take<uint64_t>(runs.n);
    runs.begins = workspace.take<uint32_t>(runs.n + 1);
    detail::write_runs<<<static_cast<unsigned>(blocks.n), detail::run_block, 0, workspace.stream>>>(sorted.keys, sorted.n, blocks.at, runs.keys,
                                                                                                  runs.begins);
    TK_CUDA(cudaGetLastError());
    return runs;
}

}  // namespace tk::voxel
