#include "unwrap_chart.hpp"

#include <algorithm>
#include <cmath>
#include <queue>

namespace tk::uv {
namespace {

int32_t root(std::vector<int32_t>& parent, int32_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

void unite(std::vector<int32_t>& parent, int32_t a, int32_t b) {
    a = root(parent, a);
    b = root(parent, b);
    if (a < b) parent[b] = a;
    else parent[a] = b;
}

// Corners around a point are one chart vertex where glued edges connect their faces.
void number_vertices(const Surface& s, Chart& chart) {
    const int32_t n = static_cast<int32_t>(3 * chart.size());
    std::vector<int32_t> parent(n);
    for (int32_t h = 0; h < n; ++h) parent[h] = h;
    for (int32_t h = 0; h < n; ++h) {
        const int32_t t = chart.twin[h];
        if (t < h) continue;
        unite(parent, h, static_cast<int32_t>(next_half_edge(t)));
        unite(parent, static_cast<int32_t>(next_half_edge(h)), t);
    }
    chart.corner.assign(n, -1);
    chart.point.clear();
    for (int32_t h = 0; h < n; ++h) {
        const int32_t r = root(parent, h);  // the smallest corner of its set, so already numbered
        if (r == h) {
            chart.corner[h] = static_cast<int32_t>(chart.point.size());
            chart.point.push_back(s.point[3 * int64_t{chart.faces[h / 3]} + h % 3]);
        } else {
            chart.corner[h] = chart.corner[r];
        }
    }
}

int64_t euler_characteristic(const Chart& chart) {
    int64_t edges = 0;
    for (size_t h = 0; h < chart.twin.size(); ++h) edges += chart.twin[h] < static_cast<int32_t>(h);  // a border counts, a pair once
    return chart.vertices() - edges + chart.size();
}

// Keeps glued what a spanning tree of the faces crosses, and then everything whose gluing only closes a dead
// end of the cut (Gu, Gortler and Hoppe, "Geometry Images", 2002).
void cut_open(Chart& chart) {
    const int64_t n = chart.size();
    std::vector<uint8_t> crossed(3 * n, 0), reached(n, 0);
    std::vector<int32_t> queue{0};
    reached[0] = 1;
    for (size_t i = 0; i < queue.size(); ++i)
        for (int64_t h = 3 * int64_t{queue[i]}; h < 3 * int64_t{queue[i]} + 3; ++h) {
            const int32_t t = chart.twin[h];
            if (t < 0 || reached[t / 3]) continue;
            reached[t / 3] = 1;
            crossed[h] = crossed[t] = 1;
            queue.push_back(t / 3);
        }
    // Degree of each vertex in the graph of borders and cuts.
    std::vector<int32_t> degree(chart.vertices(), 0), first(chart.vertices() + 1, 0);
    auto in_graph = [&](int64_t h) { return !crossed[h]; };
    auto once = [&](int64_t h) { return chart.twin[h] < h; };
    for (int64_t h = 0; h < 3 * n; ++h)
        if (once(h) && in_graph(h)) {
            ++degree[chart.corner[h]];
            ++degree[chart.corner[next_half_edge(h)]];
        }
    for (int64_t v = 0; v < chart.vertices(); ++v) first[v + 1] = first[v] + degree[v];
    std::vector<int32_t> around(first.back()), at(first.begin(), first.end() - 1);
    for (int64_t h = 0; h < 3 * n; ++h)
        if (once(h) && in_graph(h)) {
            around[at[chart.corner[h]]++] = static_cast<int32_t>(h);
            around[at[chart.corner[next_half_edge(h)]]++] = static_cast<int32_t>(h);
        }
    std::vector<int32_t> ends;
    for (int32_t v = 0; v < chart.vertices(); ++v)
        if (degree[v] == 1) ends.push_back(v);
    while (!ends.empty()) {
        const int32_t v = ends.back();
        ends.pop_back();
        for (int32_t i = first[v]; i < first[v + 1]; ++i) {
            const int32_t h = around[i];
            if (crossed[h] || chart.twin[h] < 0) continue;
            crossed[h] = crossed[chart.twin[h]] = 1;
            --degree[v];
            const int32_t w = chart.corner[h] == v ? chart.corner[next_half_edge(h)] : chart.corner[h];
            if (--degree[w] == 1) ends.push_back(w);
        }
    }
    for (int64_t h = 0; h < 3 * n; ++h)
        if (!crossed[h]) chart.twin[h] = -1;
}

bool is_disk(const Chart& chart) { return euler_characteristic(chart) == 1; }

void measure_chart(const Surface& s, Chart& chart) {
    chart.area = chart.perimeter = 0;
    for (int32_t f : chart.faces) chart.area += s.area[f];
    for (size_t h = 0; h < chart.twin.size(); ++h) {
        if (chart.twin[h] >= 0) continue;
        const int64_t global = 3 * int64_t{chart.faces[h / 3]} + static_cast<int64_t>(h % 3);
        chart.perimeter += length(s.position[s.point[next_half_edge(global)]] - s.position[s.point[global]]);
    }
}

}  // namespace

Chart build_chart(const Surface& s, const Membership& membership, std::vector<int32_t> faces, int32_t id) {
    Chart chart;
    chart.faces = std::move(faces);
    const int64_t n = chart.size();
    chart.twin.assign(3 * n, -1);
    for (int64_t h = 0; h < 3 * n; ++h) {
        const int32_t t = s.twin[3 * int64_t{chart.faces[h / 3]} + h % 3];
        if (t >= 0 && membership.label[t / 3] == id) chart.twin[h] = 3 * membership.local[t / 3] + t % 3;
    }
    number_vertices(s, chart);
    measure_chart(s, chart);
    return chart;
}

bool cut_to_disk(const Surface& s, Chart& chart) {
    if (is_disk(chart)) return true;
    cut_open(chart);
    number_vertices(s, chart);
    chart.uv.clear();
    return is_disk(chart);
}

std::vector<Chart> divide_chart(const Surface& s, const Chart& chart, const std::vector<uint8_t>& part, const bool (&keep_layout)[2]) {
    const int64_t n = chart.size();
    std::vector<int32_t> owner(n, -1), local(n, 0), stack;
    std::vector<Chart> result;
    std::vector<uint8_t> kept;
    for (int64_t seed = 0; seed < n; ++seed) {
        if (owner[seed] >= 0) continue;
        const int32_t id = static_cast<int32_t>(kept.size());
        kept.push_back(keep_layout[part[seed]]);
        owner[seed] = id;
        stack.assign(1, static_cast<int32_t>(seed));
        while (!stack.empty()) {
            const int64_t f = stack.back();
            stack.pop_back();
            for (int64_t h = 3 * f; h < 3 * f + 3; ++h) {
                const int32_t g = chart.twin[h] < 0 ? -1 : chart.twin[h] / 3;
                if (g < 0 || owner[g] >= 0 || part[g] != part[f]) continue;
                owner[g] = id;
                stack.push_back(g);
            }
        }
    }
    result.resize(kept.size());
    for (int64_t f = 0; f < n; ++f) {
        local[f] = static_cast<int32_t>(result[owner[f]].faces.size());
        result[owner[f]].faces.push_back(chart.faces[f]);
    }
    for (size_t i = 0; i < result.size(); ++i) result[i].twin.assign(3 * result[i].faces.size(), -1);
    for (int64_t h = 0; h < 3 * n; ++h) {
        const int32_t t = chart.twin[h];
        if (t >= 0 && owner[t / 3] == owner[h / 3]) result[owner[h / 3]].twin[3 * local[h / 3] + h % 3] = 3 * local[t / 3] + t % 3;
    }
    for (size_t i = 0; i < result.size(); ++i) {
        number_vertices(s, result[i]);
        measure_chart(s, result[i]);
        if (kept[i]) result[i].uv.resize(result[i].vertices());
    }
    for (int64_t h = 0; h < 3 * n; ++h) {
        Chart& to = result[owner[h / 3]];
        if (kept[owner[h / 3]]) to.uv[to.corner[3 * local[h / 3] + h % 3]] = chart.uv[chart.corner[h]];
    }
    return result;
}

Chart join_charts(const Surface& s, const std::vector<const Chart*>& charts) {
    struct Source {
        int32_t face, chart, local;
    };
    std::vector<Source> sources;
    for (size_t c = 0; c < charts.size(); ++c)
        for (int64_t f = 0; f < charts[c]->size(); ++f) sources.push_back({charts[c]->faces[f], static_cast<int32_t>(c), static_cast<int32_t>(f)});
    std::sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) { return a.face < b.face; });
    const int64_t n = static_cast<int64_t>(sources.size());
    Chart joined;
    joined.faces.resize(n);
    std::vector<std::vector<int32_t>> place(charts.size());
    for (size_t c = 0; c < charts.size(); ++c) place[c].resize(charts[c]->size());
    for (int64_t f = 0; f < n; ++f) {
        joined.faces[f] = sources[f].face;
        place[sources[f].chart][sources[f].local] = static_cast<int32_t>(f);
    }
    auto at = [&](int64_t h) -> const Vec2d& {
        const Source& from = sources[h / 3];
        return charts[from.chart]->uv[charts[from.chart]->corner[3 * int64_t{from.local} + h % 3]];
    };
    auto same = [](const Vec2d& a, const Vec2d& b) { return a.x == b.x && a.y == b.y; };
    joined.twin.assign(3 * n, -1);
    for (int64_t h = 0; h < 3 * n; ++h) {
        const Source& from = sources[h / 3];
        const int32_t own = charts[from.chart]->twin[3 * int64_t{from.local} + h % 3];
        if (own >= 0) {
            joined.twin[h] = 3 * place[from.chart][own / 3] + own % 3;
            continue;
        }
        const int32_t t = s.twin[3 * int64_t{from.face} + h % 3];
        if (t < 0) continue;
        const auto other = std::lower_bound(sources.begin(), sources.end(), t / 3, [](const Source& a, int32_t face) { return a.face < face; });
        if (other == sources.end() || other->face != t / 3 || other->chart == from.chart) continue;
        const int64_t back = 3 * (other - sources.begin()) + t % 3;
        if (same(at(h), at(next_half_edge(back))) && same(at(next_half_edge(h)), at(back))) joined.twin[h] = static_cast<int32_t>(back);
    }
    number_vertices(s, joined);
    measure_chart(s, joined);
    joined.uv.resize(joined.vertices());
    for (int64_t h = 0; h < 3 * n; ++h) joined.uv[joined.corner[h]] = at(h);
    return joined;
}

std::vector<std::vector<int32_t>> split_chart(const Surface& s, const Chart& chart) {
    const int64_t n = chart.size();
    std::vector<Vec3d> centre(n);
    for (int64_t f = 0; f < n; ++f) {
        const int32_t* p = &s.point[3 * int64_t{chart.faces[f]}];
        centre[f] = (s.position[p[0]] + s.position[p[1]] + s.position[p[2]]) * (1.0 / 3);
    }
    // Distances over the surface, longer where it bends: the parts meet along creases.
    std::vector<double> distance;
    std::vector<int32_t> owner;
    auto spread = [&](const std::vector<int32_t>& seeds) {
        using Item = std::pair<double, int32_t>;
        std::priority_queue<Item, std::vector<Item>, std::greater<Item>> queue;
        distance.assign(n, INFINITY);
        owner.assign(n, -1);
        for (size_t i = 0; i < seeds.size(); ++i) {
            distance[seeds[i]] = 0;
            owner[seeds[i]] = static_cast<int32_t>(i);
            queue.push({0.0, seeds[i]});
        }
        int32_t last = seeds[0];
        while (!queue.empty()) {
            const auto [d, f] = queue.top();
            queue.pop();
            if (d > distance[f]) continue;
            last = f;
            for (int64_t h = 3 * int64_t{f}; h < 3 * int64_t{f} + 3; ++h) {
                if (chart.twin[h] < 0) continue;
                const int32_t g = chart.twin[h] / 3;
                const double bend = 1 - dot(s.normal[chart.faces[f]], s.normal[chart.faces[g]]);
                const double there = d + length(centre[g] - centre[f]) * (1 + 4 * bend) + 1e-12;
                if (there < distance[g]) {
                    distance[g] = there;
                    owner[g] = owner[f];
                    queue.push({there, g});
                }
            }
        }
        return last;
    };
    const int32_t one = spread({0});
    const int32_t other = spread({one});
    spread({one, other});
    std::vector<std::vector<int32_t>> parts(2);
    for (int64_t f = 0; f < n; ++f) parts[owner[f]].push_back(chart.faces[f]);
    return parts;
}

}  // namespace tk::uv
