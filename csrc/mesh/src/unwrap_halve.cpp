#include "unwrap_halve.hpp"

#include <algorithm>
#include <cmath>

#include "trellis/error.hpp"
#include "unwrap_parameterise.hpp"

namespace tk::uv {
namespace {

// As python/trellis_mesh/_flat.py and _flat_halve.py have them.
constexpr size_t few = 64;             // more charts find their places whatever their shapes
constexpr double well_filled = 0.75;   // of the texture
constexpr double better = 1.04;        // times as much filled, to be worth its seams
constexpr double good_filling = 0.75;  // a chart is large beside the square that all would have then
struct Large {
    double area, side;  // of that square and of its side: that of a chart's box, and its longer side
};
constexpr Large large[] = {{1.0 / 3, 0.75}, {1.0 / 5, 0.6}, {1.0 / 8, 0.5}};

double area_in_texture(const std::vector<Chart>& charts) {
    double sum = 0;
    for (const Chart& chart : charts)
        for (int64_t f = 0; f < chart.size(); ++f) {
            const Vec2d &a = chart.uv[chart.corner[3 * f]], &b = chart.uv[chart.corner[3 * f + 1]], &c = chart.uv[chart.corner[3 * f + 2]];
            sum += 0.5 * cross(b - a, c - a);
        }
    return sum;
}

// Parts cut off by a cut that goes along the edges of long faces would each become a chart: small ones change sides.
void give_up_splinters(const Surface& s, const Chart& chart, std::vector<uint8_t>& beyond) {
    constexpr double small = 1.0 / 16;  // of the chart
    constexpr int rounds = 3;           // one side's splinters may leave others of the other side behind
    std::vector<int32_t> part, stack;
    std::vector<double> area;
    for (int round = 0; round < rounds; ++round) {
        part.assign(chart.size(), -1);
        area.clear();
        for (int64_t seed = 0; seed < chart.size(); ++seed) {
            if (part[seed] >= 0) continue;
            part[seed] = static_cast<int32_t>(area.size());
            area.push_back(0);
            stack.assign(1, static_cast<int32_t>(seed));
            while (!stack.empty()) {
                const int64_t f = stack.back();
                stack.pop_back();
                area.back() += s.area[chart.faces[f]];
                for (int64_t h = 3 * f; h < 3 * f + 3; ++h) {
                    const int32_t g = chart.twin[h] < 0 ? -1 : chart.twin[h] / 3;
                    if (g < 0 || part[g] >= 0 || beyond[g] != beyond[f]) continue;
                    part[g] = part[f];
                    stack.push_back(g);
                }
            }
        }
        bool changed = false;
        for (int64_t f = 0; f < chart.size(); ++f)
            if (area[part[f]] < small * chart.area) {
                beyond[f] = !beyond[f];
                changed = true;
            }
        if (!changed) return;
    }
}

// Charts must be aligned; so are the halves.
std::vector<Chart> halved(const Surface& s, const std::vector<Chart>& charts, const Large& limit) {
    double total = 0;
    for (const Chart& chart : charts) total += chart.area;
    const double square = total / good_filling;
    std::vector<Chart> result;
    std::vector<uint8_t> beyond;
    for (const Chart& chart : charts) {
        Vec2d box{0, 0};
        for (const Vec2d& p : chart.uv) box = {std::max(box.x, p.x), std::max(box.y, p.y)};
        const double side = std::max(box.x, box.y);
        if (box.x * box.y <= limit.area * square && side <= limit.side * std::sqrt(square)) {
            result.push_back(chart);
            continue;
        }
        beyond.assign(chart.size(), 0);
        for (int64_t f = 0; f < chart.size(); ++f) {
            double along = 0;
            for (int k = 0; k < 3; ++k) along += box.x > box.y ? chart.uv[chart.corner[3 * f + k]].x : chart.uv[chart.corner[3 * f + k]].y;
            beyond[f] = along / 3 > 0.5 * side;
        }
        give_up_splinters(s, chart, beyond);
        for (Chart& part : divide_chart(s, chart, beyond, {true, true})) {
            restore_area(s, part, part.uv);  // the density of a layout varies a little from one end to the other
            align(part);
            result.push_back(std::move(part));
        }
    }
    std::sort(result.begin(), result.end(), [](const Chart& a, const Chart& b) { return a.faces[0] < b.faces[0]; });
    return result;
}

}  // namespace

void pack_well(const Surface& s, std::vector<Chart>& charts, const PackOptions& options) {
    if (charts.empty() || charts.size() > few) return pack_charts(charts, options);
    for (Chart& chart : charts) align(chart);
    std::vector<Chart> whole = charts;
    pack_charts(charts, options);
    double filled = area_in_texture(charts);
    for (const Large& limit : large) {
        if (whole.size() > few || filled >= well_filled) return;
        std::vector<Chart> parts = halved(s, whole, limit);
        if (parts.size() == whole.size()) continue;
        whole = parts;
        try {
            pack_charts(parts, options);
        } catch (const Error&) {  // no room for the margins of so many
            return;
        }
        const double more = area_in_texture(parts);
        if (more > better * filled) {
            filled = more;
            charts.swap(parts);
        }
    }
}

}  // namespace tk::uv
