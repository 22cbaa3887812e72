#include "unwrap_parameterise.hpp"

#include <algorithm>
#include <cmath>

#include "unwrap_overlap.hpp"

namespace tk::uv {
namespace {

// At most this share of a chart's area may be rejected before the whole chart is split instead.
constexpr double max_rejected = 0.15;
// A projection that stretches no face more than this cannot be bettered by much.
constexpr double flat = 1.05;
// Above this many faces a chart that is not flat is split: the solver's cost grows faster than its size.
constexpr int64_t max_solved = 60000;
// Above this many faces a chart that does not project is split rather than embedded: halves are faster.
constexpr int64_t max_embedded = 5000;
// Charts longer than the first limit (the whole surface has area 1) must fill this share of their box, and none
// of more than `divisible` faces may be longer than the second. Otherwise they would leave the texture empty.
constexpr double long_chart = 0.25, too_long_chart = 1.6, least_fill = 0.45;
constexpr int64_t divisible = 64;

// A face in its own plane: first corner at the origin, second on the x axis.
void flat_corners(const Vec3d& a, const Vec3d& b, const Vec3d& c, Vec2d (&q)[3]) {
    const Vec3d u = b - a, v = c - a;
    const double l = length(u);
    q[0] = {0, 0};
    q[1] = {l, 0};
    q[2] = l > 0 ? Vec2d{dot(u, v) / l, length(cross(u, v)) / l} : Vec2d{0, 0};
}

// Thin faces that are turned at the start do not take part.
void set_active(const Surface& s, const Chart& chart, const std::vector<uint8_t>& turned, const std::vector<Vec2d>& uv, std::vector<RestShape>& rest) {
    for (int64_t f = 0; f < chart.size(); ++f) {
        const double det = jacobian(chart, rest[f], f, uv).det();
        rest[f].active = s.kind[chart.faces[f]] == thin ? det > 1e-4 : !turned[f] && det > 1e-9;
    }
}

// Long charts that fill little of the box around them waste the texture.
bool wasteful(const Chart& chart, const std::vector<Vec2d>& uv, double area) {
    if (chart.size() < divisible) return false;
    double length = INFINITY, box = INFINITY;
    for (int i = 0; i < 12; ++i) {
        const double angle = i * 3.14159265358979323846 / 24, c = std::cos(angle), s = std::sin(angle);
        double low_x = INFINITY, high_x = -INFINITY, low_y = INFINITY, high_y = -INFINITY;
        for (const Vec2d& p : uv) {
            const double x = c * p.x + s * p.y, y = c * p.y - s * p.x;
            low_x = std::min(low_x, x);
            high_x = std::max(high_x, x);
            low_y = std::min(low_y, y);
            high_y = std::max(high_y, y);
        }
        const double around = (high_x - low_x) * (high_y - low_y);
        if (around < box) {
            box = around;
            length = std::max(high_x - low_x, high_y - low_y);
        }
    }
    return length > too_long_chart || (length > long_chart && area < least_fill * box);
}

// Rejects border faces that overlap others until none does. Where a layout without turned faces covers a
// place twice, the frontier of that place is part of the border, and there a face on the border overlaps
// another: so asking the border's faces is enough. False when too much would have to go.
bool clear_overlaps(const Surface& s, const Chart& chart, std::vector<Vec2d>& corners, double budget, std::vector<uint8_t>& rejected) {
    auto leave_out = [&](int64_t f) { corners[3 * f + 1] = corners[3 * f + 2] = corners[3 * f]; };
    for (int64_t f = 0; f < chart.size(); ++f)
        if (rejected[f]) leave_out(f);
    for (int round = 0; round < 12; ++round) {
        const TriangleTree tree(corners, layout_tolerance);
        std::vector<uint8_t> now(chart.size(), 0);
        bool any = false;
        for (int64_t f = 0; f < chart.size(); ++f) {
            if (rejected[f]) continue;
            bool on_border = false;
            for (int64_t h = 3 * f; h < 3 * f + 3; ++h) on_border = on_border || chart.twin[h] < 0 || rejected[chart.twin[h] / 3];
            if (!on_border) continue;
            const int64_t other = tree.overlapped_by(f);
            if (other < 0) continue;
            any = true;
            if (now[other]) continue;  // it goes already
            now[f] = 1;
            budget -= s.area[chart.faces[f]];
        }
        if (!any) return true;
        if (budget < 0) return false;
        for (int64_t f = 0; f < chart.size(); ++f)
            if (now[f]) {
                rejected[f] = 1;
                leave_out(f);
            }
    }
    return false;
}

Layout judge(const Surface& s, const Chart& chart, const std::vector<RestShape>& rest, const LayoutOptions& options, const std::vector<Vec2d>& uv,
             std::vector<uint8_t>& rejected) {
    std::vector<Vec2d> corners(3 * chart.size());
    rejected.assign(chart.size(), 0);
    double energy = 0, area = 0, budget = max_rejected * chart.area;
    for (int64_t f = 0; f < chart.size(); ++f) {
        for (int k = 0; k < 3; ++k) corners[3 * f + k] = uv[chart.corner[3 * f + k]];
        if (signed_height(corners[3 * f], corners[3 * f + 1], corners[3 * f + 2]) < -layout_tolerance) rejected[f] = 1;
        if (s.kind[chart.faces[f]] == regular) {
            const Jacobian j = jacobian(chart, rest[f], f, uv);
            const double det = j.det(), n = j.norm2();
            if (!within_stretch(j, options.max_stretch)) rejected[f] = 1;
            if (!rejected[f]) {
                energy += rest[f].area * (n + n / (det * det));
                area += rest[f].area;
            }
        }
        if (rejected[f]) budget -= s.area[chart.faces[f]];
    }
    if (budget < 0 || (area > 0 && !(energy <= options.max_energy * area)) || wasteful(chart, uv, chart.area)) return Layout::impossible;
    if (!clear_overlaps(s, chart, corners, budget, rejected)) return Layout::impossible;
    const int64_t lost = std::count(rejected.begin(), rejected.end(), 1);
    return lost == 0 ? Layout::whole : lost < chart.size() ? Layout::partial : Layout::impossible;
}

}  // namespace

bool within_stretch(const Jacobian& j, double limit) {
    const double det = j.det(), n = j.norm2();
    const double s1 = std::sqrt(0.5 * (n + std::sqrt(std::max(0.0, n * n - 4 * det * det))));
    return det > 0 && s1 <= limit && det * limit >= s1;
}

bool restore_area(const Surface& s, const Chart& chart, std::vector<Vec2d>& uv) {
    double area = 0, wanted = 0;
    for (int64_t f = 0; f < chart.size(); ++f) {
        if (s.kind[chart.faces[f]] != regular) continue;
        const Vec2d &a = uv[chart.corner[3 * f]], &b = uv[chart.corner[3 * f + 1]], &c = uv[chart.corner[3 * f + 2]];
        const double signed_area = 0.5 * cross(b - a, c - a);
        if (!(signed_area > 0)) continue;
        area += signed_area;
        wanted += s.area[chart.faces[f]];
    }
    if (!(wanted > 0)) return s.has_area;  // thin faces alone: as it is
    const double scale = std::sqrt(wanted / area);
    if (!std::isfinite(scale)) return false;
    for (Vec2d& p : uv) p = p * scale;
    return true;
}

std::vector<Vec3d> vertex_positions(const Surface& s, const Chart& chart) {
    std::vector<Vec3d> where(chart.vertices());
    for (int64_t v = 0; v < chart.vertices(); ++v) where[v] = s.position[chart.point[v]];
    return where;
}

RestShape rest_shape(const Surface& s, const Chart& chart, const std::vector<Vec3d>& where, int64_t f) {
    Vec2d q[3];
    flat_corners(where[chart.corner[3 * f]], where[chart.corner[3 * f + 1]], where[chart.corner[3 * f + 2]], q);
    if (s.kind[chart.faces[f]] == thin) {
        // Its true shape has no usable gradients; one that is a little taller only keeps it from turning.
        const double longest = std::sqrt(std::max({dot(q[1], q[1]), dot(q[2], q[2]), dot(q[2] - q[1], q[2] - q[1])}));
        q[2].y = std::max(q[2].y, 0.02 * longest);
    }
    RestShape r;
    const double twice = q[1].x * q[2].y;
    r.active = twice > 0;
    r.area = 0.5 * twice;
    for (int k = 0; k < 3; ++k) {
        const Vec2d opposite = q[(k + 2) % 3] - q[(k + 1) % 3];
        r.gx[k] = r.active ? -opposite.y / twice : 0;
        r.gy[k] = r.active ? opposite.x / twice : 0;
    }
    return r;
}

Layout lay_out(const Surface& s, Chart& chart, const LayoutOptions& options, std::vector<uint8_t>& rejected) {
    std::vector<Vec3d> where = vertex_positions(s, chart);
    if (chart.size() == 1) {
        Vec2d q[3];
        flat_corners(where[0], where[1], where[2], q);
        chart.uv.assign(q, q + 3);
        return Layout::whole;
    }
    std::vector<RestShape> rest(chart.size());
    std::vector<Vec2d> uv;
    std::vector<uint8_t> turned;
    auto finish = [&](int iterations) {
        for (int64_t f = 0; f < chart.size(); ++f) rest[f] = rest_shape(s, chart, where, f);
        set_active(s, chart, turned, uv, rest);
        minimise_distortion(chart, where, rest, {}, iterations, uv);
        if (!restore_area(s, chart, uv)) return Layout::impossible;
        const Layout result = judge(s, chart, rest, options, uv, rejected);
        if (result != Layout::impossible) chart.uv = std::move(uv);
        return result;
    };
    const Projection projection = project(s, chart, where, uv, turned);
    if (projection.max_stretch < flat) return finish(0);
    if (chart.size() > max_solved) return Layout::impossible;
    if (projection.turned_share < 0.25) {
        double lost = 0;
        if (projection.turned_share > 0) {
            untangle(s, chart, uv, turned);
            for (int64_t f = 0; f < chart.size(); ++f)
                if (turned[f]) lost += s.area[chart.faces[f]];
        }
        if (lost <= 0.5 * max_rejected * chart.area) return finish(options.iterations);
    }
    if (chart.size() > max_embedded || !cut_to_disk(s, chart)) return Layout::impossible;
    where = vertex_positions(s, chart);
    turned.assign(chart.size(), 0);
    return embed(chart, where, uv) ? finish(2 * options.iterations) : Layout::impossible;
}

}  // namespace tk::uv
