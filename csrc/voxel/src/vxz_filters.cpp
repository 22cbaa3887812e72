// Filters of .vxz attributes: differences between voxels, modulo 256, which compress better than the values.
#include <algorithm>

#include "trellis/coord_map.hpp"
#include "trellis_voxel.h"
#include "vxz_octree.hpp"

// Along the octree: a node stands for its first voxel; a child but the first is stored as the difference from the
// child before it, in the slots that `walk` numbers; slot 0 holds the first voxel.
TK_API int tk_voxel_vxz_parent_filter(const uint8_t* octree, int64_t size, int depth, int64_t count, int64_t channels, const uint8_t* in,
                                      uint8_t* out, int decode, int, void*) {
    return tk::guarded([&] {
        tk::voxel::check_depth(depth);
        tk::require(count >= 1, tk::format("count: expected at least 1, got %lld", (long long)count));
        std::copy(in, in + channels, out);
        const auto sibling = [&](int64_t slot, int64_t leaf, int64_t before) {
            if (slot >= count || leaf >= count) tk::voxel::refuse(tk::format("octree: holds more than the expected %lld voxels", (long long)count));
            for (int64_t c = 0; c < channels; ++c) {
                if (decode) out[leaf * channels + c] = static_cast<uint8_t>(out[before * channels + c] + in[slot * channels + c]);
                else out[slot * channels + c] = static_cast<uint8_t>(in[leaf * channels + c] - in[before * channels + c]);
            }
        };
        const int64_t leaves = tk::voxel::walk(octree, size, depth, [](int64_t, uint64_t) {}, sibling);
        tk::require(leaves == count, tk::format("octree: expected %lld voxels, got %lld", (long long)count, (long long)leaves));
    });
}

// In space: a voxel is stored as the difference from the one just below it along the most axes of (z, y, x), tried in
// that order of preference; a voxel with none of the seven stays as it is.
TK_API int tk_voxel_vxz_neighbor_filter(const int32_t* coords, const int32_t* origin, int depth, int64_t count, int64_t channels, const uint8_t* in,
                                        uint8_t* out, int decode, int, void*) {
    return tk::guarded([&] {
        tk::voxel::check_depth(depth);
        static constexpr int steps[7][3] = {{1, 1, 1}, {0, 1, 1}, {1, 0, 1}, {1, 1, 0}, {0, 0, 1}, {0, 1, 0}, {1, 0, 0}};
        // One more than the position in the chunk, so that a step below it is a valid key that no voxel has.
        const auto key = [&](int64_t i, const int (&step)[3]) {
            int64_t p[3];
            for (int axis = 0; axis < 3; ++axis) p[axis] = static_cast<int64_t>(coords[3 * i + axis]) - origin[axis] + 1 - step[axis];
            return tk::pack_coord(0, p[0], p[1], p[2]);
        };
        tk::parallel_for(count, 1 << 14, [&](int64_t i) {
            for (int axis = 0; axis < 3; ++axis) {
                const int64_t p = static_cast<int64_t>(coords[3 * i + axis]) - origin[axis];
                if (p < 0 || p >= (1 << depth)) tk::voxel::refuse(tk::format("coords: row %lld lies outside its chunk", (long long)i));
            }
        });
        const tk::CoordMap rows(count, [&](int64_t i) { return key(i, {0, 0, 0}); });
        // Rows ascend in Morton order, and so a reference, which is below in no axis and above in none, comes first.
        for (int64_t i = 0; i < count; ++i) {
            int64_t reference = -1;
            for (int k = 0; k < 7 && reference < 0; ++k) reference = rows.find(key(i, steps[k]));
            if (reference >= i) tk::voxel::refuse("coords: expected ascending Morton order");
            for (int64_t c = 0; c < channels; ++c) {
                const uint8_t value = in[i * channels + c];
                const uint8_t base = reference < 0 ? 0 : decode ? out[reference * channels + c] : in[reference * channels + c];
                out[i * channels + c] = static_cast<uint8_t>(decode ? value + base : value - base);
            }
        }
    });
}
