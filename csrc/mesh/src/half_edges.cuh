// The half-edges of a triangle list on the device, sorted by edge. Half-edge and corner numbers as in topology.hpp.
#pragma once

#include "device_sort.cuh"
#include "topology.hpp"

namespace tk::mesh {

// After sort(): half-edges by (smaller vertex, larger vertex), those of one edge ascending. Those of faces that name a
// vertex twice are behind the others, with a key that is_edge() denies.
class HalfEdges {
public:
    HalfEdges(Scratch& scratch, int64_t num_faces, int64_t num_vertices)
        : count_(3 * num_faces), num_faces_(num_faces), bits_(bit_width(num_vertices)), outside_(num_vertices),
          sorter_(scratch, 3 * num_faces, 2 * bit_width(num_vertices)) {}
    void sort(const int32_t* faces, cudaStream_t stream);

    // What kernels see of it, by value.
    struct View {
        const uint64_t* key;
        const int32_t* half;
        int64_t count;
        int bits;
        uint64_t none;  // the key of what is no half-edge of an edge

        __device__ bool is_edge(int64_t i) const { return key[i] != none; }
        __device__ bool starts(int64_t i) const { return i == 0 || key[i] != key[i - 1]; }
        __device__ bool continues(int64_t i) const { return i + 1 < count && key[i + 1] == key[i]; }
        // Whether the edge that starts at i has exactly two faces.
        __device__ bool joins_two(int64_t i) const { return continues(i) && !(i + 2 < count && key[i + 2] == key[i]); }
        __device__ int32_t low(int64_t i) const { return static_cast<int32_t>(key[i] >> bits); }
        __device__ int32_t high(int64_t i) const { return static_cast<int32_t>(key[i] & ((uint64_t{1} << bits) - 1)); }
    };
    View view() const { return {sorter_.keys(), sorter_.values(), count_, bits_, none()}; }
    // 3 F numbers of room that is free once the half-edges are sorted.
    int32_t* spare() const { return sorter_.spare_values(); }

private:
    uint64_t none() const { return static_cast<uint64_t>(outside_) << bits_ | static_cast<uint64_t>(outside_); }
    int64_t count_, num_faces_;
    int bits_;
    int64_t outside_;
    PairSorter<uint64_t> sorter_;
};

}  // namespace tk::mesh
