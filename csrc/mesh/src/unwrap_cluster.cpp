// Bottom-up clustering of faces by Ward's criterion on normals, in rounds of mutually best pairs.
//
// Ward's linkage is reducible: joining all mutually nearest pairs at once gives the same hierarchy as
// joining the one best pair at a time (Murtagh 1983), so the rounds are parallel without being greedy in
// another order. The measure of a chart is the L2,1 error of Cohen-Steiner, Alliez and Desbrun,
// "Variational Shape Approximation" (2004); the use of a hierarchy follows Garland, Willmott and Heckbert,
// "Hierarchical Face Clustering on Polygonal Surfaces" (2001).
#include "unwrap_cluster.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <queue>

#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"
#include "unwrap_seam.hpp"

namespace tk::uv {
namespace {

constexpr int64_t grain = 1 << 12;
constexpr double pi = 3.14159265358979323846;

struct Node {
    Vec3d normal{0, 0, 0};  // sum of area-weighted normals
    double area = 0;
    double perimeter = 0;
};

struct Edge {
    int32_t a, b;
    double length;
};

double edge_length(const Surface& s, int64_t h) { return length(s.position[s.point[next_half_edge(h)]] - s.position[s.point[h]]); }

// Normals averaged over neighbours that face a similar way: noise goes, creases stay.
std::vector<Vec3d> smooth_normals(const Surface& s, int iterations) {
    std::vector<Vec3d> now = s.normal, then(now.size());
    for (int i = 0; i < iterations; ++i) {
        parallel_for(s.num_faces, grain, [&](int64_t f) {
            Vec3d sum = now[f] * s.area[f];
            for (int64_t h = 3 * f; h < 3 * f + 3; ++h) {
                if (s.twin[h] < 0) continue;
                const int64_t g = s.twin[h] / 3;
                const double alike = std::max(0.0, dot(now[f], now[g]));
                sum += now[g] * (s.area[g] * alike * alike);
            }
            then[f] = normalized(sum);
        });
        now.swap(then);
    }
    return now;
}

double total_error(const Node& n) { return n.area > 0 ? std::max(0.0, n.area - dot(n.normal, n.normal) / n.area) : 0.0; }

Node joined(const Node& a, const Node& b, double shared) {
    return {a.normal + b.normal, a.area + b.area, std::max(0.0, a.perimeter + b.perimeter - 2 * shared)};
}

// The cost of joining, or a negative value where it is not allowed.
double join_cost(const Node& a, const Node& b, double shared, const ClusterOptions& options) {
    const Node n = joined(a, b, shared);
    // Faces too thin to have an area join whatever they share most of their border with.
    if (!(a.area > 0) || !(b.area > 0)) return 1e-20 / (1e-10 + shared);
    if (1.0 - length(n.normal) / n.area > options.max_spread) return -1;
    const double weight = a.area * b.area / n.area;
    const double growth = std::max(0.0, total_error(n) - total_error(a) - total_error(b));
    // On flat ground every join is free: there small charts go first and round shapes are preferred.
    const double roundness = std::max(1.0, n.perimeter * n.perimeter / (4 * pi * n.area));
    return (growth + 0.02 * weight) * std::sqrt(roundness);
}

uint64_t packed(double cost, int64_t index) {
    const float value = static_cast<float>(cost);  // not negative, so its bits order like the value
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<uint64_t>(bits) << 32 | static_cast<uint64_t>(index);
}

void keep_least(std::atomic<uint64_t>& slot, uint64_t value) {
    uint64_t seen = slot.load(std::memory_order_relaxed);
    while (value < seen && !slot.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {}
}

// Joins equal (a, b) into one edge with the sum of their lengths; input and output are ordered by (a, b).
void unite_edges(std::vector<Edge>& edges) {
    const int64_t n = static_cast<int64_t>(edges.size());
    std::vector<uint64_t> keys(n);
    std::vector<Edge> sorted = edges;
    parallel_for(n, grain, [&](int64_t i) { keys[i] = static_cast<uint64_t>(edges[i].a) << 32 | static_cast<uint32_t>(edges[i].b); });
    stable_sort_by_key(keys, sorted);
    edges.clear();
    for (int64_t i = 0; i < n; ++i) {
        if (i > 0 && keys[i] == keys[i - 1]) edges.back().length += sorted[i].length;
        else edges.push_back(sorted[i]);
    }
}

// Moves a face to the chart that holds more of its border, if that chart faces the same way: takes the teeth
// off the seams. Serial over the few faces on seams, so that each move sees those before it.
void straighten(const Surface& s, std::vector<int32_t>& label, const std::vector<Vec3d>& normals, const ClusterOptions& options, int64_t charts) {
    std::vector<Vec3d> direction(charts, Vec3d{0, 0, 0});
    for (int64_t f = 0; f < s.num_faces; ++f)
        if (label[f] >= 0) direction[label[f]] += normals[f] * s.area[f];
    for (Vec3d& d : direction) d = normalized(d);
    const double tolerance = std::max(0.1, options.max_spread);
    for (int pass = 0; pass < 6; ++pass) {
        int64_t moved = 0;
        for (int64_t f = 0; f < s.num_faces; ++f) {
            const int32_t own = label[f];
            if (own < 0) continue;
            const double length[3] = {edge_length(s, 3 * f), edge_length(s, 3 * f + 1), edge_length(s, 3 * f + 2)};
            const int32_t to = chart_beyond_seam(&s.twin[3 * f], length, label.data(), own);
            if (to < 0) continue;
            // The worse fit in direction must be paid for by the shorter seam.
            const double here = dot(normals[f], direction[own]), there = dot(normals[f], direction[to]);
            if (there < here - tolerance) continue;
            label[f] = to;
            ++moved;
        }
        if (moved == 0) break;
    }
}

// Shortest ways over the faces from several of them; step(f, g, owner) is the length of one from f to its
// neighbour g. Ties go to the smaller face, so the result does not depend on the order of equal lengths.
template <class Step>
void grow(const Surface& s, const std::vector<std::pair<double, int32_t>>& seeds, std::vector<double>& distance, std::vector<int32_t>& owner, Step&& step) {
    using Item = std::pair<double, int32_t>;
    std::priority_queue<Item, std::vector<Item>, std::greater<Item>> queue(std::greater<Item>(), seeds);
    for (const auto& [d, f] : seeds) distance[f] = d;
    while (!queue.empty()) {
        const auto [d, f] = queue.top();
        queue.pop();
        if (d > distance[f]) continue;
        for (int64_t h = 3 * int64_t{f}; h < 3 * int64_t{f} + 3; ++h) {
            if (s.twin[h] < 0) continue;
            const int32_t g = s.twin[h] / 3;
            const double there = d + step(f, g, owner[f]);
            if (there < distance[g]) {
                distance[g] = there;
                owner[g] = owner[f];
                queue.push({there, g});
            }
        }
    }
}

// Lets the charts grow anew, all at once, from the faces farthest from their borders: they come out rounder,
// with straighter seams. Each grows at the pace of its old size, more slowly where its faces turn away.
void regrow(const Surface& s, std::vector<int32_t>& label, const std::vector<Vec3d>& normals, int64_t charts) {
    constexpr double turning = 8, crease = 2;
    std::vector<Vec3d> centre(s.num_faces), direction(charts, Vec3d{0, 0, 0});
    std::vector<double> area(charts, 0.0), distance(s.num_faces, INFINITY);
    parallel_for(s.num_faces, grain, [&](int64_t f) {
        centre[f] = (s.position[s.point[3 * f]] + s.position[s.point[3 * f + 1]] + s.position[s.point[3 * f + 2]]) * (1.0 / 3);
    });
    std::vector<std::pair<double, int32_t>> seeds;
    for (int64_t f = 0; f < s.num_faces; ++f) {
        if (label[f] < 0) continue;
        direction[label[f]] += normals[f] * s.area[f];
        area[label[f]] += s.area[f];
        double nearest = INFINITY;
        for (int64_t h = 3 * f; h < 3 * f + 3; ++h)
            if (s.twin[h] < 0 || label[s.twin[h] / 3] != label[f]) nearest = std::min(nearest, s.area[f] / (1e-30 + edge_length(s, h)));
        if (nearest < INFINITY) seeds.push_back({nearest, static_cast<int32_t>(f)});
    }
    std::vector<double> pace(charts);
    for (int64_t c = 0; c < charts; ++c) {
        direction[c] = normalized(direction[c]);
        pace[c] = 1 / std::sqrt(std::max(area[c], 1e-12));
    }
    std::vector<int32_t> owner = label;
    grow(s, seeds, distance, owner, [&](int32_t f, int32_t g, int32_t) {
        return label[f] == label[g] ? length(centre[g] - centre[f]) : INFINITY;
    });
    std::vector<int32_t> core(charts, -1);
    for (int64_t f = 0; f < s.num_faces; ++f) {
        if (label[f] < 0) continue;
        int32_t& best = core[label[f]];
        if (best < 0 || distance[f] > distance[best]) best = static_cast<int32_t>(f);
    }
    seeds.clear();
    for (int64_t c = 0; c < charts; ++c) seeds.push_back({0.0, core[c]});
    std::fill(distance.begin(), distance.end(), INFINITY);
    grow(s, seeds, distance, owner, [&](int32_t f, int32_t g, int32_t c) {
        const double away = 1 - dot(normals[g], direction[c]), bend = 1 - dot(normals[f], normals[g]);
        return pace[c] * (length(centre[g] - centre[f]) * (1 + turning * away * away)) + crease * bend * bend + 1e-15;
    });
    label.swap(owner);
}

}  // namespace

int64_t connected_charts(const Surface& s, std::vector<int32_t>& label) {
    std::vector<int32_t> result(s.num_faces, -1), stack;
    int32_t charts = 0;
    for (int64_t seed = 0; seed < s.num_faces; ++seed) {
        if (label[seed] < 0 || result[seed] >= 0) continue;
        stack.assign(1, static_cast<int32_t>(seed));
        result[seed] = charts;
        while (!stack.empty()) {
            const int64_t f = stack.back();
            stack.pop_back();
            for (int64_t h = 3 * f; h < 3 * f + 3; ++h) {
                if (s.twin[h] < 0) continue;
                const int32_t g = s.twin[h] / 3;
                if (result[g] >= 0 || label[g] != label[f]) continue;
                result[g] = charts;
                stack.push_back(g);
            }
        }
        ++charts;
    }
    label.swap(result);
    return charts;
}

int64_t cluster_faces(const Surface& s, const ClusterOptions& options, std::vector<int32_t>& label) {
    const std::vector<Vec3d> normals = smooth_normals(s, 4);
    std::vector<Node> nodes(s.num_faces);
    parallel_for(s.num_faces, grain, [&](int64_t f) {
        if (s.kind[f] == collapsed) return;
        nodes[f].area = s.area[f];
        nodes[f].normal = normals[f] * s.area[f];
        for (int64_t h = 3 * f; h < 3 * f + 3; ++h) nodes[f].perimeter += edge_length(s, h);
    });
    std::vector<Edge> edges;
    for (int64_t h = 0; h < 3 * s.num_faces; ++h)
        if (s.twin[h] > h) {
            const int32_t f = static_cast<int32_t>(h / 3), g = s.twin[h] / 3;
            edges.push_back({std::min(f, g), std::max(f, g), edge_length(s, h)});
        }
    unite_edges(edges);
    label.resize(s.num_faces);
    for (int64_t f = 0; f < s.num_faces; ++f) label[f] = s.kind[f] == collapsed ? -1 : static_cast<int32_t>(f);

    // nodes[c] of a chart that was joined to another is dead; parent[] says to which.
    std::vector<int32_t> parent(s.num_faces);
    for (int64_t f = 0; f < s.num_faces; ++f) parent[f] = static_cast<int32_t>(f);
    std::unique_ptr<std::atomic<uint64_t>[]> best(new std::atomic<uint64_t>[std::max<int64_t>(1, s.num_faces)]);
    std::vector<double> cost;
    std::vector<uint8_t> joins;
    while (!edges.empty()) {
        const int64_t n = static_cast<int64_t>(edges.size());
        cost.resize(n);
        joins.assign(n, 0);
        parallel_for(n, grain, [&](int64_t e) {
            best[edges[e].a].store(UINT64_MAX, std::memory_order_relaxed);
            best[edges[e].b].store(UINT64_MAX, std::memory_order_relaxed);
        });
        parallel_for(n, grain, [&](int64_t e) {
            cost[e] = join_cost(nodes[edges[e].a], nodes[edges[e].b], edges[e].length, options);
            if (cost[e] < 0) return;
            keep_least(best[edges[e].a], packed(cost[e], e));
            keep_least(best[edges[e].b], packed(cost[e], e));
        });
        // Mutually best pairs share no chart, so all of them join at once.
        std::atomic<int64_t> joined_pairs{0};
        parallel_for(n, grain, [&](int64_t e) {
            const Edge& edge = edges[e];
            if (cost[e] < 0) return;
            const uint64_t mine = packed(cost[e], e);
            if (best[edge.a].load(std::memory_order_relaxed) != mine || best[edge.b].load(std::memory_order_relaxed) != mine) return;
            joins[e] = 1;
            joined_pairs.fetch_add(1, std::memory_order_relaxed);
        });
        if (joined_pairs.load() == 0) break;
        parallel_for(n, grain, [&](int64_t e) {
            if (!joins[e]) return;
            nodes[edges[e].a] = joined(nodes[edges[e].a], nodes[edges[e].b], edges[e].length);
            parent[edges[e].b] = edges[e].a;
        });
        int64_t kept = 0;
        for (int64_t e = 0; e < n; ++e) {
            Edge edge = edges[e];
            edge.a = parent[edge.a];
            edge.b = parent[edge.b];
            if (edge.a == edge.b) continue;
            if (edge.a > edge.b) std::swap(edge.a, edge.b);
            edges[kept++] = edge;
        }
        edges.resize(kept);
        unite_edges(edges);
    }
    // A chart's number is its smallest face, so a chain of parents only descends.
    for (int64_t f = 0; f < s.num_faces; ++f)
        if (label[f] >= 0) label[f] = parent[f] == f ? static_cast<int32_t>(f) : label[parent[f]];
    int64_t charts = connected_charts(s, label);
    for (int i = 0; i < 2; ++i) {
        regrow(s, label, normals, charts);
        charts = connected_charts(s, label);
    }
    straighten(s, label, normals, options, charts);
    return connected_charts(s, label);
}

}  // namespace tk::uv
