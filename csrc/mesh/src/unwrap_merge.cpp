// Charts that are small beside a neighbour are laid against its border, where they fit; the neighbour's own
// layout stays as it is, so that an attempt costs about as much as the small chart has faces.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <set>

#include "trellis/parallel.hpp"
#include "unwrap_atlas.hpp"
#include "unwrap_overlap.hpp"

namespace tk::uv {
namespace {

struct Neighbour {
    int32_t chart;
    double shared;  // length of the border between the two
};

// Neighbours of a chart along edges of the surface, longest common border first.
std::vector<Neighbour> neighbours(const Surface& s, const Membership& membership, const Chart& chart, int32_t id) {
    std::map<int32_t, double> shared;
    for (int32_t f : chart.faces)
        for (int64_t h = 3 * int64_t{f}; h < 3 * int64_t{f} + 3; ++h) {
            const int32_t t = s.twin[h];
            if (t < 0 || membership.label[t / 3] == id) continue;
            shared[membership.label[t / 3]] += length(s.position[s.point[next_half_edge(h)]] - s.position[s.point[h]]);
        }
    std::vector<Neighbour> result;
    for (const auto& [c, l] : shared) result.push_back({c, l});
    std::stable_sort(result.begin(), result.end(), [](const Neighbour& a, const Neighbour& b) { return a.shared > b.shared; });
    return result;
}

// A chart while others are laid against it: its layout as loose triangles, found again by face.
class Host {
public:
    Host(const Surface& s, const Membership& membership, const Chart& chart, int32_t id) : s_(s), membership_(membership), chart_(chart), id_(id) {
        corners_.resize(3 * chart.size());
        for (int64_t h = 0; h < 3 * chart.size(); ++h) corners_[h] = chart.uv[chart.corner[h]];
        trees_.push_back(TriangleTree(corners_, layout_tolerance));
    }

    // Lays the guest out along the common border. False, with nothing changed, when it does not fit there.
    bool take(Chart& guest, const LayoutOptions& options) {
        std::vector<Vec2d> uv;
        std::vector<uint8_t> fixed;
        if (!pin_to_border(guest, uv, fixed)) return false;
        const std::vector<Vec3d> where = vertex_positions(s_, guest);
        std::vector<RestShape> rest(guest.size());
        std::vector<uint8_t> turned(guest.size(), 0);
        bool any_turned = false;
        for (int64_t f = 0; f < guest.size(); ++f) {
            rest[f] = rest_shape(s_, guest, where, f);
            const double det = jacobian(guest, rest[f], f, uv).det();
            const bool is_thin = s_.kind[guest.faces[f]] == thin;
            turned[f] = !is_thin && !(det > 1e-3);
            any_turned = any_turned || turned[f];
            rest[f].active = det > 1e-3;
        }
        if (any_turned) return false;
        minimise_distortion(guest, where, rest, fixed, options.iterations / 2, uv);
        if (!fits(guest, rest, options, uv)) return false;
        guest.uv = std::move(uv);
        guests_.push_back(&guest);
        guest_corners_.emplace_back(new std::vector<Vec2d>(3 * guest.size()));
        for (int64_t h = 0; h < 3 * guest.size(); ++h) (*guest_corners_.back())[h] = guest.uv[guest.corner[h]];
        trees_.push_back(TriangleTree(*guest_corners_.back(), layout_tolerance));
        return true;
    }

    // The chart with all its guests as one.
    Chart joined() const {
        std::vector<const Chart*> all{&chart_};
        all.insert(all.end(), guests_.begin(), guests_.end());
        return join_charts(s_, all);
    }
    bool has_guests() const { return !guests_.empty(); }

private:
    // Where the host has the start of the half-edge that runs against half-edge h of the surface; null when
    // the host is not there.
    bool opposite(int64_t h, Vec2d& from, Vec2d& to) const {
        const int32_t t = s_.twin[h];
        if (t < 0 || membership_.label[t / 3] != id_) return false;
        const int64_t own = 3 * int64_t{membership_.local[t / 3]} + t % 3;
        if (chart_.twin[own] >= 0) return false;
        from = chart_.uv[chart_.corner[next_half_edge(own)]];
        to = chart_.uv[chart_.corner[own]];
        return true;
    }

    // Fixes the guest's vertices on the common border to where the host has them, and moves its own layout
    // there for the others. False where the host has a vertex in two places.
    bool pin_to_border(const Chart& guest, std::vector<Vec2d>& uv, std::vector<uint8_t>& fixed) const {
        uv = guest.uv;
        fixed.assign(guest.vertices(), 0);
        for (int64_t h = 0; h < 3 * guest.size(); ++h) {
            if (guest.twin[h] >= 0) continue;
            Vec2d ends[2];
            if (!opposite(3 * int64_t{guest.faces[h / 3]} + h % 3, ends[0], ends[1])) continue;
            const int32_t vertices[2] = {guest.corner[h], guest.corner[next_half_edge(h)]};
            for (int k = 0; k < 2; ++k) {
                const int32_t v = vertices[k];
                if (fixed[v] && (uv[v].x != ends[k].x || uv[v].y != ends[k].y)) return false;
                fixed[v] = 1;
                uv[v] = ends[k];
            }
        }
        // The rigid motion of the guest's own layout that brings those vertices closest.
        Vec2d from{0, 0}, to{0, 0};
        double count = 0;
        for (int64_t v = 0; v < guest.vertices(); ++v)
            if (fixed[v]) {
                from = from + guest.uv[v];
                to = to + uv[v];
                ++count;
            }
        if (count < 2) return false;
        from = from * (1 / count);
        to = to * (1 / count);
        double cosine = 0, sine = 0;
        for (int64_t v = 0; v < guest.vertices(); ++v)
            if (fixed[v]) {
                cosine += dot(guest.uv[v] - from, uv[v] - to);
                sine += cross(guest.uv[v] - from, uv[v] - to);
            }
        const double norm = std::hypot(cosine, sine);
        if (!(norm > 0)) return false;
        cosine /= norm;
        sine /= norm;
        for (int64_t v = 0; v < guest.vertices(); ++v)
            if (!fixed[v]) {
                const Vec2d p = guest.uv[v] - from;
                uv[v] = to + Vec2d{cosine * p.x - sine * p.y, sine * p.x + cosine * p.y};
            }
        return true;
    }

    bool fits(const Chart& guest, const std::vector<RestShape>& rest, const LayoutOptions& options, const std::vector<Vec2d>& uv) const {
        std::vector<Vec2d> corners(3 * guest.size());
        for (int64_t f = 0; f < guest.size(); ++f) {
            for (int k = 0; k < 3; ++k) corners[3 * f + k] = uv[guest.corner[3 * f + k]];
            if (signed_height(corners[3 * f], corners[3 * f + 1], corners[3 * f + 2]) < -layout_tolerance) return false;
            if (s_.kind[guest.faces[f]] == regular && !within_stretch(jacobian(guest, rest[f], f, uv), options.max_stretch)) return false;
        }
        const TriangleTree own(corners, layout_tolerance);
        for (int64_t f = 0; f < guest.size(); ++f) {
            if (own.overlapped_by(f) >= 0) return false;
            const Vec2d triangle[3] = {corners[3 * f], corners[3 * f + 1], corners[3 * f + 2]};
            for (const TriangleTree& tree : trees_)
                if (tree.overlapped_by(triangle) >= 0) return false;
        }
        return true;
    }

    const Surface& s_;
    const Membership& membership_;
    const Chart& chart_;
    int32_t id_;
    std::vector<Vec2d> corners_;
    std::vector<std::unique_ptr<std::vector<Vec2d>>> guest_corners_;  // stay in place for the trees
    std::vector<TriangleTree> trees_;
    std::vector<const Chart*> guests_;
};

}  // namespace

void merge_charts(const Surface& s, const AtlasOptions& options, Membership& membership, std::vector<Chart>& charts) {
    constexpr double guest_share = 0.3;  // of the host's area, at most
    constexpr double host_limit = 0.1;   // charts above this share of the surface look for no host
    std::set<std::pair<int32_t, int32_t>> tried;
    for (int round = 0; round < options.merge_rounds; ++round) {
        const int64_t n = static_cast<int64_t>(charts.size());
        std::vector<std::vector<Neighbour>> around(n);
        parallel_for(n, 8, [&](int64_t c) {
            if (charts[c].size() > 0 && charts[c].area < host_limit) around[c] = neighbours(s, membership, charts[c], static_cast<int32_t>(c));
        });
        // Smallest first, each asks the neighbour it shares most border with; a chart is host or guest.
        std::vector<int32_t> order;
        for (int64_t c = 0; c < n; ++c)
            if (!around[c].empty()) order.push_back(static_cast<int32_t>(c));
        std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return charts[a].area < charts[b].area; });
        std::vector<uint8_t> is_guest(n, 0), is_host(n, 0);
        std::vector<std::vector<int32_t>> guests(n);
        for (int32_t c : order) {
            if (is_host[c]) continue;
            for (const Neighbour& to : around[c]) {
                const bool small = charts[c].area <= guest_share * charts[to.chart].area || charts[c].size() <= 4;
                if (is_guest[to.chart] || !small || charts[c].area > charts[to.chart].area || tried.count({c, to.chart})) continue;
                is_guest[c] = is_host[to.chart] = 1;
                guests[to.chart].push_back(c);
                tried.insert({c, to.chart});
                break;
            }
        }
        std::vector<int32_t> hosts;
        for (int64_t c = 0; c < n; ++c)
            if (!guests[c].empty()) hosts.push_back(static_cast<int32_t>(c));
        if (hosts.empty()) break;
        std::vector<Chart> joined(hosts.size());
        std::vector<std::vector<int32_t>> taken(hosts.size());
        parallel_for(static_cast<int64_t>(hosts.size()), 1, [&](int64_t i) {
            Host host(s, membership, charts[hosts[i]], hosts[i]);
            for (int32_t g : guests[hosts[i]])
                if (host.take(charts[g], options.layout)) taken[i].push_back(g);
            if (host.has_guests()) joined[i] = host.joined();
        });
        for (size_t i = 0; i < hosts.size(); ++i) {
            if (taken[i].empty()) continue;
            for (int32_t g : taken[i]) charts[g] = Chart{};
            charts[hosts[i]] = std::move(joined[i]);
            membership.assign(charts[hosts[i]].faces, hosts[i]);
        }
    }
    charts.erase(std::remove_if(charts.begin(), charts.end(), [](const Chart& c) { return c.size() == 0; }), charts.end());
}

}  // namespace tk::uv
