#include "tiles.hpp"

#include <cmath>
#include <type_traits>

#include "crossings.hpp"
#include "overlap.hpp"
#include "trellis/error.hpp"
#include "trellis/sort.hpp"

namespace tk::voxel {
namespace {

struct TileRange {
    uint16_t low[3], high[3];  // inclusive; low[0] > high[0] when empty
};

int64_t volume(const TileRange& r) {
    if (r.low[0] > r.high[0]) return 0;
    return int64_t{r.high[0] - r.low[0] + 1} * (r.high[1] - r.low[1] + 1) * (r.high[2] - r.low[2] + 1);
}

// The voxels around the triangle's crossings; adds the number of those to `crossings`.
CellBox crossed_cells(const Triangle& t, const Lattice& lattice, int64_t& crossings) {
    CellBox box = CellBox::nothing();
    auto along = [&](auto axis) {
        constexpr int W = decltype(axis)::value;
        cross_lattice_lines<W>(t, lattice, lattice.all(), [&](const Crossing& c) {
            ++crossings;
            CellBox around{c.i, {c.i.x + 2, c.i.y + 2, c.i.z + 2}};
            --around.high[W];
            box.add(around);
        });
    };
    along(std::integral_constant<int, 0>{});
    along(std::integral_constant<int, 1>{});
    along(std::integral_constant<int, 2>{});
    return box;
}

// Calls visit(tile) for the tiles of `range` that the triangle's plane, give or take a voxel, runs through.
template <class Visit>
void for_each_tile(const TileRange& range, const Triangle& t, const Lattice& lattice, Visit&& visit) {
    const int64_t tiles = volume(range);
    if (tiles == 0) return;
    const Vec3d a = static_cast<Vec3d>(t.v[0]), b = static_cast<Vec3d>(t.v[1]), c = static_cast<Vec3d>(t.v[2]);
    const Vec3d n = normalized(cross(b - a, c - b));
    int w = 0;
    for (int k = 1; k < 3; ++k)
        if (std::abs(n[k]) * lattice.cell[k] > std::abs(n[w]) * lattice.cell[w]) w = k;
    const bool whole = tiles <= 4 || !(std::abs(n[w]) > 0);
    const int u = (w + 1) % 3, v = (w + 2) % 3;
    const double height = dot(n, a);
    Vec3i tile;
    for (tile[u] = range.low[u]; tile[u] <= range.high[u]; ++tile[u])
        for (tile[v] = range.low[v]; tile[v] <= range.high[v]; ++tile[v]) {
            int first = range.low[w], last = range.high[w];
            if (!whole) {
                double low = height, high = height;
                for (const int k : {u, v}) {
                    const double p = n[k] * lattice.cell[k] * (tile[k] * tile_edge - 1);
                    const double q = n[k] * lattice.cell[k] * (tile[k] * tile_edge + tile_edge + 1);
                    low -= std::max(p, q);
                    high -= std::min(p, q);
                }
                low /= n[w] * lattice.cell[w];
                high /= n[w] * lattice.cell[w];
                if (low > high) std::swap(low, high);
                first = static_cast<int>(std::clamp(std::floor((low - 1) / tile_edge), double(first), double(last) + 1));
                last = static_cast<int>(std::clamp(std::floor((high + 1) / tile_edge), double(first) - 1, double(last)));
            }
            for (tile[w] = first; tile[w] <= last; ++tile[w]) visit(tile);
        }
}

}  // namespace

TileLists list_triangles(const Mesh& mesh, const Lattice& lattice, const Tiling& tiling, bool with_overlaps) {
    constexpr int64_t grain = 1 << 10;
    const int64_t n = mesh.face_count;
    std::vector<TileRange> ranges(static_cast<size_t>(n));
    std::vector<int64_t> begins(static_cast<size_t>(n));
    std::vector<int64_t> crossings(static_cast<size_t>(chunk_count(n, grain)));
    parallel_chunks(n, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        for (int64_t f = begin; f < end; ++f) {
            const Triangle t = mesh.triangle(f);
            CellBox box = crossed_cells(t, lattice, crossings[static_cast<size_t>(chunk)]);
            if (with_overlaps) {
                const CellBox bounds = bounding_cells(t, lattice);
                if (!bounds.empty()) box.add(bounds);
            }
            TileRange& range = ranges[static_cast<size_t>(f)];
            range = {{1, 0, 0}, {0, 0, 0}};
            if (!box.empty())
                for (int k = 0; k < 3; ++k) {
                    range.low[k] = static_cast<uint16_t>(box.low[k] / tile_edge);
                    range.high[k] = static_cast<uint16_t>((box.high[k] - 1) / tile_edge);
                }
            int64_t count = 0;
            for_each_tile(range, t, lattice, [&](const Vec3i&) { ++count; });
            begins[static_cast<size_t>(f)] = count;
        }
    });
    int64_t total_crossings = 0;
    for (const int64_t c : crossings) total_crossings += c;
    require(total_crossings < INT32_MAX,
            format("grid_size: the surface crosses %lld lattice lines of this grid, expected fewer than 2^31",
                   static_cast<long long>(total_crossings)));

    TileLists lists;
    const int64_t total = exclusive_scan(begins.data(), n);
    std::vector<uint64_t> keys(static_cast<size_t>(total));
    lists.triangles.resize(static_cast<size_t>(total));
    parallel_for(n, grain, [&](int64_t f) {
        size_t at = static_cast<size_t>(begins[static_cast<size_t>(f)]);
        for_each_tile(ranges[static_cast<size_t>(f)], mesh.triangle(f), lattice, [&](const Vec3i& tile) {
            keys[at] = tiling.key(tile);
            lists.triangles[at++] = static_cast<uint32_t>(f);
        });
    });
    stable_sort_by_key(keys, lists.triangles);
    lists.begins = run_starts(keys);
    for (size_t t = 0; t + 1 < lists.begins.size(); ++t) lists.keys.push_back(keys[static_cast<size_t>(lists.begins[t])]);
    return lists;
}

}  // namespace tk::voxel
