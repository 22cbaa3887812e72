// Orders of rows for convolution on tensor cores. The CPU's convolution needs none; this defines what the device does.
#include <algorithm>
#include <numeric>
#include <vector>

#include "arguments.hpp"
#include "plan_key.hpp"
#include "trellis/parallel.hpp"

TK_API int tk_sparse_conv_plan_scratch(int64_t rows_out, int64_t taps, int parts, int64_t chunk_rows, int64_t* bytes, int, void*) {
    return tk::guarded([&] {
        using namespace tk::sparse;
        require_count("rows_out", rows_out, INT32_MAX);
        checked_plan(rows_out, taps, parts, chunk_rows);
        *bytes = 0;
    });
}

TK_API int tk_sparse_conv_plan(const int32_t* neighbors, int64_t rows_in, int64_t rows_out, int64_t taps, int parts,
                               int64_t chunk_rows, void*, int32_t* order, uint32_t* masks, int32_t* tiles, int64_t* wrong,
                               int, void*) {
    return tk::guarded([&] {
        using namespace tk::sparse;
        require_count("rows_in", rows_in, INT32_MAX);
        require_count("rows_out", rows_out, INT32_MAX);
        const PlanShape s = checked_plan(rows_out, taps, parts, chunk_rows);
        *wrong = INT64_MAX;
        for (int64_t i = 0; i < rows_out * taps; ++i)
            if (neighbors[i] < -1 || neighbors[i] >= rows_in) {
                *wrong = i;
                break;
            }
        std::vector<uint32_t> keys(static_cast<size_t>(rows_out));
        for (int part = 0; part < parts; ++part) {
            tk::parallel_for(rows_out, 1 << 10, [&](int64_t i) { keys[i] = plan_key(s, neighbors + i * taps, i, part); });
            int32_t* to = order + part * rows_out;
            std::iota(to, to + rows_out, 0);
            std::stable_sort(to, to + rows_out, [&](int32_t a, int32_t b) { return keys[a] < keys[b]; });
            const uint32_t low = s.most_bits() == 32 ? ~0u : (1u << s.most_bits()) - 1;
            for (int64_t g = 0; g < s.groups(); ++g) {
                uint32_t bits = 0;
                for (int64_t i = g * group_rows; i < std::min(rows_out, (g + 1) * group_rows); ++i) bits |= gray_bits(keys[to[i]] & low);
                masks[part * s.groups() + g] = mask_of_bits(s, part, bits);
            }
        }
        if (!tiles) return;
        const int64_t pairs = (s.groups() + 1) / 2;
        std::vector<int> cost(static_cast<size_t>(parts * pairs));
        for (int64_t i = 0; i < parts * pairs; ++i) cost[i] = tile_cost(masks, s.groups(), pairs, i);
        std::iota(tiles, tiles + parts * pairs, 0);
        std::stable_sort(tiles, tiles + parts * pairs, [&](int32_t a, int32_t b) { return cost[a] > cost[b]; });
    });
}
