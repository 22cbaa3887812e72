// The attempts of unwrap_flat_place.cu on the thread pool, with the same places.
#include <algorithm>
#include <vector>

#include "trellis_mesh.h"
#include "unwrap_flat_pack.hpp"

namespace tk::uv::flat {
namespace {

// The first place of a row at which the chart is free, or -1.
int free_in_row(const PlaceTask& t, int64_t chart, int quarters, int wide, int high, int y, int step) {
    for (int x = 0; x < t.grid; x += 32) {
        const int room = t.grid - wide - x;
        uint32_t mask = room >= 31 ? 0u : room < 0 ? 0xffffffffu : 0xfffffffeu << room;
        for (int done = 0, row = 0; done < high && mask != 0xffffffffu; ++done) {
            int begin, end;
            turned_span(t, chart, quarters, row, begin, end);
            mask |= blocked(t.taken + int64_t{y + row} * t.words, t.words, x + begin, end - begin);
            row += row + step < high ? step : step - high;
        }
        if (mask != 0xffffffffu) return x + lowest_bit(~mask);
    }
    return -1;
}

bool place_all(const PlaceTask& t) {
    std::fill_n(t.taken, int64_t{t.grid} * t.words, 0u);
    std::vector<int> start(size_levels * size_levels, 0);
    for (int64_t i = 0; i < t.charts; ++i) {
        const int64_t c = t.order[i];
        const int w = t.size[2 * c], h = t.size[2 * c + 1];
        int from[2] = {i < careful ? 0 : start[size_class(w, h)], i < careful ? 0 : start[size_class(h, w)]};
        uint32_t best = no_place;
        for (int quarters = 0; quarters < turns; ++quarters) {
            const int wide = quarters % 2 ? h : w, high = quarters % 2 ? w : h, step = stride_through(high);
            for (int y = from[quarters % 2];; ++y) {
                const int top = best == no_place ? t.grid + 1 : static_cast<int>(best >> 13) / turns;
                if (y + high >= top) break;
                const int x = free_in_row(t, c, quarters, wide, high, y, step);
                if (x < 0) continue;
                best = std::min(best, place_key(y + high, quarters, x));
                break;
            }
        }
        if (best == no_place) return false;
        const int top = static_cast<int>(best >> 13) / turns, turn = static_cast<int>(best >> 13) % turns, x = static_cast<int>(best & 8191);
        const int rows = turn % 2 ? w : h, y = top - rows;
        for (int row = 0; row < rows; ++row) {
            int begin, end;
            turned_span(t, c, turn, row, begin, end);
            for (int cell = x + begin; cell < x + end; ++cell) t.taken[int64_t{y + row} * t.words + cell / 32] |= 1u << cell % 32;
        }
        t.place[3 * c] = x;
        t.place[3 * c + 1] = y;
        t.place[3 * c + 2] = turn;
        int &upright = start[size_class(w, h)], &sideways = start[size_class(h, w)];
        upright = std::max(upright, top - h);
        sideways = std::max(sideways, top - w);
    }
    return true;
}

}  // namespace
}  // namespace tk::uv::flat

TK_API int tk_mesh_flat_place(const int32_t* size, const int64_t* offset, const int32_t* low, const int32_t* high, const int32_t* order,
                              const uint8_t* fits, int64_t num_charts, int64_t num_scales, int64_t num_orders, int grid, uint32_t* taken, int32_t* place,
                              int32_t* found, int, void*) {
    using namespace tk::uv::flat;
    return tk::guarded([&] {
        tk::parallel_for(num_scales * num_orders, 1, [&](int64_t attempt) {
            const int64_t scale = attempt / num_orders;
            PlaceTask t{grid, grid / 32, num_charts, size + 2 * scale * num_charts, offset + scale * num_charts, low, high,
                        order + attempt % num_orders * num_charts, taken + attempt * grid * (grid / 32), place + 3 * attempt * num_charts};
            found[attempt] = fits[scale] && place_all(t);
        });
    });
}
