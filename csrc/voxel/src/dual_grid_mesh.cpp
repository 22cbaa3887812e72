// Flexible dual grid to mesh: a quad for each crossed lattice edge whose four voxels exist, split in two.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "quads.hpp"
#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"
#include "trellis_voxel.h"

namespace {

constexpr int64_t grain = 16;  // blocks

// body(block, first row, end of rows)
template <class Body>
void for_each_block(int64_t n, Body&& body) {
    const int64_t blocks = (n + tk::voxel::quad_block - 1) / tk::voxel::quad_block;
    tk::parallel_for(blocks, grain, [&](int64_t block) {
        const int64_t begin = block * tk::voxel::quad_block;
        body(block, static_cast<int32_t>(begin), static_cast<int32_t>(std::min(n, begin + tk::voxel::quad_block)));
    });
}

// The first row for which wrong(row) holds, or n.
template <class Wrong>
int64_t first_row(int64_t n, Wrong&& wrong) {
    std::atomic<int64_t> first{n};
    tk::parallel_chunks(n, 1 << 14, [&](int64_t, int64_t begin, int64_t end) {
        int64_t i = begin;
        while (i < end && !wrong(i)) ++i;
        if (i == end) return;
        int64_t seen = first.load();
        while (i < seen && !first.compare_exchange_weak(seen, i)) {}
    });
    return first;
}

}  // namespace

TK_API int tk_voxel_dual_grid_to_mesh_scratch(int64_t voxel_count, int64_t* bytes) {
    return tk::guarded([&] {
        tk::require(voxel_count >= 0 && voxel_count < INT32_MAX,
                    tk::format("coords: expected fewer than 2^31 voxels, got %lld", static_cast<long long>(voxel_count)));
        *bytes = tk::voxel::QuadScratch(nullptr, voxel_count).bytes;
    });
}

TK_API int tk_voxel_dual_grid_to_mesh_count(const int32_t* coords, const float* local_dual, const uint8_t* intersected,
                                            int64_t voxel_count, const int32_t* grid_size, void* scratch, int64_t* quad_count,
                                            int, void*) {
    return tk::guarded([&] {
        using namespace tk::voxel;
        const GridShape shape{{grid_size[0], grid_size[1], grid_size[2]}};
        const int64_t bad = first_row(voxel_count, [&](int64_t i) { return !shape.holds(coords + i * 3); });
        if (bad < voxel_count)
            tk::require(false, tk::format("coords: expected voxels of a grid of size [%d, %d, %d], got [%d, %d, %d] at %lld", shape.size[0],
                                          shape.size[1], shape.size[2], coords[bad * 3], coords[bad * 3 + 1], coords[bad * 3 + 2],
                                          static_cast<long long>(bad)));
        const int64_t odd = first_row(voxel_count, [&](int64_t i) {
            const float* d = local_dual + i * 3;
            return !(std::isfinite(d[0]) && std::isfinite(d[1]) && std::isfinite(d[2]));
        });
        tk::require(odd == voxel_count, tk::format("local_dual: expected finite numbers, got others at %lld", static_cast<long long>(odd)));
        const QuadScratch memory(scratch, voxel_count);
        const VoxelTable table = memory.table(coords);
        tk::parallel_chunks(static_cast<int64_t>(memory.slot_count), 1 << 16, [&](int64_t, int64_t begin, int64_t end) {
            std::fill(memory.slots + begin, memory.slots + end, -1);
        });
        for_each_block(voxel_count, [&](int64_t, int32_t begin, int32_t end) {
            VoxelTable writable = table;
            for (int32_t row = begin; row < end; ++row) writable.insert(row);
        });
        for_each_block(voxel_count, [&](int64_t block, int32_t begin, int32_t end) {
            int64_t quads = 0;
            for (int32_t row = begin; row < end; ++row) {
                memory.axes[row] = quad_axes(table, intersected, row);
                quads += tk::voxel::quad_count(memory.axes[row]);
            }
            memory.block_begins[block] = quads;
        });
        *quad_count = tk::exclusive_scan(memory.block_begins, memory.blocks);
    });
}

TK_API int tk_voxel_dual_grid_to_mesh_fill(const int32_t* coords, const float* local_dual, const float* split_weight,
                                           int64_t voxel_count, const float* origin, const float* voxel_size, void* scratch,
                                           float* vertices, int32_t* faces, int, void*) {
    return tk::guarded([&] {
        using namespace tk::voxel;
        const QuadScratch memory(scratch, voxel_count);
        QuadSource source{memory.table(coords), local_dual, split_weight, {}};
        std::memcpy(source.placement.origin, origin, sizeof source.placement.origin);
        std::memcpy(source.placement.voxel_size, voxel_size, sizeof source.placement.voxel_size);
        for_each_block(voxel_count, [&](int64_t block, int32_t begin, int32_t end) {
            int32_t* to = faces + memory.block_begins[block] * 6;
            for (int32_t row = begin; row < end; ++row) {
                source.vertex(row, vertices + row * int64_t{3});
                to = source.write_quads(row, memory.axes[row], to);
            }
        });
    });
}
