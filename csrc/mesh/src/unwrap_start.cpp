#include <algorithm>
#include <cmath>

#include "unwrap_parameterise.hpp"
#include "unwrap_solver.hpp"

namespace tk::uv {
namespace {

constexpr double pi = 3.14159265358979323846;

Vec3d mean_normal(const Surface& s, const Chart& chart) {
    Vec3d sum{0, 0, 0};
    for (int32_t f : chart.faces) sum += s.normal[f] * s.area[f];
    return normalized(sum);
}

// Vertices along the border of a disk, in its sense of rotation.
std::vector<int32_t> border_loop(const Chart& chart) {
    std::vector<int32_t> loop;
    int64_t start = 0;
    while (start < static_cast<int64_t>(chart.twin.size()) && chart.twin[start] >= 0) ++start;
    if (start == static_cast<int64_t>(chart.twin.size())) return loop;
    int64_t h = start;
    do {
        loop.push_back(chart.corner[h]);
        h = next_half_edge(h);
        while (chart.twin[h] >= 0) h = next_half_edge(chart.twin[h]);
    } while (h != start && loop.size() <= chart.twin.size());
    return loop;
}

}  // namespace

Projection project(const Surface& s, const Chart& chart, const std::vector<Vec3d>& where, std::vector<Vec2d>& uv, std::vector<uint8_t>& turned) {
    const Vec3d n = mean_normal(s, chart);
    const Vec3d helper = std::abs(n.x) < 0.6 ? Vec3d{1, 0, 0} : Vec3d{0, 1, 0};
    const Vec3d x = normalized(cross(helper, n)), y = cross(n, x);
    uv.resize(where.size());
    for (size_t v = 0; v < where.size(); ++v) uv[v] = {dot(where[v], x), dot(where[v], y)};
    turned.assign(chart.size(), 0);
    double area = 0, lost = 0, least = 1;
    for (int64_t f = 0; f < chart.size(); ++f) {
        if (s.kind[chart.faces[f]] != regular) continue;
        area += s.area[chart.faces[f]];
        const double cosine = dot(s.normal[chart.faces[f]], n);
        least = std::min(least, cosine);
        turned[f] = !(cosine > 0.05);
        if (turned[f]) lost += s.area[chart.faces[f]];
    }
    return {area > 0 ? lost / area : 0, least > 0.05 ? 1 / least : INFINITY};
}

// Tutte's embedding with the border on a circle: convex combinations with positive weights turn no face
// over (Floater 2003). Weights are the cotangents of the opposite angles, kept positive.
bool embed(const Chart& chart, const std::vector<Vec3d>& where, std::vector<Vec2d>& uv) {
    const std::vector<int32_t> loop = border_loop(chart);
    const int64_t n = chart.vertices(), on_border = static_cast<int64_t>(loop.size());
    if (on_border < 3) return false;
    uv.assign(n, Vec2d{0, 0});
    std::vector<int32_t> interior(n, 0);
    std::vector<double> at(on_border + 1, 0.0);
    for (int64_t i = 0; i < on_border; ++i) {
        if (interior[loop[i]] < 0) return false;  // the border touches itself: not a disk
        interior[loop[i]] = -1;
        at[i + 1] = at[i] + length(where[loop[(i + 1) % on_border]] - where[loop[i]]);
    }
    if (!(at[on_border] > 0)) return false;
    const double radius = std::sqrt(std::max(chart.area, 1e-30) / pi);
    for (int64_t i = 0; i < on_border; ++i) {
        const double angle = 2 * pi * at[i] / at[on_border];
        uv[loop[i]] = {radius * std::cos(angle), radius * std::sin(angle)};
    }
    int32_t unknowns = 0;
    for (int64_t v = 0; v < n; ++v)
        if (interior[v] == 0) interior[v] = unknowns++;
    if (unknowns == 0) return true;

    std::vector<int32_t> pairs, edge_of;
    chart_edges(chart, pairs, edge_of);
    std::vector<double> weight(pairs.size() / 2, 0.0);
    for (int64_t f = 0; f < chart.size(); ++f)
        for (int k = 0; k < 3; ++k) {
            const Vec3d &a = where[chart.corner[3 * f + k]], &b = where[chart.corner[3 * f + (k + 1) % 3]], &c = where[chart.corner[3 * f + (k + 2) % 3]];
            const double sine = length(cross(a - c, b - c)), cosine = dot(a - c, b - c);
            weight[edge_of[3 * f + k]] += std::clamp(cosine / std::max(sine, 1e-12 * std::abs(cosine) + 1e-300), 0.02, 20.0);
        }
    using Solver = BlockSolver<1>;
    std::vector<Solver::Block> diagonal(unknowns, Solver::Block{}), off_diagonal;
    std::vector<int32_t> edges;
    std::vector<double> x(unknowns, 0.0), y(unknowns, 0.0);
    for (size_t e = 0; e < weight.size(); ++e) {
        const int32_t a = pairs[2 * e], b = pairs[2 * e + 1], ia = interior[a], ib = interior[b];
        const double w = weight[e];
        if (ia >= 0) diagonal[ia].m[0][0] += w;
        if (ib >= 0) diagonal[ib].m[0][0] += w;
        if (ia >= 0 && ib >= 0) {
            if (ia == ib) return false;
            edges.push_back(ia);
            edges.push_back(ib);
            off_diagonal.push_back({{{-w}}});
        } else if (ia >= 0) {
            x[ia] += w * uv[b].x;
            y[ia] += w * uv[b].y;
        } else if (ib >= 0) {
            x[ib] += w * uv[a].x;
            y[ib] += w * uv[a].y;
        }
    }
    std::vector<Vec3d> place(unknowns);
    for (int64_t v = 0; v < n; ++v)
        if (interior[v] >= 0) place[interior[v]] = where[v];
    Solver solver(unknowns, edges, nested_dissection(place, edges));
    if (!solver.factor(diagonal, off_diagonal)) return false;
    solver.solve(x);
    solver.solve(y);
    for (int64_t v = 0; v < n; ++v)
        if (interior[v] >= 0) uv[v] = {x[interior[v]], y[interior[v]]};
    return true;
}

void untangle(const Surface& s, const Chart& chart, std::vector<Vec2d>& uv, std::vector<uint8_t>& turned) {
    using Solver = BlockSolver<1>;
    const int64_t n = chart.vertices();
    std::vector<int32_t> pairs, edge_of;
    chart_edges(chart, pairs, edge_of);
    std::vector<uint8_t> border(n, 0), near(n, 0);
    for (size_t h = 0; h < chart.twin.size(); ++h)
        if (chart.twin[h] < 0) border[chart.corner[h]] = border[chart.corner[next_half_edge(static_cast<int64_t>(h))]] = 1;
    auto widen = [&](int rings) {
        for (; rings > 0; --rings) {
            std::vector<uint8_t> wider = near;
            for (size_t e = 0; e < pairs.size(); e += 2) {
                if (near[pairs[e]]) wider[pairs[e + 1]] = 1;
                if (near[pairs[e + 1]]) wider[pairs[e]] = 1;
            }
            near.swap(wider);
        }
    };
    for (int round = 0; round < 5; ++round) {
        bool any = false;
        for (int64_t f = 0; f < chart.size(); ++f)
            if (turned[f]) {
                any = true;
                for (int k = 0; k < 3; ++k) near[chart.corner[3 * f + k]] = 1;
            }
        if (!any) return;
        widen(round);
        std::vector<int32_t> unknown(n, -1);
        int32_t unknowns = 0;
        for (int64_t v = 0; v < n; ++v)
            if (near[v] && !border[v]) unknown[v] = unknowns++;
        if (unknowns == 0) return;
        std::vector<Solver::Block> diagonal(unknowns, Solver::Block{}), off_diagonal;
        std::vector<int32_t> edges;
        std::vector<double> x(unknowns, 0.0), y(unknowns, 0.0);
        std::vector<Vec3d> place(unknowns);
        for (size_t e = 0; e < pairs.size(); e += 2)
            for (int side = 0; side < 2; ++side) {
                const int32_t a = pairs[e + side], b = pairs[e + 1 - side];
                if (unknown[a] < 0) continue;
                diagonal[unknown[a]].m[0][0] += 1;
                if (unknown[b] < 0) {
                    x[unknown[a]] += uv[b].x;
                    y[unknown[a]] += uv[b].y;
                } else if (side == 0 && a != b) {
                    edges.push_back(unknown[a]);
                    edges.push_back(unknown[b]);
                    off_diagonal.push_back({{{-1.0}}});
                }
            }
        for (int64_t v = 0; v < n; ++v)
            if (unknown[v] >= 0) place[unknown[v]] = {uv[v].x, uv[v].y, 0};
        Solver solver(unknowns, edges, nested_dissection(place, edges));
        if (!solver.factor(diagonal, off_diagonal)) return;
        solver.solve(x);
        solver.solve(y);
        std::vector<Vec2d> smoothed = uv;
        for (int64_t v = 0; v < n; ++v)
            if (unknown[v] >= 0) smoothed[v] = {x[unknown[v]], y[unknown[v]]};
        for (int64_t f = 0; f < chart.size(); ++f) {
            if (s.kind[chart.faces[f]] != regular) continue;
            const Vec2d &a = smoothed[chart.corner[3 * f]], &b = smoothed[chart.corner[3 * f + 1]], &c = smoothed[chart.corner[3 * f + 2]];
            turned[f] = !(0.5 * cross(b - a, c - a) > 1e-3 * s.area[chart.faces[f]]);
        }
        uv.swap(smoothed);
    }
}

}  // namespace tk::uv
