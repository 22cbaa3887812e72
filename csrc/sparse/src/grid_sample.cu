#include "arguments.hpp"
#include "grid_stencil.hpp"
#include "voxel_hash.cuh"

namespace {

using namespace tk::sparse;
constexpr int block = 256;

template <class T>
__global__ void sample(VoxelHash hash, Grid grid, const T* feats, int64_t channels, const float* points,
                       int64_t per_batch, bool trilinear, T* out) {
    TK_GRID_STRIDE(i, grid.batch * per_batch) {
        const int b = static_cast<int>(i / per_batch);
        const auto find = [&](int batch, int x, int y, int z) { return hash.find(batch, x, y, z); };
        Stencil s;
        if (trilinear)
            trilinear_stencil(grid, b, points + 3 * i, find, s);
        else
            nearest_stencil(grid, b, points + 3 * i, find, s);
        for (int64_t c = 0; c < channels; ++c) {
            T sum = 0;
            for (int corner = 0; corner < 8; ++corner)
                if (s.row[corner] >= 0) sum += static_cast<T>(s.weight[corner]) * feats[s.row[corner] * channels + c];
            out[i * channels + c] = sum;
        }
    }
}

template <class T>
void launch(const VoxelHash& hash, Grid grid, const void* feats, int64_t channels, const float* points,
            int64_t per_batch, int mode, void* out, cudaStream_t queue) {
    sample<<<tk::grid_size(grid.batch * per_batch, block), block, 0, queue>>>(
        hash, grid, static_cast<const T*>(feats), channels, points, per_batch, mode == TK_SPARSE_TRILINEAR,
        static_cast<T*>(out));
}

}  // namespace

TK_API int tk_sparse_grid_sample_3d(const void* feats, const int32_t* coords, int64_t n, int64_t channels, int batch,
                                    int width, int height, int depth, const float* points, int64_t points_per_batch,
                                    int mode, int precision, void* scratch, void* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("n", n, INT32_MAX);
        require_count("channels", channels);
        require_count("points_per_batch", points_per_batch);
        require_mode(mode);
        require_precision(precision);
        const Grid grid = checked_grid(batch, width, height, depth);
        if (points_per_batch == 0 || channels == 0) return;
        const auto queue = static_cast<cudaStream_t>(stream);
        const VoxelHash hash(scratch, coords, n, grid, queue);
        if (precision == 32)
            launch<float>(hash, grid, feats, channels, points, points_per_batch, mode, out, queue);
        else
            launch<double>(hash, grid, feats, channels, points, points_per_batch, mode, out, queue);
    });
}
