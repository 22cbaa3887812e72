#include "simplify_primitives.cuh"

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>
#include <cub/device/device_select.cuh>

namespace tk::mesh {
namespace {

struct Face {
    int32_t a, b, c;
};
struct IsFace {
    __host__ __device__ bool operator()(const Face& f) const { return f.a >= 0 && f.a != f.b && f.b != f.c && f.c != f.a; }
};

int bits_below(int64_t n) {  // that hold the numbers 0 to n - 1
    int bits = 1;
    while (n > int64_t{1} << bits) ++bits;
    return bits;
}

cudaError_t corner_sort(void* room, size_t& bytes, const int32_t* faces, const int32_t* ids, int32_t* sorted_faces, int32_t* corners,
                        int64_t num_faces, int64_t num_vertices, cudaStream_t stream) {
    return cub::DeviceRadixSort::SortPairs(room, bytes, reinterpret_cast<const uint32_t*>(faces), reinterpret_cast<uint32_t*>(sorted_faces), ids,
                                           corners, static_cast<int>(3 * num_faces), 0, bits_below(num_vertices), stream);
}
cudaError_t key_sort(void* room, size_t& bytes, const uint64_t* keys, const int32_t* values, uint64_t* sorted_keys, int32_t* sorted_values,
                     int64_t n, cudaStream_t stream) {
    return cub::DeviceRadixSort::SortPairs(room, bytes, keys, sorted_keys, values, sorted_values, static_cast<int>(n), 0, 64, stream);
}
cudaError_t sum(void* room, size_t& bytes, const int32_t* values, int32_t* sums, int64_t n, cudaStream_t stream) {
    return cub::DeviceScan::ExclusiveSum(room, bytes, values, sums, static_cast<int>(n), stream);
}
cudaError_t keep(void* room, size_t& bytes, const int32_t* faces, int32_t* kept, int32_t* count, int64_t num_faces, cudaStream_t stream) {
    return cub::DeviceSelect::If(room, bytes, reinterpret_cast<const Face*>(faces), reinterpret_cast<Face*>(kept), count,
                                 static_cast<int>(num_faces), IsFace{}, stream);
}

}  // namespace

Primitives::Primitives(Scratch& scratch, int64_t num_faces, int64_t num_vertices) {
    size_t bytes = 0;
    const auto grow = [&](cudaError_t status) {
        TK_CUDA(status);
        bytes_ = std::max(bytes_, bytes);
    };
    grow(corner_sort(nullptr, bytes, nullptr, nullptr, nullptr, nullptr, num_faces, num_vertices, nullptr));
    grow(key_sort(nullptr, bytes, nullptr, nullptr, nullptr, nullptr, num_vertices / 2 + 1, nullptr));
    grow(sum(nullptr, bytes, nullptr, nullptr, num_vertices + 1, nullptr));
    grow(keep(nullptr, bytes, nullptr, nullptr, nullptr, num_faces, nullptr));
    bytes_ += size_t{1} << 16;  // what small sizes might need more than large ones
    temporary_ = scratch.take<char>(static_cast<int64_t>(bytes_));
}

template <class Call>
void Primitives::run(Call&& call) {
    size_t needed = 0;
    TK_CUDA(call(nullptr, needed));
    require(needed <= bytes_, format("scratch: expected room for %zu bytes, there is %zu", needed, bytes_));
    TK_CUDA(call(temporary_, needed));
}

void Primitives::sort_corners(const int32_t* faces, const int32_t* ids, int32_t* sorted_faces, int32_t* corners, int64_t num_faces,
                              int64_t num_vertices, cudaStream_t stream) {
    run([&](void* room, size_t& bytes) {
        return corner_sort(room, bytes, faces, ids, sorted_faces, corners, num_faces, num_vertices, stream);
    });
}

void Primitives::sort_keys(const uint64_t* keys, const int32_t* values, uint64_t* sorted_keys, int32_t* sorted_values, int64_t n,
                           cudaStream_t stream) {
    run([&](void* room, size_t& bytes) { return key_sort(room, bytes, keys, values, sorted_keys, sorted_values, n, stream); });
}

void Primitives::exclusive_sum(const int32_t* values, int32_t* sums, int64_t n, cudaStream_t stream) {
    run([&](void* room, size_t& bytes) { return sum(room, bytes, values, sums, n, stream); });
}

void Primitives::keep_faces(const int32_t* faces, int32_t* kept, int32_t* count, int64_t num_faces, cudaStream_t stream) {
    run([&](void* room, size_t& bytes) { return keep(room, bytes, faces, kept, count, num_faces, stream); });
}

}  // namespace tk::mesh
