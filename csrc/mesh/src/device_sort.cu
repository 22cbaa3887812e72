#include "device_sort.cuh"

#include <cub/cub.cuh>

namespace tk::mesh {
namespace {

template <class Key>
size_t radix_sort(void* temporary, size_t bytes, cub::DoubleBuffer<Key>& keys, cub::DoubleBuffer<int32_t>& values, int64_t n, int bits,
                  cudaStream_t stream) {
    TK_CUDA(cub::DeviceRadixSort::SortPairs(temporary, bytes, keys, values, static_cast<int>(n), 0, bits, stream));
    return bytes;
}

}  // namespace

template <class Key>
PairSorter<Key>::PairSorter(Scratch& scratch, int64_t n, int bits) : n_(n), bits_(bits) {
    for (int i = 0; i < 2; ++i) {
        keys_[i] = scratch.take<Key>(n);
        values_[i] = scratch.take<int32_t>(n);
    }
    cub::DoubleBuffer<Key> keys;
    cub::DoubleBuffer<int32_t> values;
    temporary_bytes_ = std::max<size_t>(radix_sort(nullptr, 0, keys, values, n, bits, nullptr), 1);
    temporary_ = scratch.take<char>(static_cast<int64_t>(temporary_bytes_));
}

template <class Key>
void PairSorter<Key>::sort(cudaStream_t stream) {
    if (n_ < 2) return;
    cub::DoubleBuffer<Key> keys(keys_[current_], keys_[1 - current_]);
    cub::DoubleBuffer<int32_t> values(values_[current_], values_[1 - current_]);
    radix_sort(temporary_, temporary_bytes_, keys, values, n_, bits_, stream);
    if (keys.Current() != keys_[current_]) current_ = 1 - current_;
}

template class PairSorter<uint32_t>;
template class PairSorter<uint64_t>;

Scanner::Scanner(Scratch& scratch, int64_t n) : n_(n) {
    int32_t* none = nullptr;
    TK_CUDA(cub::DeviceScan::ExclusiveSum(nullptr, temporary_bytes_, none, none, static_cast<int>(n)));
    temporary_bytes_ = std::max<size_t>(temporary_bytes_, 1);
    temporary_ = scratch.take<char>(static_cast<int64_t>(temporary_bytes_));
}

void Scanner::exclusive_sum(int32_t* values, cudaStream_t stream) {
    if (n_ > 0) TK_CUDA(cub::DeviceScan::ExclusiveSum(temporary_, temporary_bytes_, values, values, static_cast<int>(n_), stream));
}

}  // namespace tk::mesh
