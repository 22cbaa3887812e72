// Small polygons: the triangulation of least total weight, by dynamic programming over sub-polygons
// (Barequet and Sharir, "Filling gaps in the boundary of a polyhedron", 1995). Large ones: ears clipped in
// order of the same weight, on a heap.
//
// The weight of a triangle is (sum of squared sides)^2 / area: proportional to the area when shapes are good,
// so the total prefers a small surface, and growing without bound for slivers.
#include "triangulate.hpp"

#include <algorithm>
#include <queue>

namespace tk::mesh {

namespace {

constexpr int32_t largest_for_programming = 100;  // n^3 / 6 triangles are weighed
constexpr double never = 1e300;

double weight(const Vec3d& a, const Vec3d& b, const Vec3d& c) {
    const double sides = dot(b - a, b - a) + dot(c - b, c - b) + dot(a - c, a - c);
    const double area = 0.5 * length(cross(b - a, c - a));
    return sides > 0 ? sides * sides / (area + 1e-9 * sides) : 0;
}

std::vector<Triangle> by_programming(const std::vector<Vec3d>& p, const std::function<bool(int32_t, int32_t)>& forbidden) {
    const int32_t n = static_cast<int32_t>(p.size());
    std::vector<double> best(static_cast<size_t>(n) * n, 0);
    std::vector<int32_t> apex(static_cast<size_t>(n) * n, -1);
    for (int32_t span = 2; span < n; ++span)
        for (int32_t i = 0; i + span < n; ++i) {
            const int32_t k = i + span;
            double least = never;
            const bool closing = span == n - 1;  // the side that closes the polygon, not a diagonal
            if (closing || !forbidden(i, k))
                for (int32_t m = i + 1; m < k; ++m) {
                    const double below = best[i * n + m] + best[m * n + k];
                    if (below >= least) continue;
                    const double total = below + weight(p[i], p[m], p[k]);
                    if (total < least) {
                        least = total;
                        apex[i * n + k] = m;
                    }
                }
            best[i * n + k] = least;
        }
    std::vector<Triangle> triangles;
    if (!(best[n - 1] < never)) return triangles;
    std::vector<std::array<int32_t, 2>> open{{0, n - 1}};
    while (!open.empty()) {
        const auto [i, k] = open.back();
        open.pop_back();
        if (k - i < 2) continue;
        const int32_t m = apex[i * n + k];
        triangles.push_back({i, m, k});
        open.push_back({i, m});
        open.push_back({m, k});
    }
    return triangles;
}

std::vector<Triangle> by_ears(const std::vector<Vec3d>& p, const std::function<bool(int32_t, int32_t)>& forbidden) {
    const int32_t n = static_cast<int32_t>(p.size());
    Vec3d normal{0, 0, 0};
    for (int32_t i = 0; i < n; ++i) normal += cross(p[i] - p[0], p[(i + 1) % n] - p[0]);
    std::vector<int32_t> before(static_cast<size_t>(n)), after(static_cast<size_t>(n)), version(static_cast<size_t>(n), 0);
    for (int32_t i = 0; i < n; ++i) {
        before[i] = (i + n - 1) % n;
        after[i] = (i + 1) % n;
    }
    struct Ear {
        double cost;
        int32_t tip, version;
        bool operator<(const Ear& o) const { return cost != o.cost ? cost > o.cost : tip > o.tip; }
    };
    std::priority_queue<Ear> ears;
    const auto offer = [&](int32_t i) {
        const Vec3d &a = p[before[i]], &b = p[i], &c = p[after[i]];
        double cost = weight(a, b, c);
        if (dot(cross(b - a, c - a), normal) <= 0) cost = cost * 1e6 + 1e-30;  // folds over: only if nothing else is left
        if (forbidden(before[i], after[i])) cost = never;
        ears.push({cost, i, ++version[i]});
    };
    for (int32_t i = 0; i < n; ++i) offer(i);
    std::vector<Triangle> triangles;
    for (int32_t left = n; left > 3;) {
        const Ear ear = ears.top();
        ears.pop();
        if (ear.version != version[ear.tip]) continue;
        if (!(ear.cost < never)) return {};
        const int32_t i = ear.tip, a = before[i], c = after[i];
        triangles.push_back({a, i, c});
        after[a] = c;
        before[c] = a;
        version[i] = -1;
        if (--left == 3) {
            triangles.push_back({before[a], a, c});
            break;
        }
        offer(a);
        offer(c);
    }
    return triangles;
}

}  // namespace

std::vector<Triangle> triangulate_polygon(const std::vector<Vec3d>& points, const std::function<bool(int32_t, int32_t)>& forbidden) {
    if (points.size() < 3) return {};
    if (points.size() == 3) return {{0, 1, 2}};
    return points.size() <= largest_for_programming ? by_programming(points, forbidden) : by_ears(points, forbidden);
}

}  // namespace tk::mesh
