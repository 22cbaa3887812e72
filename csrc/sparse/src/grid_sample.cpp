#include "arguments.hpp"
#include "grid_stencil.hpp"
#include "inverse_rows.hpp"
#include "trellis/parallel.hpp"
#include "voxel_index.hpp"

namespace {

using namespace tk::sparse;

// body(i, stencil) for each point i of all batches.
template <class Body>
void for_each_stencil(const VoxelIndex& index, const Grid& grid, const float* points, int64_t per_batch, int mode, Body&& body) {
    tk::parallel_chunks(grid.batch * per_batch, 1 << 12, [&](int64_t, int64_t begin, int64_t end) {
        VoxelIndex::Finder find(index);
        Stencil stencil;
        for (int64_t i = begin; i < end; ++i) {
            const int b = static_cast<int>(i / per_batch);
            if (mode == TK_SPARSE_TRILINEAR)
                trilinear_stencil(grid, b, points + 3 * i, find, stencil);
            else
                nearest_stencil(grid, b, points + 3 * i, find, stencil);
            body(i, stencil);
        }
    });
}

template <class T>
void sample(const VoxelIndex& index, const Grid& grid, const T* feats, int64_t channels, const float* points,
            int64_t per_batch, int mode, T* out) {
    for_each_stencil(index, grid, points, per_batch, mode, [&](int64_t i, const Stencil& s) {
        T* to = out + i * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] = 0;
        for (int corner = 0; corner < 8; ++corner) {
            if (s.row[corner] < 0) continue;
            const T* from = feats + s.row[corner] * channels;
            const T weight = s.weight[corner];
            for (int64_t c = 0; c < channels; ++c) to[c] += weight * from[c];
        }
    });
}

template <class T>
void sample_grad(const VoxelIndex& index, const Grid& grid, const T* grad_out, int64_t n, int64_t channels,
                 const float* points, int64_t per_batch, int mode, T* grad_feats) {
    std::vector<Stencil> stencils(static_cast<size_t>(grid.batch * per_batch));
    for_each_stencil(index, grid, points, per_batch, mode, [&](int64_t i, const Stencil& s) { stencils[i] = s; });
    const InverseRows readers(
        n, static_cast<int64_t>(stencils.size()) * 8, [&](int64_t i) { return stencils[i / 8].row[i % 8]; },
        [](int64_t i) { return i; });
    tk::parallel_for(n, 1 << 10, [&](int64_t row) {
        T* to = grad_feats + row * channels;
        for (int64_t c = 0; c < channels; ++c) to[c] = 0;
        for (const int64_t* i = readers.begin(row); i != readers.end(row); ++i) {
            const T* from = grad_out + *i / 8 * channels;
            const T weight = stencils[*i / 8].weight[*i % 8];
            for (int64_t c = 0; c < channels; ++c) to[c] += weight * from[c];
        }
    });
}

void check(int64_t n, int64_t channels, int64_t per_batch, int mode, int precision) {
    require_count("n", n, INT32_MAX);
    require_count("channels", channels);
    require_count("points_per_batch", per_batch);
    require_mode(mode);
    require_precision(precision);
}

}  // namespace

TK_API int tk_sparse_grid_sample_3d(const void* feats, const int32_t* coords, int64_t n, int64_t channels, int batch,
                                    int width, int height, int depth, const float* points, int64_t points_per_batch,
                                    int mode, int precision, const void*, void* out, int, void*) {
    return tk::guarded([&] {
        check(n, channels, points_per_batch, mode, precision);
        const Grid grid = checked_grid(batch, width, height, depth);
        const VoxelIndex index(coords, n, grid);
        if (precision == 32)
            sample(index, grid, static_cast<const float*>(feats), channels, points, points_per_batch, mode, static_cast<float*>(out));
        else
            sample(index, grid, static_cast<const double*>(feats), channels, points, points_per_batch, mode, static_cast<double*>(out));
    });
}

TK_API int tk_sparse_grid_sample_3d_grad_scratch(int64_t n, int, int64_t points_per_batch, int64_t* bytes, int, void*) {
    return tk::guarded([&] {
        require_count("n", n, INT32_MAX);
        require_count("points_per_batch", points_per_batch);
        *bytes = 0;
    });
}

TK_API int tk_sparse_grid_sample_3d_grad(const void* grad_out, const int32_t* coords, int64_t n, int64_t channels,
                                         int batch, int width, int height, int depth, const float* points,
                                         int64_t points_per_batch, int mode, int precision, const void*, void*,
                                         void* grad_feats, int, void*) {
    return tk::guarded([&] {
        check(n, channels, points_per_batch, mode, precision);
        const Grid grid = checked_grid(batch, width, height, depth);
        const VoxelIndex index(coords, n, grid);
        if (precision == 32)
            sample_grad(index, grid, static_cast<const float*>(grad_out), n, channels, points, points_per_batch, mode,
                        static_cast<float*>(grad_feats));
        else
            sample_grad(index, grid, static_cast<const double*>(grad_out), n, channels, points, points_per_batch, mode,
                        static_cast<double*>(grad_feats));
    });
}
