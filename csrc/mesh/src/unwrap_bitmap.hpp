// Bitmaps for packing: the cells that a chart needs, and the cells that are taken.
#pragma once

#include <cstdint>
#include <vector>

#include "unwrap_chart.hpp"

namespace tk::uv {

// A row's stretch of needed cells.
struct Run {
    int32_t y, x, length;
};

// The cells of a chart as runs, widest first: the widest fails first where the chart does not fit.
struct Footprint {
    int32_t width = 0, height = 0;
    int64_t cells = 0;
    std::vector<Run> runs;
};

// Cells within `margin` (in cells, along either axis) of the chart's faces, when its layout, whose lowest
// corner is the origin, is drawn at `scale` cells a unit and moved by the margin. Empty runs when the chart is
// wider or higher than `limit` cells.
Footprint footprint(const Chart& chart, double scale, double margin, int32_t limit);

// The footprint turned by `quarters` counterclockwise quarter turns.
Footprint turned(const Footprint& footprint, int quarters);

class Occupancy {
public:
    Occupancy(int32_t size, int32_t rows);
    int64_t free_cells() const { return free_; }

    // First place, by rows from (x, y) upwards, where the footprint's cells are all free and its top is not
    // above `top`. False when there is none.
    bool find(const Footprint& footprint, int32_t top, int32_t& x, int32_t& y) const;
    void take(const Footprint& footprint, int32_t x, int32_t y);

private:
    int32_t first_taken(int32_t y, int32_t begin, int32_t end) const;  // end when none
    int32_t first_free(int32_t y, int32_t begin) const;                // size when none
    void measure_gap(int32_t y);

    int32_t size_, rows_;
    int64_t words_, free_;
    std::vector<uint64_t> taken_;
    std::vector<int32_t> widest_gap_;  // of each row
};

}  // namespace tk::uv
