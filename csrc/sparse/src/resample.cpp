// Halving and doubling the resolution of a set of voxels.
#include <vector>

#include "arguments.hpp"
#include "child_slot.hpp"
#include "trellis/coord_map.hpp"
#include "trellis/sort.hpp"

namespace {
constexpr int64_t grain = 1 << 14;
}

TK_API int tk_sparse_downsample(const int32_t* coords, int64_t n, int32_t* parents, int64_t* parent, int64_t* slot,
                                int64_t* count, int, void*) {
    return tk::guarded([&] {
        using namespace tk::sparse;
        require_count("n", n, INT32_MAX);
        std::vector<uint64_t> keys(static_cast<size_t>(n));
        std::vector<int32_t> order(static_cast<size_t>(n));
        tk::parallel_for(n, grain, [&](int64_t i) {
            const int32_t* c = coords + 4 * i;
            keys[i] = tk::pack_coord(c[0], c[1] >> 1, c[2] >> 1, c[3] >> 1);
            order[i] = static_cast<int32_t>(i);
            slot[i] = child_slot(c[1], c[2], c[3]);
        });
        tk::stable_sort_by_key(keys, order);
        std::vector<int64_t> number(static_cast<size_t>(n));  // of parents that start at or before each place, less one
        tk::parallel_for(n, grain, [&](int64_t i) { number[i] = i > 0 && keys[i] != keys[i - 1]; });
        *count = n == 0 ? 0 : tk::exclusive_scan(number.data(), n) + 1;
        tk::parallel_for(n, grain, [&](int64_t i) {
            const bool starts = i == 0 || keys[i] != keys[i - 1];
            const int64_t p = number[i] + (i > 0 && starts);
            parent[order[i]] = p;
            if (!starts) return;
            for (int axis = 0; axis < 4; ++axis) parents[4 * p + axis] = static_cast<int32_t>(keys[i] >> (48 - 16 * axis) & 0xFFFF);
        });
    });
}

TK_API int tk_sparse_upsample(const int32_t* coords, const uint8_t* mask, const int64_t* first, int64_t n,
                              int32_t* children, int64_t* parent, int64_t* slot, int, void*) {
    return tk::guarded([&] {
        tk::sparse::require_count("n", n);
        tk::parallel_for(n, grain, [&](int64_t i) { tk::sparse::write_children(coords, mask, first, i, children, parent, slot); });
    });
}
