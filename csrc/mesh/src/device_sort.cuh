// Stable radix sorts and prefix sums on the device (CUB), compiled once for this extension.
#pragma once

#include <cstdint>

#include "scratch.cuh"

namespace tk::mesh {

// Keys of `bits` bits with a 32-bit value each. Fill keys() and values(), call sort(), and read them again: the arrays
// have changed places. Items of equal keys keep their order.
template <class Key>
class PairSorter {
public:
    PairSorter(Scratch& scratch, int64_t n, int bits);
    Key* keys() const { return keys_[current_]; }
    int32_t* values() const { return values_[current_]; }
    // Room as large as values() that is free before and after sorting.
    int32_t* spare_values() const { return values_[1 - current_]; }
    void sort(cudaStream_t stream);

private:
    int64_t n_;
    int bits_;
    Key* keys_[2];
    int32_t* values_[2];
    void* temporary_;
    size_t temporary_bytes_ = 0;
    int current_ = 0;
};
extern template class PairSorter<uint32_t>;
extern template class PairSorter<uint64_t>;

// Replaces n values by their exclusive prefix sums.
class Scanner {
public:
    Scanner(Scratch& scratch, int64_t n);
    void exclusive_sum(int32_t* values, cudaStream_t stream);

private:
    int64_t n_;
    void* temporary_;
    size_t temporary_bytes_ = 0;
};

// Bits that hold the numbers 0 to n.
inline int bit_width(int64_t n) {
    int bits = 1;
    while (n >> bits) ++bits;
    return bits;
}

}  // namespace tk::mesh
