// What a collapse costs, where its vertex goes and whether it is allowed: the rules of simplification, for the loops of
// simplify.cpp and the kernels of simplify_*.cu alike. They see the mesh through arrays that either of them holds.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "simplify_quadric.hpp"
#include "topology.hpp"
#include "triangle.hpp"

namespace tk::mesh {

// How far a round may go. Each is taken up only when the one before finds nothing left to collapse.
enum class Rules : int { all, any_shape, any_topology };
// Of vertices: on no boundary or edge of more than two faces; on a line of such edges; where such lines end or meet.
enum Kind : uint8_t { smooth, curve, corner };

struct SimplifyOptions {
    double regularization = 3e-4;
    double boundary_weight = 10;
    double min_quality = 0.1;
};

constexpr float forbidden_cost = std::numeric_limits<float>::infinity();
constexpr double unbounded = std::numeric_limits<double>::infinity();
// Vertices of more neighbours than these together wait until collapses around them have made them fewer, so
// that no check takes long.
constexpr int32_t most_neighbours = 2048;
// New vertices should not have many more neighbours than six.
constexpr int32_t wanted_neighbours = 20;
constexpr double least_cosine = 0.2;  // between a face's normals before and after
constexpr double no_side = 1e-6;      // a face of less quality has no normal to speak of
constexpr double sharp = 0.5;         // cosine between the normals at a crease
constexpr double crease_share = 0.1;  // of the weight of a boundary

// How many of the vertices' choices a round looks at, in order of cost: as many as faces are too many, since a serial
// collapse would take all of these too. Few of so few are found when little is left to do, so at least the cheapest 4 %.
inline int64_t rank_of_limit(int64_t num_faces, int64_t target_faces, int64_t slack) {
    const int64_t surplus = num_faces - target_faces;
    return (surplus > num_faces / 25 ? surplus : num_faces / 25) * slack;
}

TK_BOTH inline double least_of(double a, double b) { return b < a ? b : a; }

TK_BOTH inline uint32_t cost_bits(float cost) {  // in the order of the costs, which are not negative
    uint32_t bits;
    memcpy(&bits, &cost, sizeof bits);
    return bits;
}
// A permutation of all 32-bit numbers. It scrambles ties, which would otherwise be decided one after another along a row
// of vertices.
TK_BOTH inline uint32_t scramble(uint32_t x) {
    x ^= x >> 16;
    x *= 0x7feb352dU;
    x ^= x >> 15;
    x *= 0x846ca68bU;
    return x ^ (x >> 16);
}
TK_BOTH inline uint64_t edge_key(float cost, int32_t a, int32_t b) {
    const uint32_t low = static_cast<uint32_t>(a < b ? a : b), high = static_cast<uint32_t>(a < b ? b : a);
    return uint64_t{cost_bits(cost)} << 32 | scramble(scramble(low) + high);
}

// 4 sqrt(3) area / sum of squared sides: 1 for an equilateral triangle, 0 for one without area.
TK_BOTH inline double triangle_quality(double twice_area, double squared_sides) {
    return squared_sides > 0 ? 3.4641016151377544 * twice_area / squared_sides : 0;
}

// Who does the work of one check: a thread on the CPU, a few lanes of a warp on the device (simplify_device.cuh). Each takes
// every count()-th item from its own first() on; the rest gathers what they found, and all get the answer.
struct OneLane {
    TK_BOTH int first() const { return 0; }
    TK_BOTH int count() const { return 1; }
    TK_BOTH bool all(bool x) const { return x; }
    TK_BOTH int sum(int x) const { return x; }
    TK_BOTH double least(double x) const { return x; }
    TK_BOTH Quadric sum(const Quadric& x) const { return x; }
};

struct CollapseMesh {
    const Vec3d* positions;  // in units of the bounding box's diagonal, about its centre
    const Quadric* quadrics;
    const int32_t* faces;
    const int32_t *first, *last, *corners;  // those at vertex v are corners[first[v]] to corners[last[v] - 1], ascending
    // From ring_begin(v): the neighbours of v ascending, and how many faces the edge to each has (at most 255).
    const int32_t *ring_size, *ring_ids;
    const uint8_t* ring_multiplicity;
    const uint8_t* kinds;

    TK_BOTH const int32_t* begin(int64_t v) const { return corners + first[v]; }
    TK_BOTH const int32_t* end(int64_t v) const { return corners + last[v]; }
    TK_BOTH int64_t ring_begin(int64_t v) const { return 2 * int64_t{first[v]}; }
    TK_BOTH const int32_t* face_of(int32_t corner) const { return faces + (corner - corner % 3); }

    // Where in the rings the edge from a to b stands; -1 if there is none.
    TK_BOTH int64_t ring_slot(int32_t a, int32_t b) const {
        const int32_t* ids = ring_ids + ring_begin(a);
        int32_t low = 0, high = ring_size[a];
        while (low < high) {
            const int32_t middle = (low + high) >> 1;
            if (ids[middle] < b) low = middle + 1;
            else high = middle;
        }
        return low < ring_size[a] && ids[low] == b ? ring_begin(a) + low : -1;
    }

    // body(face at a, face at b, opposite) for the pairs of faces that the collapse of (a, b) lays onto one another.
    template <class Lanes, class Body>
    TK_BOTH void each_coincident(int32_t a, int32_t b, const Lanes& lanes, Body&& body) const {
        for (const int32_t* c = begin(a) + lanes.first(); c < end(a); c += lanes.count()) {
            const int32_t* face = face_of(*c);
            if (face[0] < 0) continue;
            const int32_t u = face[next_corner(*c % 3)], w = face[prev_corner(*c % 3)];
            if (u == b || w == b || ring_slot(b, u) < 0 || ring_slot(b, w) < 0) continue;
            for (const int32_t* d = begin(b); d < end(b); ++d) {
                const int32_t* other = face_of(*d);
                if (other[0] < 0) continue;
                const int32_t s = other[next_corner(*d % 3)], t = other[prev_corner(*d % 3)];
                if (!((s == u && t == w) || (s == w && t == u))) continue;
                body(*c / 3, *d / 3, s == w);
                break;
            }
        }
    }

    // Faces that the collapse of (a, b) takes away.
    template <class Lanes>
    TK_BOTH int32_t removed_by(int32_t a, int32_t b, int multiplicity, Rules rules, const Lanes& lanes) const {
        int32_t count = 0;
        if (rules == Rules::any_topology)
            each_coincident(a, b, lanes, [&](int32_t, int32_t, bool opposite) { count += opposite ? 2 : 1; });
        return multiplicity + lanes.sum(count);
    }

    // Whether a face between a and b becomes an edge that no other face has, so that part of the surface is gone.
    TK_BOTH bool leaves_bare_edge(int32_t a, int32_t b) const {
        for (const int32_t* c = begin(a); c < end(a); ++c) {
            const int32_t* face = face_of(*c);
            const int32_t s = face[next_corner(*c % 3)], t = face[prev_corner(*c % 3)];
            if (s != b && t != b) continue;
            const int32_t u = s == b ? t : s;
            int between = 0;  // faces of a, b and u
            for (const int32_t* d = begin(a); d < end(a); ++d) {
                const int32_t* other = face_of(*d);
                const int32_t x = other[next_corner(*d % 3)], y = other[prev_corner(*d % 3)];
                between += (x == b && y == u) || (x == u && y == b);
            }
            if (ring_multiplicity[ring_slot(a, u)] + ring_multiplicity[ring_slot(b, u)] <= 2 * between) return true;
        }
        return false;
    }

    // The vertex's kind, from the multiplicities in its ring.
    template <class Lanes>
    TK_BOTH uint8_t kind_from_ring(int64_t v, const Lanes& lanes) const {
        int boundary = 0, crowded = 0;
        for (int32_t i = lanes.first(); i < ring_size[v]; i += lanes.count()) {
            const uint8_t m = ring_multiplicity[ring_begin(v) + i];
            boundary += m == 1;
            crowded += m > 2;
        }
        return kind_of(lanes.sum(boundary), lanes.sum(crowded));
    }
    // From the number of its edges of one face, and of more than two.
    TK_BOTH static uint8_t kind_of(int boundary, int crowded) {
        if (boundary + crowded == 0) return smooth;
        return boundary + crowded == 2 && boundary != 1 ? curve : corner;
    }

    // What the collapse of (a, b) costs, and the point at which its vertex costs that.
    TK_BOTH float edge_cost(int32_t a, int32_t b, int multiplicity, Rules rules, Vec3d& point) const {
        if (a > b) {  // so that both ends compute the same bits
            const int32_t swap = a;
            a = b;
            b = swap;
        }
        if (ring_size[a] + ring_size[b] > most_neighbours) return forbidden_cost;
        const uint8_t ka = kinds[a], kb = kinds[b];
        if (rules != Rules::any_topology) {
            if (ka != smooth && kb != smooth && multiplicity == 2) return forbidden_cost;
            if (ka == corner && kb == corner) return forbidden_cost;
        }
        Quadric q = quadrics[a];
        q += quadrics[b];
        const Vec3d pa = positions[a], pb = positions[b];
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
        const double least = least_of(at_middle, least_of(at_a, at_b));
        point = least == at_middle ? middle : least == at_a ? pa : pb;
        return static_cast<float>(least);
    }

    // The link condition (Dey, Edelsbrunner, Guha, Nekhayev, "Topology preserving edge contraction", 1999) with
    // boundaries and edges of more than two faces closed off by an imagined vertex.
    template <class Lanes>
    TK_BOTH bool keeps_topology(int32_t a, int32_t b, int multiplicity, const Lanes& lanes) const {
        if (ring_size[a] + ring_size[b] > most_neighbours) return false;
        const bool a_is_smaller = ring_size[a] <= ring_size[b];
        const int32_t from = a_is_smaller ? a : b, to = a_is_smaller ? b : a;
        int n = 0;  // neighbours of both
        bool open = true;
        for (int32_t i = lanes.first(); i < ring_size[from]; i += lanes.count()) {
            const int64_t here = ring_begin(from) + i, there = ring_slot(to, ring_ids[here]);
            if (there < 0) continue;
            // With the edge itself, a triangle of edges that do not have two faces.
            if (multiplicity != 2 && ring_multiplicity[here] != 2 && ring_multiplicity[there] != 2) open = false;
            ++n;
        }
        n = lanes.sum(n);
        if (!lanes.all(open)) return false;
        if (n != multiplicity) return false;  // the two have neighbours in common beyond the faces between them
        // A triangle of the link: both of its sides' faces would become one.
        if (n < 2) return true;
        bool apart = true;
        each_coincident(from, to, lanes, [&](int32_t, int32_t, bool) { apart = false; });
        return lanes.all(apart);
    }

    // Whether the faces at `moved` keep their side when it moves, save those that contain `other` and vanish. Lowers
    // `worst_before` and `worst_after` to the least quality of the faces before, and of those left after.
    template <class Lanes>
    TK_BOTH bool keeps_sides(int32_t moved, int32_t other, const Vec3d& point, double& worst_before, double& worst_after,
                             const Lanes& lanes) const {
        const Vec3d from = positions[moved];
        for (const int32_t* c = begin(moved) + lanes.first(); c < end(moved); c += lanes.count()) {
            const int32_t* face = face_of(*c);
            const int32_t iu = face[next_corner(*c % 3)], iw = face[prev_corner(*c % 3)];
            const Vec3d u = positions[iu], w = positions[iw], far = w - u;
            const double opposite = dot(far, far);
            const Vec3d before = cross(u - from, w - from);
            const double area_before = length(before);
            const double old_quality = triangle_quality(area_before, opposite + dot(u - from, u - from) + dot(w - from, w - from));
            worst_before = least_of(worst_before, old_quality);
            if (iu == other || iw == other) continue;
            const Vec3d after = cross(u - point, w - point);
            const double area_after = length(after);
            const double new_quality = triangle_quality(area_after, opposite + dot(u - point, u - point) + dot(w - point, w - point));
            worst_after = least_of(worst_after, new_quality);
            if (old_quality > no_side && dot(before, after) <= least_cosine * area_before * area_after) return false;
        }
        return true;
    }

    template <class Lanes>
    TK_BOTH bool is_valid(int32_t a, int32_t b, int multiplicity, const Vec3d& point, Rules rules, double min_quality,
                          const Lanes& lanes) const {
        const int32_t na = ring_size[a], nb = ring_size[b];
        if (na + nb > (rules == Rules::any_topology ? most_neighbours / 8 : most_neighbours)) return false;
        if (rules == Rules::all) {
            const int32_t larger = na > nb ? na : nb;
            if (na + nb - 2 - multiplicity > (larger > wanted_neighbours ? larger : wanted_neighbours)) return false;
        }
        if (rules != Rules::any_topology && !keeps_topology(a, b, multiplicity, lanes)) return false;
        double worst_before = 1, worst_after = 1;
        const bool same_side = keeps_sides(a, b, point, worst_before, worst_after, lanes) &&
                               keeps_sides(b, a, point, worst_before, worst_after, lanes);
        if (!lanes.all(same_side)) return false;
        const double least = rules == Rules::all && min_quality > no_side ? min_quality : no_side;
        return lanes.least(worst_after) >= least_of(least, lanes.least(worst_before));
    }

    // The quadric of a vertex as given: planes and centroids of its faces, planes across its boundaries and creases.
    template <class Lanes>
    TK_BOTH Quadric quadric_of(int32_t v, const SimplifyOptions& options, const Lanes& lanes) const {
        Quadric q;
        for (const int32_t* c = begin(v) + lanes.first(); c < end(v); c += lanes.count()) {
            const int i = *c % 3;
            const int32_t* face = face_of(*c);
            const Vec3d p = positions[face[0]], r = positions[face[1]], s = positions[face[2]];
            const Vec3d normal = cross(r - p, s - p);
            const double area = 0.5 * length(normal);
            const Vec3d unit = normalized(normal);
            q.add_plane(unit, p, area);
            q.add_point((p + r + s) * (1.0 / 3), options.regularization * area);
            q.weight += area;
            // The two edges of this face at v: a plane through a boundary, across the face, and a weaker one through a
            // sharp crease. Without that the rims of thin sheets, which have next to no area, would weigh nothing.
            for (int backward = 0; backward < 2; ++backward) {
                const int32_t other = face[backward ? prev_corner(i) : next_corner(i)];
                double w = options.boundary_weight;
                if (ring_multiplicity[ring_slot(v, other)] == 2) {
                    if (dot(unit, normal_across(v, other, *c / 3, backward)) > sharp) continue;
                    w *= crease_share;
                }
                const Vec3d edge = positions[other] - positions[v];
                q.add_plane(normalized(cross(edge, unit)), positions[v], w * dot(edge, edge));
            }
        }
        return lanes.sum(q);
    }

    // Unit normal of the other face at the edge (a, b), turned to the side on which a face that runs from a to b, or with
    // `backward` from b to a, has its own: neighbours may disagree in orientation.
    TK_BOTH Vec3d normal_across(int32_t a, int32_t b, int32_t not_this, bool backward) const {
        // The face is found at either end: the one of fewer faces, for the other may be a hub.
        const bool at_b = last[b] - first[b] < last[a] - first[a];
        const int32_t centre = at_b ? b : a, rim = at_b ? a : b;
        for (const int32_t* c = begin(centre); c < end(centre); ++c) {
            const int32_t* face = face_of(*c);
            const bool from_centre = face[next_corner(*c % 3)] == rim;
            if (*c / 3 == not_this || (!from_centre && face[prev_corner(*c % 3)] != rim)) continue;
            const Vec3d p = positions[face[0]], r = positions[face[1]], s = positions[face[2]];
            return normalized(cross(r - p, s - p)) * ((from_centre != at_b) == backward ? 1.0 : -1.0);
        }
        return {0, 0, 0};
    }

    // Squared distance from `p` to the surface: from the faces around `start`, on to those around the corners of the
    // closest so far, until that brings nothing. Never less than the true distance.
    TK_BOTH double nearby_distance2(const Vec3d& p, int32_t start) const {
        double least = unbounded;
        int32_t around[3] = {start, start, start};
        for (bool closer = true; closer;) {
            closer = false;
            const int32_t centres[3] = {around[0], around[1], around[2]};
            for (int i = 0; i < 3; ++i) {
                if (i > 0 && centres[i] == centres[0]) continue;
                for (const int32_t* c = begin(centres[i]); c < end(centres[i]); ++c) {
                    const int32_t* face = face_of(*c);
                    const double d = triangle_distance2(positions[face[0]] - p, positions[face[1]] - p, positions[face[2]] - p);
                    if (!(d < least)) continue;
                    least = d;
                    around[0] = face[0];
                    around[1] = face[1];
                    around[2] = face[2];
                    closer = true;
                }
            }
        }
        return least;
    }
};

}  // namespace tk::mesh
