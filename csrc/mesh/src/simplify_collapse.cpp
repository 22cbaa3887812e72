// What one collapse costs, where its vertex goes, and whether it is allowed.
#include <algorithm>
#include <limits>

#include "simplify.hpp"

namespace tk::mesh {

namespace {

constexpr float forbidden = std::numeric_limits<float>::infinity();
// Vertices of more neighbours than these together wait until collapses around them have made them fewer, so
// that no check takes long.
constexpr int32_t most_neighbours = 2048;
// New vertices should not have many more neighbours than six.
constexpr int32_t wanted_neighbours = 20;
constexpr double least_cosine = 0.2;  // between a face's normals before and after
constexpr double no_side = 1e-6;      // a face of less quality has no normal to speak of

// 4 sqrt(3) area / sum of squared sides: 1 for an equilateral triangle, 0 for one without area.
double quality(double twice_area, double squared_sides) {
    return squared_sides > 0 ? 3.4641016151377544 * twice_area / squared_sides : 0;
}

}  // namespace

float Simplifier::edge_cost(int32_t a, int32_t b, int multiplicity, Rules rules, Vec3d& point) const {
    if (a > b) std::swap(a, b);  // so that both ends compute the same bits
    const uint8_t ka = kinds_[a], kb = kinds_[b];
    if (rules != Rules::any_topology) {
        if (ka != smooth && kb != smooth && multiplicity == 2) return forbidden;
        if (ka == corner && kb == corner) return forbidden;
    }
    Quadric q = quadrics_[a];
    q += quadrics_[b];
    const Vec3d &pa = positions_[a], &pb = positions_[b];
    if (ka != kb) {
        point = ka > kb ? pa : pb;
        return static_cast<float>(q.at(point));
    }
    const Vec3d middle = (pa + pb) * 0.5;
    if (ka != corner && q.minimum(middle, point)) {
        const Vec3d moved = point - middle, edge = pb - pa;
        if (dot(moved, moved) <= 4 * dot(edge, edge)) return static_cast<float>(q.at(point));
    }
    const double at_middle = q.at(middle), at_a = q.at(pa), at_b = q.at(pb);
    const double least = std::min({at_middle, at_a, at_b});
    point = least == at_middle ? middle : least == at_a ? pa : pb;
    return static_cast<float>(least);
}

// The link condition (Dey, Edelsbrunner, Guha, Nekhayev, "Topology preserving edge contraction", 1999) with
// boundaries and edges of more than two faces closed off by an imagined vertex.
bool Simplifier::keeps_topology(int32_t a, int32_t b, int multiplicity) const {
    const int32_t *ia = ring_ids_.data() + ring_begin(a), *ea = ia + ring_size_[a];
    const int32_t *ib = ring_ids_.data() + ring_begin(b), *eb = ib + ring_size_[b];
    const uint8_t* ma = ring_multiplicity_.data() + ring_begin(a);
    const uint8_t* mb = ring_multiplicity_.data() + ring_begin(b);
    const int32_t *fa = ia, *fb = ib;
    if ((ea - ia) + (eb - ib) > most_neighbours) return false;
    int n = 0;
    while (ia < ea && ib < eb) {
        if (*ia < *ib) ++ia;
        else if (*ib < *ia) ++ib;
        else {
            if (multiplicity != 2 && ma[ia - fa] != 2 && mb[ib - fb] != 2) return false;  // a triangle of such edges
            ++n;
            ++ia;
            ++ib;
        }
    }
    if (n != multiplicity) return false;  // the two have neighbours in common beyond the faces between them
    // A triangle of the link: both of its sides' faces would become one.
    bool folds = false;
    if (n > 1) each_coincident(a, b, [&](int32_t, int32_t, bool) { folds = true; });
    return !folds;
}

// Whether the faces at `moved` keep their side when it moves, save those that contain `other` and vanish. Lowers
// `worst_before` and `worst_after` to the least quality of the faces before, and of those left after.
bool Simplifier::keeps_sides(int32_t moved, int32_t other, const Vec3d& point, double& worst_before, double& worst_after) const {
    const Vec3d from = positions_[moved];
    for (const int32_t* c = corners_.begin(moved); c < corners_.end(moved); ++c) {
        const int32_t* face = faces_.data() + (*c - *c % 3);
        const int32_t iu = face[next_corner(*c % 3)], iw = face[prev_corner(*c % 3)];
        const Vec3d u = positions_[iu], w = positions_[iw], far = w - u;
        const double opposite = dot(far, far);
        const Vec3d before = cross(u - from, w - from);
        const double area_before = length(before);
        const double old_quality = quality(area_before, opposite + dot(u - from, u - from) + dot(w - from, w - from));
        worst_before = std::min(worst_before, old_quality);
        if (iu == other || iw == other) continue;
        const Vec3d after = cross(u - point, w - point);
        const double area_after = length(after);
        const double new_quality = quality(area_after, opposite + dot(u - point, u - point) + dot(w - point, w - point));
        worst_after = std::min(worst_after, new_quality);
        if (old_quality > no_side && dot(before, after) <= least_cosine * area_before * area_after) return false;
    }
    return true;
}

bool Simplifier::is_valid(int32_t a, int32_t b, int multiplicity, const Vec3d& point, Rules rules) const {
    const int32_t na = ring_size_[a], nb = ring_size_[b];
    if (na + nb > (rules == Rules::any_topology ? most_neighbours / 8 : most_neighbours)) return false;
    if (rules == Rules::all && na + nb - 2 - multiplicity > std::max({na, nb, wanted_neighbours})) return false;
    if (rules != Rules::any_topology && !keeps_topology(a, b, multiplicity)) return false;
    double worst_before = 1, worst_after = 1;
    if (!keeps_sides(a, b, point, worst_before, worst_after) || !keeps_sides(b, a, point, worst_before, worst_after)) return false;
    const double least = rules == Rules::all ? std::max(options_.min_quality, no_side) : no_side;
    return worst_after >= std::min(least, worst_before);
}

}  // namespace tk::mesh
