#include "arguments.hpp"
#include "grid.hpp"
#include "trellis/parallel.hpp"
#include "voxel_index.hpp"

TK_API int tk_sparse_index_bytes(int64_t n, int64_t* bytes, int, void*) {
    return tk::guarded([&] {
        tk::sparse::require_count("n", n, INT32_MAX);
        *bytes = 0;
    });
}

TK_API int tk_sparse_index_build(const int32_t* coords, int64_t n, int batch, int width, int height, int depth, void*,
                                 int64_t* outside, int, void*) {
    return tk::guarded([&] {
        using namespace tk::sparse;
        require_count("n", n, INT32_MAX);
        const Grid grid = checked_grid(batch, width, height, depth);
        *outside = 0;
        const int32_t* c = coords;
        while (*outside < n && grid.holds(c[0], c[1], c[2], c[3])) ++*outside, c += 4;
        if (*outside == n) *outside = INT64_MAX;
    });
}

TK_API int tk_sparse_neighbor_map(const int32_t* coords, int64_t n, int batch, int width, int height, int depth,
                                  int kernel_x, int kernel_y, int kernel_z, int dilation_x, int dilation_y,
                                  int dilation_z, const void*, int32_t* neighbors, int, void*) {
    return tk::guarded([&] {
        using namespace tk::sparse;
        require_count("n", n, INT32_MAX);
        const Grid grid = checked_grid(batch, width, height, depth);
        const Kernel kernel = checked_kernel(kernel_x, kernel_y, kernel_z, dilation_x, dilation_y, dilation_z);
        const int taps = kernel.taps();
        std::vector<tk::Vec3i> offsets;
        for (int tap = 0; tap < taps; ++tap) offsets.push_back(kernel.offset(tap));
        const VoxelIndex index(coords, n, grid);
        tk::parallel_chunks(n, 1 << 12, [&](int64_t, int64_t begin, int64_t end) {
            VoxelIndex::Finder find(index);
            for (int64_t i = begin; i < end; ++i) {
                const int32_t* c = coords + 4 * i;
                int32_t* row = neighbors + i * taps;
                const bool inside = grid.holds(c[0], c[1], c[2], c[3]);
                for (int tap = 0; tap < taps; ++tap) {
                    const tk::Vec3i& o = offsets[tap];
                    const int x = c[1] + o.x, y = c[2] + o.y, z = c[3] + o.z;
                    row[tap] = inside && grid.holds(c[0], x, y, z) ? find(c[0], x, y, z) : -1;
                }
            }
        });
    });
}
