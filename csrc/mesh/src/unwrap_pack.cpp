// Charts are placed largest first, each in four quarter turns, at the lowest place of a bitmap where its own
// cells are free (so that charts nest into each other's hollows), and the largest common scale at which all
// fit is searched for. After Levy, Petitjean, Ray and Maillot, "Least Squares Conformal Maps for Automatic
// Texture Atlas Generation" (2002), section 4, with a full bitmap in place of their horizon.
#include "unwrap_pack.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "unwrap_bitmap.hpp"

namespace tk::uv {
namespace {

struct Place {
    int32_t x = 0, y = 0;
    int quarters = 0;
    int32_t width = 0, height = 0;  // of the footprint before it was turned
};

// Charts of like size: a place for one is looked for where the last one was found.
int size_class(int32_t width, int32_t height) {
    auto level = [](int32_t n) { return static_cast<int>(std::ceil(2 * std::log2(static_cast<double>(n)))); };
    return level(width) * 64 + level(height);
}

// Packs at a scale into a strip of so many rows. Returns the rows used, or 0 when the charts do not fit.
int32_t pack_at(const std::vector<Chart>& charts, const std::vector<int32_t>& order, int32_t grid, int32_t rows, double scale, double margin, std::vector<Place>& places) {
    constexpr int64_t careful = 256;  // the largest charts look for a place from the bottom
    Occupancy occupancy(grid, rows);
    places.assign(charts.size(), Place{});
    std::map<int, std::pair<int32_t, int32_t>> start;  // x, y
    int32_t used = 0;
    for (size_t i = 0; i < order.size(); ++i) {
        const Footprint upright = footprint(charts[order[i]], scale, margin, grid);
        if (upright.runs.empty() || upright.cells > occupancy.free_cells()) return 0;
        Place best;
        Footprint best_shape;
        int32_t top = rows + 1;
        const bool tiny = upright.width <= 3 && upright.height <= 3;
        for (int quarters = 0; quarters < (tiny ? 1 : 4); ++quarters) {
            Footprint shape = turned(upright, quarters);
            // Where the last chart of like size found a place, or found none before.
            auto& from = start[size_class(shape.width, shape.height)];
            int32_t x = static_cast<int64_t>(i) < careful ? 0 : from.first, y = static_cast<int64_t>(i) < careful ? 0 : from.second;
            if (!occupancy.find(shape, top - 1, x, y)) {
                if (top - shape.height > from.second) from = {0, std::max(0, top - shape.height)};
                continue;
            }
            from = {x, y};
            top = y + shape.height;
            best = {x, y, quarters, upright.width, upright.height};
            best_shape = std::move(shape);
        }
        if (top > rows) return 0;
        occupancy.take(best_shape, best.x, best.y);
        places[order[i]] = best;
        used = std::max(used, top);
    }
    return used;
}

// Charts by falling size; further variants go by area, and then by sizes shaken a little, always the same way.
std::vector<int32_t> placing_order(const std::vector<Chart>& charts, const std::vector<double>& extent, int variant) {
    const int64_t n = static_cast<int64_t>(charts.size());
    std::vector<int32_t> order(n);
    std::vector<double> key(n);
    uint64_t state = 0x9e3779b97f4a7c15ULL * static_cast<uint64_t>(variant + 1);
    for (int64_t i = 0; i < n; ++i) {
        order[i] = static_cast<int32_t>(i);
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;  // Knuth's MMIX generator
        const double shake = variant < 2 ? 1 : 0.75 + 0.5 * static_cast<double>(state >> 40) / (1 << 24);
        key[i] = (variant == 1 ? charts[i].area : extent[i]) * shake;
    }
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return key[a] > key[b]; });
    return order;
}

}  // namespace

// The least box has a side on an edge of the convex hull: Freeman and Shapira (1975).
void align(Chart& chart) {
    std::vector<Vec2d> p = chart.uv;
    std::sort(p.begin(), p.end(), [](const Vec2d& a, const Vec2d& b) { return a.x < b.x || (a.x == b.x && a.y < b.y); });
    p.erase(std::unique(p.begin(), p.end(), [](const Vec2d& a, const Vec2d& b) { return a.x == b.x && a.y == b.y; }), p.end());
    std::vector<Vec2d> hull;
    for (int pass = 0; pass < 2; ++pass) {
        const size_t base = hull.size();
        for (const Vec2d& q : p) {
            while (hull.size() >= base + 2 && cross(hull.back() - hull[hull.size() - 2], q - hull.back()) <= 0) hull.pop_back();
            hull.push_back(q);
        }
        hull.pop_back();
        std::reverse(p.begin(), p.end());
    }
    if (hull.empty()) hull.push_back(p[0]);
    Vec2d axis{1, 0};
    double least = INFINITY;
    // A hull of very many edges is nearly smooth: some of its directions are enough.
    const size_t stride = std::max<size_t>(1, hull.size() / 128);
    for (size_t i = 0; i < hull.size(); i += stride) {
        const Vec2d d = hull[(i + 1) % hull.size()] - hull[i];
        const double l = std::sqrt(dot(d, d));
        if (!(l > 0)) continue;
        const Vec2d u = d * (1 / l);
        double low_x = INFINITY, high_x = -INFINITY, high_y = 0;
        for (const Vec2d& q : hull) {
            const double x = dot(u, q), y = cross(u, q - hull[i]);
            low_x = std::min(low_x, x);
            high_x = std::max(high_x, x);
            high_y = std::max(high_y, y);
        }
        const double area = (high_x - low_x) * high_y;
        if (area < least) {
            least = area;
            axis = u;
        }
    }
    Vec2d low{INFINITY, INFINITY};
    for (Vec2d& q : chart.uv) {
        q = {dot(axis, q), cross(axis, q)};
        low = {std::min(low.x, q.x), std::min(low.y, q.y)};
    }
    for (Vec2d& q : chart.uv) q = q - low;
}

void pack_charts(std::vector<Chart>& charts, const PackOptions& options) {
    const int64_t n = static_cast<int64_t>(charts.size());
    if (n == 0) return;
    parallel_for(n, 4, [&](int64_t i) { align(charts[i]); });
    double area = 0, perimeter = 0;
    std::vector<double> extent(n);
    double largest = 0;
    for (int64_t i = 0; i < n; ++i) {
        Vec2d size{0, 0};
        for (const Vec2d& p : charts[i].uv) size = {std::max(size.x, p.x), std::max(size.y, p.y)};
        extent[i] = size.x + size.y;
        largest = std::max(largest, extent[i]);
        area += charts[i].area;
        perimeter += charts[i].perimeter;
    }
    const int32_t grid = static_cast<int32_t>(std::clamp(24 * std::sqrt(static_cast<double>(n)), 512.0, 4096.0));
    const double margin = 0.5 * options.padding * grid / options.resolution;
    const double cells = static_cast<double>(grid) * grid;
    const double padding_alone = n * (2 * margin) * (2 * margin);
    require(padding_alone < cells && 2 * margin < grid,
            format("padding: %lld charts with %g texels between them do not fit a texture of %d x %d; raise the resolution or lower the padding",
                   static_cast<long long>(n), options.padding, options.resolution, options.resolution));

    // No scale beyond this fits: the cells of the charts with their margins would be more than there are.
    const double half = 0.5 * perimeter * margin;
    const double most = area > 0 ? (-half + std::sqrt(half * half + area * (cells - padding_alone))) / area : INFINITY;
    double ceiling = std::min(most, largest > 0 ? 1.5 * grid / (0.5 * largest) : static_cast<double>(grid));
    constexpr int tries = 4;  // at once, whatever the number of threads
    std::vector<int32_t> order = placing_order(charts, extent, 0);
    std::vector<Place> places;
    double fits = 0, fails = ceiling;
    auto attempt = [&](const std::vector<double>& scales) {  // descending; keeps the largest that fits
        std::vector<std::vector<Place>> found(scales.size());
        std::vector<uint8_t> good(scales.size(), 0);
        parallel_for(static_cast<int64_t>(scales.size()), 1, [&](int64_t i) { good[i] = pack_at(charts, order, grid, grid, scales[i], margin, found[i]) > 0; });
        for (size_t i = 0; i < scales.size(); ++i) {
            if (good[i]) {
                fits = scales[i];
                places.swap(found[i]);
                return true;
            }
            fails = scales[i];
        }
        return false;
    };
    if (n == 1) {  // as large as it goes; the first of the scales below fits, but for rounding
        double longest = 0;
        for (const Vec2d& p : charts[0].uv) longest = std::max({longest, p.x, p.y});
        ceiling = longest > 0 ? (grid - 2 * margin) / longest : grid;
    }
    // A strip of the texture's width, as high as it takes, tells at which scale it will be a square.
    double top = n == 1 ? (1 - 1e-9) * ceiling : 0.96 * ceiling;
    if (n > 64) {
        const double guess = 0.8 * ceiling;
        const int32_t rows = pack_at(charts, order, grid, 2 * grid, guess, margin, places);
        if (rows > 0) top = std::min(top, 1.02 * guess * std::sqrt(static_cast<double>(grid) / rows));
    }
    for (double ratio = n > 64 ? 0.985 : 0.965;; ratio *= ratio) {
        std::vector<double> scales;
        for (int i = 0; i < tries; ++i, top *= ratio) scales.push_back(top);
        if (attempt(scales)) break;
        require(top * largest > 1e-3,
                format("padding: %lld charts with %g texels between them do not fit a texture of %d x %d; raise the resolution or lower the padding",
                       static_cast<long long>(n), options.padding, options.resolution, options.resolution));
    }
    if (n > 1)
        for (int round = 0; round < 2 && fails > 1.006 * fits && n <= 2000; ++round) {
            std::vector<double> scales;
            for (int i = tries; i > 0; --i) scales.push_back(fits + (fails - fits) * i / (tries + 1));
            attempt(scales);
        }
    // Few charts pack by luck: other orders are tried as long as they cost little.
    const int variants = n < 3 ? 0 : n <= 100 ? 12 : n <= 400 ? 6 : n <= 2000 ? 2 : 0;
    for (int variant = 1; variant <= variants; ++variant) {
        order = placing_order(charts, extent, variant);
        attempt({1.04 * fits, 1.025 * fits, 1.015 * fits, 1.005 * fits});
    }
    parallel_for(n, 64, [&](int64_t i) {
        const Place& place = places[i];
        const double w = place.width, h = place.height;
        for (Vec2d& p : charts[i].uv) {
            const Vec2d q = p * fits + Vec2d{margin, margin};
            const Vec2d r = place.quarters == 0 ? q : place.quarters == 1 ? Vec2d{h - q.y, q.x} : place.quarters == 2 ? Vec2d{w - q.x, h - q.y} : Vec2d{q.y, w - q.x};
            p = {(r.x + place.x) / grid, (r.y + place.y) / grid};
        }
    });
}

}  // namespace tk::uv
