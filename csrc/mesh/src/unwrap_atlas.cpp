#include "unwrap_atlas.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"
#include "unwrap_halve.hpp"

namespace tk::uv {
namespace {

// Texture coordinates lie on this grid: exact in float32 over the whole of [0, 1].
constexpr double uv_grid = 1 << 24;

float snapped(double x) { return static_cast<float>(std::clamp(std::round(x * uv_grid), 0.0, uv_grid) / uv_grid); }

struct NewVertex {
    int32_t vertex;
    float u, v;
    bool operator<(const NewVertex& o) const { return std::tie(vertex, u, v) < std::tie(o.vertex, o.u, o.v); }
    bool operator==(const NewVertex& o) const { return std::tie(vertex, u, v) == std::tie(o.vertex, o.u, o.v); }
};

// Corners of one chart that have one vertex and one place share a new vertex.
std::vector<NewVertex> new_vertices(const Chart& chart, const int32_t* faces, std::vector<NewVertex>& of_corner) {
    of_corner.resize(3 * chart.size());
    for (int64_t h = 0; h < 3 * chart.size(); ++h) {
        const Vec2d& p = chart.uv[chart.corner[h]];
        of_corner[h] = {faces[3 * int64_t{chart.faces[h / 3]} + h % 3], snapped(p.x), snapped(p.y)};
    }
    std::vector<NewVertex> unique = of_corner;
    std::sort(unique.begin(), unique.end());
    unique.erase(std::unique(unique.begin(), unique.end()), unique.end());
    return unique;
}

// Collapsed faces get no texels: all their corners go to one place, inside the chart of a face that they
// touch where there is one.
void place_collapsed(const Surface& s, const int32_t* faces, Atlas& atlas) {
    std::vector<int32_t> home(s.num_points, -1), home_chart(s.num_points, -1);
    for (int64_t h = 0; h < 3 * s.num_faces; ++h)
        if (s.kind[h / 3] != collapsed && home[s.point[h]] < 0) {
            home[s.point[h]] = atlas.faces[h];
            home_chart[s.point[h]] = atlas.face_chart[h / 3];
        }
    std::vector<std::pair<int32_t, int32_t>> known;  // vertex given, new vertex
    for (int64_t f = 0; f < s.num_faces; ++f) {
        if (s.kind[f] != collapsed) continue;
        int32_t at = -1, chart = atlas.num_charts > 0 ? 0 : -1;
        for (int k = 2; k >= 0; --k)
            if (home[s.point[3 * f + k]] >= 0) {
                at = home[s.point[3 * f + k]];
                chart = home_chart[s.point[3 * f + k]];
            }
        if (at < 0 && !atlas.vertex_map.empty()) at = 0;
        const float u = at >= 0 ? atlas.uv[2 * int64_t{at}] : 0.5f, v = at >= 0 ? atlas.uv[2 * int64_t{at} + 1] : 0.5f;
        atlas.face_chart[f] = chart;
        known.clear();
        if (at >= 0) known.push_back({atlas.vertex_map[at], at});
        for (int k = 0; k < 3; ++k) {
            const int32_t vertex = faces[3 * f + k];
            auto same = std::find_if(known.begin(), known.end(), [&](const auto& pair) { return pair.first == vertex; });
            if (same == known.end()) {
                known.push_back({vertex, static_cast<int32_t>(atlas.vertex_map.size())});
                same = known.end() - 1;
                atlas.vertex_map.push_back(vertex);
                atlas.uv.push_back(u);
                atlas.uv.push_back(v);
            }
            atlas.faces[3 * f + k] = same->second;
        }
    }
}

}  // namespace

std::vector<Chart> make_charts(const Surface& s, const AtlasOptions& options) {
    Membership membership{{}, std::vector<int32_t>(s.num_faces, 0)};
    const int64_t clusters = cluster_faces(s, options.cluster, membership.label);
    std::vector<std::vector<int32_t>> work(clusters);
    for (int64_t f = 0; f < s.num_faces; ++f)
        if (membership.label[f] >= 0) work[membership.label[f]].push_back(static_cast<int32_t>(f));

    std::vector<Chart> done;
    int32_t next_id = 0;
    while (!work.empty()) {
        // Large charts first, so that no thread is left with one at the end.
        std::stable_sort(work.begin(), work.end(), [](const auto& a, const auto& b) { return a.size() > b.size(); });
        const int64_t n = static_cast<int64_t>(work.size());
        const int32_t base = next_id;
        require(n < INT32_MAX - base, "the mesh has too many charts");
        next_id += static_cast<int32_t>(n);
        for (int64_t i = 0; i < n; ++i) membership.assign(work[i], base + static_cast<int32_t>(i));
        std::vector<std::vector<Chart>> finished(n);
        std::vector<std::vector<std::vector<int32_t>>> parts(n);
        parallel_for(n, 1, [&](int64_t i) {
            Chart chart = build_chart(s, membership, std::move(work[i]), base + static_cast<int32_t>(i));
            std::vector<uint8_t> rejected;
            const Layout layout = lay_out(s, chart, options.layout, rejected);
            if (layout == Layout::whole) {
                finished[i].push_back(std::move(chart));
            } else if (layout == Layout::partial) {
                for (Chart& part : divide_chart(s, chart, rejected, {true, false})) {
                    if (part.uv.empty()) parts[i].push_back(std::move(part.faces));
                    else finished[i].push_back(std::move(part));
                }
            } else {
                parts[i] = split_chart(s, chart);
            }
        });
        work.clear();
        for (int64_t i = 0; i < n; ++i) {
            for (Chart& chart : finished[i]) done.push_back(std::move(chart));
            for (auto& part : parts[i]) work.push_back(std::move(part));
        }
    }
    auto by_first_face = [](const Chart& a, const Chart& b) { return a.faces[0] < b.faces[0]; };
    std::sort(done.begin(), done.end(), by_first_face);
    for (size_t c = 0; c < done.size(); ++c) membership.assign(done[c].faces, static_cast<int32_t>(c));
    merge_charts(s, options, membership, done);
    std::sort(done.begin(), done.end(), by_first_face);
    return done;
}

Atlas unwrap(const float* vertices, int64_t num_vertices, const int32_t* faces, int64_t num_faces, const AtlasOptions& options) {
    const Surface s = make_surface(vertices, num_vertices, faces, num_faces);
    std::vector<Chart> charts = make_charts(s, options);
    // Charts that gave or took faces after they were laid out are a little off the common density.
    parallel_for(static_cast<int64_t>(charts.size()), 16, [&](int64_t c) { restore_area(s, charts[c], charts[c].uv); });
    pack_well(s, charts, options.pack);

    Atlas atlas;
    atlas.num_charts = static_cast<int64_t>(charts.size());
    atlas.faces.resize(3 * num_faces);
    atlas.face_chart.assign(num_faces, -1);
    std::vector<int64_t> first(charts.size() + 1, 0);
    struct Corners {
        std::vector<NewVertex> all, unique;
    };
    std::vector<Corners> of_chart(charts.size());
    parallel_for(atlas.num_charts, 16, [&](int64_t c) {
        of_chart[c].unique = new_vertices(charts[c], faces, of_chart[c].all);
        first[c] = static_cast<int64_t>(of_chart[c].unique.size());
    });
    const int64_t total = exclusive_scan(first.data(), static_cast<int64_t>(first.size()));
    atlas.vertex_map.resize(total);
    atlas.uv.resize(2 * total);
    parallel_for(atlas.num_charts, 16, [&](int64_t c) {
        const std::vector<NewVertex>& unique = of_chart[c].unique;
        for (size_t i = 0; i < unique.size(); ++i) {
            const int64_t to = first[c] + static_cast<int64_t>(i);
            atlas.vertex_map[to] = unique[i].vertex;
            atlas.uv[2 * to] = unique[i].u;
            atlas.uv[2 * to + 1] = unique[i].v;
        }
        for (int64_t h = 0; h < 3 * charts[c].size(); ++h) {
            const int64_t f = charts[c].faces[h / 3];
            const auto at = std::lower_bound(unique.begin(), unique.end(), of_chart[c].all[h]);
            atlas.faces[3 * f + h % 3] = static_cast<int32_t>(first[c] + (at - unique.begin()));
            atlas.face_chart[f] = static_cast<int32_t>(c);
        }
    });
    if (s.has_collapsed) place_collapsed(s, faces, atlas);
    return atlas;
}

}  // namespace tk::uv
