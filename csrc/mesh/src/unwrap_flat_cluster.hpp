// Charts from faces: the criterion and the rounds of unwrap_cluster.cpp (see there for the sources), and regrowth of
// the charts from their cores by relaxation in place of a queue.
#pragma once

#include "unwrap_flat.hpp"
#include "unwrap_seam.hpp"

namespace tk::uv::flat {

// A cluster: sum of area-weighted normals, area, perimeter.
constexpr int node_size = 5;
struct Node {
    Vec3d normal;
    double area, perimeter;
};
TK_BOTH inline Node read_node(const double* nodes, int64_t i) {
    const double* n = nodes + node_size * i;
    return {{n[0], n[1], n[2]}, n[3], n[4]};
}
TK_BOTH inline void write_node(double* nodes, int64_t i, const Node& node) {
    double* n = nodes + node_size * i;
    n[0] = node.normal.x;
    n[1] = node.normal.y;
    n[2] = node.normal.z;
    n[3] = node.area;
    n[4] = node.perimeter;
}
TK_BOTH inline double total_error(const Node& n) { return n.area > 0 ? fmax(0.0, n.area - dot(n.normal, n.normal) / n.area) : 0.0; }
TK_BOTH inline Node joined(const Node& a, const Node& b, double shared) {
    return {a.normal + b.normal, a.area + b.area, fmax(0.0, a.perimeter + b.perimeter - 2 * shared)};
}
// The cost of joining, or a negative value where it is not allowed.
TK_BOTH inline double join_cost(const Node& a, const Node& b, double shared, double max_spread) {
    const Node n = joined(a, b, shared);
    if (!(a.area > 0) || !(b.area > 0)) return 1e-20 / (1e-10 + shared);
    if (1.0 - length(n.normal) / n.area > max_spread) return -1;
    const double weight = a.area * b.area / n.area;
    const double growth = fmax(0.0, total_error(n) - total_error(a) - total_error(b));
    const double roundness = fmax(1.0, n.perimeter * n.perimeter / (4 * 3.14159265358979323846 * n.area));
    return (growth + 0.02 * weight) * sqrt(roundness);
}

struct FirstNodes {
    const double *normal, *area, *position;
    const int32_t* point;
    double* nodes;
    double* length_of;  // [3F] length of each half-edge
    TK_BOTH void operator()(int64_t f) const {
        double perimeter = 0;
        for (int64_t h = 3 * f; h < 3 * f + 3; ++h) {
            length_of[h] = length(read3(position, point[next_corner(h)]) - read3(position, point[h]));
            perimeter += length_of[h];
        }
        write_node(nodes, f, {read3(normal, f) * area[f], area[f], perimeter});
    }
};

struct ClearBest {
    const int64_t* ends;
    int64_t stride;
    int64_t* best;
    TK_BOTH void operator()(int64_t e) const { best[ends[e] / stride] = best[ends[e] % stride] = nothing; }
};

struct JoinCost {
    const double* nodes;
    const int64_t* ends;  // smaller cluster * stride + larger one
    const double* shared;
    int64_t stride;
    double max_spread;
    int64_t *cost, *best;
    TK_BOTH void operator()(int64_t e) const {
        const int64_t a = ends[e] / stride, b = ends[e] % stride;
        const double c = join_cost(read_node(nodes, a), read_node(nodes, b), shared[e], max_spread);
        cost[e] = c < 0 ? nothing : packed(c, e);
        if (c < 0) return;
        keep_least(best + a, cost[e]);
        keep_least(best + b, cost[e]);
    }
};

// Mutually best pairs share no cluster, so all of them join at once.
struct JoinPairs {
    const int64_t *ends, *cost, *best;
    const double* shared;
    int64_t stride;
    double* nodes;
    int32_t* parent;
    TK_BOTH void operator()(int64_t e) const {
        const int64_t a = ends[e] / stride, b = ends[e] % stride;
        if (cost[e] == nothing || best[a] != cost[e] || best[b] != cost[e]) return;
        write_node(nodes, a, joined(read_node(nodes, a), read_node(nodes, b), shared[e]));
        parent[b] = static_cast<int32_t>(a);
    }
};

struct RenameEnds {
    const int32_t* parent;
    int64_t stride;
    int64_t* ends;
    TK_BOTH void operator()(int64_t e) const {
        const int64_t a = parent[ends[e] / stride], b = parent[ends[e] % stride];
        ends[e] = a == b ? nothing : a < b ? a * stride + b : b * stride + a;
    }
};

// Lengths of equal ends, which are neighbours after sorting, as one; `first[e]` marks what stays.
struct SumShared {
    const int64_t* ends;
    const int64_t* order;
    const double* shared;
    int64_t count;
    double* sum;
    uint8_t* first;
    TK_BOTH void operator()(int64_t e) const {
        first[e] = ends[e] != nothing && (e == 0 || ends[e - 1] != ends[e]);
        double total = 0;
        if (first[e])
            for (int64_t i = e; i < count && ends[i] == ends[e]; ++i) total += shared[order[i]];
        sum[e] = total;
    }
};

// ---- regrowth ----------------------------------------------------------------------------------------------------

struct ChartSums {  // of each chart: area-weighted normal and area, fixed point
    const double *normal, *area;
    const int32_t* label;
    int64_t* sums;
    TK_BOTH void operator()(int64_t f) const {
        const int32_t c = label[f];
        if (c < 0) return;
        const Vec3d n = read3(normal, f) * area[f];
        add(sums + 4 * int64_t{c}, fixed(n.x));
        add(sums + 4 * int64_t{c} + 1, fixed(n.y));
        add(sums + 4 * int64_t{c} + 2, fixed(n.z));
        add(sums + 4 * int64_t{c} + 3, fixed(area[f]));
    }
};
TK_BOTH inline Vec3d chart_direction(const int64_t* sums, int64_t c) {
    return normalized(Vec3d{real(sums[4 * c]), real(sums[4 * c + 1]), real(sums[4 * c + 2])});
}

struct StartAtBorders {  // distance of faces on a chart's border to it, infinite within
    const double *area, *length_of;
    const int32_t *twin, *label;
    double* distance;
    TK_BOTH void operator()(int64_t f) const {
        double nearest = INFINITY;
        for (int64_t h = 3 * f; h < 3 * f + 3; ++h)
            if (twin[h] < 0 || label[twin[h] / 3] != label[f]) nearest = fmin(nearest, area[f] / (1e-30 + length_of[h]));
        distance[f] = label[f] < 0 ? INFINITY : nearest;
    }
};

struct FindCores {  // the face farthest from the border
    const double* distance;
    const int32_t* label;
    int64_t* core;  // least of: minus distance, face
    TK_BOTH void operator()(int64_t f) const {
        if (label[f] < 0) return;
        const double d = distance[f] < 1e30 ? distance[f] : 1e30;
        keep_least(core + label[f], packed(0, f) + ((int64_t{0x7f800000} << 32) - (packed(d, 0))));
    }
};

struct StartAtCores {
    const int64_t* core;
    double* distance;
    int32_t* owner;
    TK_BOTH void operator()(int64_t c) const {
        if (core[c] == nothing) return;
        const int64_t f = core[c] & 0xffffffff;
        distance[f] = 0;
        owner[f] = static_cast<int32_t>(c);
    }
};

// One round of relaxation: the shortest way to each face through a neighbour. Two laws of length: within charts
// (of `label`), or from cores at the pace of each chart, more slowly where faces turn away or the surface bends.
struct Relax {
    const double *centre, *normal, *now;
    const int32_t *twin, *label, *owner;
    const int64_t* sums;  // null for the first law
    double* then;
    int32_t *then_owner, *changed;
    TK_BOTH void operator()(int64_t f) const {
        constexpr double turning = 8, crease = 2;
        double least = now[f];
        int32_t from = owner[f];
        if (label[f] >= 0)
            for (int64_t h = 3 * f; h < 3 * f + 3; ++h) {
                if (twin[h] < 0) continue;
                const int64_t g = twin[h] / 3;
                if (label[g] < 0 || !(now[g] < least)) continue;
                const double apart = length(read3(centre, f) - read3(centre, g));
                double step;
                if (!sums) {
                    if (label[g] != label[f]) continue;
                    step = apart;
                } else {
                    const int64_t c = owner[g];
                    const Vec3d n = read3(normal, f);
                    const double away = 1 - dot(n, chart_direction(sums, c)), bend = 1 - dot(read3(normal, g), n);
                    step = apart * (1 + turning * away * away) / sqrt(fmax(real(sums[4 * c + 3]), 1e-12)) + crease * bend * bend + 1e-15;
                }
                const double there = now[g] + step;
                if (there < least || (there == least && owner[g] < from)) {
                    least = there;
                    from = owner[g];
                }
            }
        then[f] = least;
        then_owner[f] = from;
        if (least != now[f] || from != owner[f]) *changed = 1;
    }
};

// Which chart a face on a seam would rather be in: the one that holds more of its border, if that one faces the
// same way; -1 for the one that it is in.
struct WishForChart {
    const double *normal, *length_of;
    const int32_t *twin, *label;
    const int64_t* sums;
    double tolerance;
    int32_t* wish;
    TK_BOTH void operator()(int64_t f) const {
        wish[f] = -1;
        const int32_t own = label[f];
        if (own < 0) return;
        const int32_t to = chart_beyond_seam(twin + 3 * f, length_of + 3 * f, label, own);
        if (to < 0) return;
        const Vec3d n = read3(normal, f);
        if (dot(n, chart_direction(sums, to)) < dot(n, chart_direction(sums, own)) - tolerance) return;
        wish[f] = to;
    }
};
struct GrantWish {  // of two neighbours that both wish, the smaller face moves
    const int32_t *twin, *wish;
    int32_t* label;
    TK_BOTH void operator()(int64_t f) const {
        if (wish[f] < 0) return;
        for (int64_t h = 3 * f; h < 3 * f + 3; ++h)
            if (twin[h] >= 0 && twin[h] / 3 < f && wish[twin[h] / 3] >= 0) return;
        label[f] = wish[f];
    }
};

}  // namespace tk::uv::flat
