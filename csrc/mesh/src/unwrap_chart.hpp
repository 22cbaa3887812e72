// One chart: faces of the surface with a topology and texture coordinates of their own.
#pragma once

#include <cstdint>
#include <vector>

#include "unwrap_surface.hpp"
#include "unwrap_tree.hpp"

namespace tk::uv {

struct Chart {
    std::vector<int32_t> faces;   // ascending
    std::vector<int32_t> twin;    // [3n] glued half-edge by the chart's own numbering, -1 at its border
    std::vector<int32_t> corner;  // [3n] chart vertex of each corner
    std::vector<int32_t> point;   // [vertices] the surface's point of each chart vertex
    std::vector<Vec2d> uv;        // [vertices] same unit of length as the surface's positions
    double area = 0;              // on the surface
    double perimeter = 0;         // on the surface

    int64_t size() const { return static_cast<int64_t>(faces.size()); }
    int64_t vertices() const { return static_cast<int64_t>(point.size()); }
};

// The chart that each face of the surface is in, and its number in that chart's list. Set for all charts
// before any of them is built, since building one reads the labels of its neighbours.
struct Membership {
    std::vector<int32_t> label, local;
    void assign(const std::vector<int32_t>& faces, int32_t chart) {
        for (size_t i = 0; i < faces.size(); ++i) {
            label[faces[i]] = chart;
            local[faces[i]] = static_cast<int32_t>(i);
        }
    }
};

// Builds topology (twin, corner, point) of the chart with `faces`, all labelled `id`. It may have holes and
// handles, or be closed.
Chart build_chart(const Surface& surface, const Membership& membership, std::vector<int32_t> faces, int32_t id);

// Cuts a chart with holes or handles open to a disk; false when it cannot be one (a sphere). Its vertices
// are numbered anew and its layout is dropped.
bool cut_to_disk(const Surface& surface, Chart& chart);

// The connected parts of the faces whose `part` is the same, one chart for each, with their layout where
// `keep_layout[part]`.
std::vector<Chart> divide_chart(const Surface& surface, const Chart& chart, const std::vector<uint8_t>& part, const bool (&keep_layout)[2]);

// Charts whose layouts fit together as one: glued where two of them have an edge in one place, and nowhere
// glued within where they were not before.
Chart join_charts(const Surface& surface, const std::vector<const Chart*>& charts);

// Divides a chart of at least two faces into connected parts, each a list of ascending faces.
std::vector<std::vector<int32_t>> split_chart(const Surface& surface, const Chart& chart);

}  // namespace tk::uv
