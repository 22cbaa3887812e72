// Sorts, sums and selections of simplification on the device (CUB), in room that the caller gives.
#pragma once

#include <cstdint>

#include "scratch.cuh"

namespace tk::mesh {

class Primitives {
public:
    // Room for meshes of at most these sizes.
    Primitives(Scratch& scratch, int64_t num_faces, int64_t num_vertices);

    // The corners `ids` (0, 1, ... 3 F) by the vertices in `faces`, stable: sorted_faces int32[3 F], corners int32[3 F].
    void sort_corners(const int32_t* faces, const int32_t* ids, int32_t* sorted_faces, int32_t* corners, int64_t num_faces,
                      int64_t num_vertices, cudaStream_t stream);
    void sort_keys(const uint64_t* keys, const int32_t* values, uint64_t* sorted_keys, int32_t* sorted_values, int64_t n,
                   cudaStream_t stream);
    // sums[i] = values[0] + ... + values[i - 1].
    void exclusive_sum(const int32_t* values, int32_t* sums, int64_t n, cudaStream_t stream);
    // The faces that name three vertices, none negative, in order; *count of them.
    void keep_faces(const int32_t* faces, int32_t* kept, int32_t* count, int64_t num_faces, cudaStream_t stream);

private:
    void* temporary_ = nullptr;
    size_t bytes_ = 0;
    template <class Call>
    void run(Call&& call);
};

}  // namespace tk::mesh
