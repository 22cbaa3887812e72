#include <cub/cub.cuh>

#include "arguments.hpp"
#include "grid_stencil.hpp"
#include "voxel_hash.cuh"

namespace {

using namespace tk::sparse;
constexpr int block = 128;

// The rows and weights that a point reads. Voxels of one cube of the index are found with one probe.
__device__ void stencil_of(const VoxelHash& hash, const Grid& grid, int b, const float* point, bool trilinear, Stencil& s) {
    if (!trilinear) {
        nearest_stencil(grid, b, point, [&](int batch, int x, int y, int z) { return hash.find(batch, x, y, z); }, s);
        return;
    }
    int low[3];
    for (int axis = 0; axis < 3; ++axis) {
        // Beyond the range of int, and for a NaN, any number does: trilinear_stencil does not ask then.
        const float at = floorf(point[axis] - 0.5f);
        low[axis] = at > -2.0f && at < 70000.0f ? static_cast<int>(at) : -2;
    }
    const bool shared[3] = {(low[0] & 1) == 0, (low[1] & 1) == 0, (low[2] & 1) == 0};  // both corners of an axis in one cube
    int64_t cubes[8];
#pragma unroll
    for (int corner = 0; corner < 8; ++corner) {
        const int x = low[0] + (corner & 1), y = low[1] + (corner >> 1 & 1), z = low[2] + (corner >> 2);
        if ((corner & 1) && shared[0])
            cubes[corner] = cubes[corner & 6];
        else if ((corner & 2) && shared[1])
            cubes[corner] = cubes[corner & 5];
        else if ((corner & 4) && shared[2])
            cubes[corner] = cubes[corner & 3];
        else
            cubes[corner] = x >= 0 && y >= 0 && z >= 0 && x < max_grid && y < max_grid && z < max_grid
                                ? hash.find_cube(b, x >> 1, y >> 1, z >> 1) : -1;
    }
    int32_t rows[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int x = low[0] + (i & 1), y = low[1] + (i >> 1 & 1), z = low[2] + (i >> 2);
        rows[i] = cubes[i] < 0 ? -1 : __ldg(hash.cube_rows(cubes[i]) + child_slot(x, y, z));
    }
    trilinear_stencil(grid, b, point, [&](int, int x, int y, int z) {
        const int at = (x - low[0]) + 2 * (y - low[1]) + 4 * (z - low[2]);
        int32_t row = -1;
#pragma unroll
        for (int i = 0; i < 8; ++i) row = at == i ? rows[i] : row;
        return row;
    }, s);
}

template <class T, int width>
struct alignas(sizeof(T) * width) Pack {
    T v[width];
};

// `width` channels at a time.
template <class T, int width>
__global__ __launch_bounds__(block) void sample(VoxelHash hash, Grid grid, const T* feats, int channels, const float* points,
                                                int64_t per_batch, bool trilinear, T* out) {
    using Channels = Pack<T, width>;
    TK_GRID_STRIDE(i, grid.batch * per_batch) {
        const float point[3] = {points[3 * i], points[3 * i + 1], points[3 * i + 2]};
        Stencil s;
        stencil_of(hash, grid, static_cast<int>(i / per_batch), point, trilinear, s);
        for (int c = 0; c < channels; c += width) {
            Channels sum{};
#pragma unroll
            for (int corner = 0; corner < 8; ++corner) {
                if (s.row[corner] < 0) continue;
                const Channels read = *reinterpret_cast<const Channels*>(feats + static_cast<int64_t>(s.row[corner]) * channels + c);
#pragma unroll
                for (int k = 0; k < width; ++k) sum.v[k] += static_cast<T>(s.weight[corner]) * read.v[k];
            }
            *reinterpret_cast<Channels*>(out + i * channels + c) = sum;
        }
    }
}

template <class T>
void sample(const VoxelHash& hash, Grid grid, const void* feats, int channels, const float* points, int64_t per_batch, int mode,
            void* out, cudaStream_t queue) {
    const unsigned blocks = tk::grid_size(grid.batch * per_batch, block);
    const auto go = [&](auto kernel) {
        kernel<<<blocks, block, 0, queue>>>(hash, grid, static_cast<const T*>(feats), channels, points, per_batch,
                                            mode == TK_SPARSE_TRILINEAR, static_cast<T*>(out));
    };
    const uintptr_t together = reinterpret_cast<uintptr_t>(feats) | reinterpret_cast<uintptr_t>(out);
    if constexpr (sizeof(T) == 4)
        if (channels % 4 == 0 && together % 16 == 0) return go(sample<T, 4>);
    if (channels % 2 == 0 && together % (2 * sizeof(T)) == 0)
        go(sample<T, 2>);
    else
        go(sample<T, 1>);
}

// Entry 8 i + corner: the row that point i reads there (n if none) and its weight.
__global__ __launch_bounds__(block) void list_readers(VoxelHash hash, Grid grid, int64_t n, const float* points, int64_t per_batch,
                                                      bool trilinear, uint32_t* rows, uint32_t* entries, float* weights) {
    TK_GRID_STRIDE(i, grid.batch * per_batch) {
        const float point[3] = {points[3 * i], points[3 * i + 1], points[3 * i + 2]};
        Stencil s;
        stencil_of(hash, grid, static_cast<int>(i / per_batch), point, trilinear, s);
        for (int corner = 0; corner < 8; ++corner) {
            rows[8 * i + corner] = static_cast<uint32_t>(s.row[corner] < 0 ? n : s.row[corner]);
            entries[8 * i + corner] = static_cast<uint32_t>(8 * i + corner);
            weights[8 * i + corner] = s.weight[corner];
        }
    }
}

// first[r]: how many of the sorted rows are smaller than r, for r in [0, n].
__global__ void find_first(const uint32_t* rows, int64_t count, int64_t n, uint32_t* first) {
    TK_GRID_STRIDE(i, count + 1) {
        const int64_t from = i == 0 ? 0 : static_cast<int64_t>(rows[i - 1]) + 1, to = i == count ? n : rows[i];
        for (int64_t r = from; r <= to && r <= n; ++r) first[r] = static_cast<uint32_t>(i);
    }
}

// Readers of a row in ascending order, as on the CPU.
template <class T>
__global__ void add_readers(const T* grad_out, int64_t n, int64_t channels, const uint32_t* first, const uint32_t* entries,
                            const float* weights, T* grad_feats) {
    TK_GRID_STRIDE(i, n * channels) {
        const int64_t row = i / channels, channel = i % channels;
        T sum = 0;
        for (uint32_t at = first[row]; at < first[row + 1]; ++at)
            sum += static_cast<T>(weights[entries[at]]) * grad_out[entries[at] / 8 * channels + channel];
        grad_feats[i] = sum;
    }
}

// The scratch of the gradient, cut up.
struct Scratch {
    uint32_t *rows, *sorted_rows, *entries, *sorted_entries, *first;
    float* weights;
    void* temporary;
    size_t temporary_bytes = 0, bytes;

    Scratch(void* memory, int64_t n, int64_t count) {
        TK_CUDA(cub::DeviceRadixSort::SortPairs(nullptr, temporary_bytes, static_cast<const uint32_t*>(nullptr),
                                                static_cast<uint32_t*>(nullptr), static_cast<const uint32_t*>(nullptr),
                                                static_cast<uint32_t*>(nullptr), count));
        uint8_t* at = static_cast<uint8_t*>(memory);
        const auto take = [&](int64_t elements) {
            uint8_t* from = at;
            at += (elements * 4 + 255) / 256 * 256;
            return from;
        };
        rows = reinterpret_cast<uint32_t*>(take(count));
        sorted_rows = reinterpret_cast<uint32_t*>(take(count));
        entries = reinterpret_cast<uint32_t*>(take(count));
        sorted_entries = reinterpret_cast<uint32_t*>(take(count));
        weights = reinterpret_cast<float*>(take(count));
        first = reinterpret_cast<uint32_t*>(take(n + 1));
        temporary = at;
        bytes = static_cast<size_t>(at - static_cast<uint8_t*>(memory)) + temporary_bytes;
    }
};

int64_t reader_count(int batch, int64_t points_per_batch) {
    require_count("points_per_batch", points_per_batch);
    tk::require(batch >= 1 && points_per_batch <= (int64_t{UINT32_MAX} - 8) / 8 / batch,
                tk::format("points: expected fewer than 2^29 for the gradient, got %d * %lld", batch,
                           static_cast<long long>(points_per_batch)));
    return 8 * batch * points_per_batch;
}

}  // namespace

TK_API int tk_sparse_grid_sample_3d(const void* feats, const int32_t*, int64_t n, int64_t channels, int batch,
                                    int width, int height, int depth, const float* points, int64_t points_per_batch,
                                    int mode, int precision, const void* index, void* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("n", n, INT32_MAX);
        require_count("channels", channels, INT32_MAX);
        require_count("points_per_batch", points_per_batch);
        require_mode(mode);
        require_precision(precision);
        const Grid grid = checked_grid(batch, width, height, depth);
        if (points_per_batch == 0 || channels == 0) return;
        const auto queue = static_cast<cudaStream_t>(stream);
        const VoxelHash hash(const_cast<void*>(index), n);
        if (precision == 32)
            sample<float>(hash, grid, feats, static_cast<int>(channels), points, points_per_batch, mode, out, queue);
        else
            sample<double>(hash, grid, feats, static_cast<int>(channels), points, points_per_batch, mode, out, queue);
    });
}

TK_API int tk_sparse_grid_sample_3d_grad_scratch(int64_t n, int batch, int64_t points_per_batch, int64_t* bytes, int device, void*) {
    return tk::guarded_on(device, [&] {
        require_count("n", n, INT32_MAX);
        *bytes = static_cast<int64_t>(Scratch(nullptr, n, reader_count(batch, points_per_batch)).bytes);
    });
}

TK_API int tk_sparse_grid_sample_3d_grad(const void* grad_out, const int32_t*, int64_t n, int64_t channels, int batch, int width,
                                         int height, int depth, const float* points, int64_t points_per_batch, int mode,
                                         int precision, const void* index, void* scratch, void* grad_feats, int device,
                                         void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("n", n, INT32_MAX);
        require_count("channels", channels, INT32_MAX);
        require_mode(mode);
        require_precision(precision);
        const Grid grid = checked_grid(batch, width, height, depth);
        const int64_t count = reader_count(batch, points_per_batch);
        if (n == 0 || channels == 0) return;
        const auto queue = static_cast<cudaStream_t>(stream);
        if (count == 0) {
            TK_CUDA(cudaMemsetAsync(grad_feats, 0, static_cast<size_t>(n * channels * precision / 8), queue));
            return;
        }
        tk::require(scratch != nullptr, "scratch: expected memory of grid_sample_3d_grad_scratch bytes, got null");
        const VoxelHash hash(const_cast<void*>(index), n);
        const Scratch room(scratch, n, count);
        list_readers<<<tk::grid_size(count / 8, block), block, 0, queue>>>(hash, grid, n, points, points_per_batch, mode == TK_SPARSE_TRILINEAR,
                                                                           room.rows, room.entries, room.weights);
        TK_CUDA(cudaGetLastError());
        size_t temporary = room.temporary_bytes;
        int bits = 1;
        while (int64_t{1} << bits <= n) ++bits;
        TK_CUDA(cub::DeviceRadixSort::SortPairs(room.temporary, temporary, room.rows, room.sorted_rows, room.entries, room.sorted_entries,
                                                count, 0, bits, queue));
        find_first<<<tk::grid_size(count + 1, block), block, 0, queue>>>(room.sorted_rows, count, n, room.first);
        TK_CUDA(cudaGetLastError());
        const unsigned blocks = tk::grid_size(n * channels, block);
        if (precision == 32)
            add_readers<<<blocks, block, 0, queue>>>(static_cast<const float*>(grad_out), n, channels, room.first, room.sorted_entries,
                                                     room.weights, static_cast<float*>(grad_feats));
        else
            add_readers<<<blocks, block, 0, queue>>>(static_cast<const double*>(grad_out), n, channels, room.first, room.sorted_entries,
                                                     room.weights, static_cast<double*>(grad_feats));
    });
}
