// Places charts in the unit square without overlap.
#pragma once

#include <vector>

#include "unwrap_chart.hpp"

namespace tk::uv {

struct PackOptions {
    int resolution = 2048;  // texels along a side of the texture that the gaps are meant for
    double padding = 2;     // texels between charts, half of it along the texture's edge
};

// Turns the layout so that its box of least area lies along the axes, its lowest corner at the origin.
void align(Chart& chart);

// Replaces chart.uv of each chart by its place in [0, 1]^2, all at one scale. Raises when the padding alone
// fills the texture.
void pack_charts(std::vector<Chart>& charts, const PackOptions& options);

}  // namespace tk::uv
