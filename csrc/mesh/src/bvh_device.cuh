// Queries on the tree of bvh.hpp for the CUDA sources of this extension.
#pragma once

#include "bvh.hpp"
#include "device_sort.cuh"

namespace tk::mesh {

struct Entry {
    float near;
    uint32_t reference;
};

__device__ inline Vec3d corner_from(const float* leaf, int corner, int lane, const Vec3f& origin, int kx, int ky, int kz) {
    const float* row = leaf + corner * 3 * bvh_width + lane;
    return {static_cast<double>(row[kx * bvh_width]) - static_cast<double>(origin[kx]),
            static_cast<double>(row[ky * bvh_width]) - static_cast<double>(origin[ky]),
            static_cast<double>(row[kz * bvh_width]) - static_cast<double>(origin[kz])};
}

// Numbers of the queries along a space-filling curve through the tree's box, so that neighbouring threads walk the same
// branches. Queries that are not finite come last.
class CoherentOrder {
public:
    CoherentOrder(Scratch& scratch, int64_t n) : n_(n), bounds_(scratch.take<float>(6)), sorter_(scratch, n, 3 * bits) {}
    // points float[n][3]
    const int32_t* sort(const BvhView& tree, const float* points, cudaStream_t stream);

private:
    static constexpr int bits = 10;
    int64_t n_;
    float* bounds_;
    PairSorter<uint32_t> sorter_;
};

}  // namespace tk::mesh
