// Layouts of all charts at once. A vertex moves by Newton's method on the symmetric Dirichlet energy of the faces
// around it while its neighbours rest: vertices of one colour share no face, so all of them move together, no face
// is turned, and no chart needs a solver or a line search of its own. Folds of the projection are first undone with
// the same moves on an energy that is finite on turned faces: Garanzha, Kaporin, Kudryavtseva, Protais, Ray and
// Sokolov, "Foldover-free maps in 50 lines of code" (2021).
#pragma once

#include "unwrap_flat_cluster.hpp"
#include "unwrap_surface.hpp"
#include "unwrap_tree.hpp"

namespace tk::uv::flat {

// A face on the surface, its first corner at the origin and the second at (1 / a, 0): the map from the layout's edges
// to the Jacobian. Columns are du1 * a and (du2 - du1 * b) * c.
struct Rest {
    double a, b, c, area;
};
TK_BOTH inline Rest read_rest(const double* rest, int64_t f) { return {rest[4 * f], rest[4 * f + 1], rest[4 * f + 2], rest[4 * f + 3]}; }

struct MakeRest {
    const double* position;
    const int32_t* point;
    const uint8_t* kind;
    double* rest;
    TK_BOTH void operator()(int64_t f) const {
        const Vec3d o = read3(position, point[3 * f]), u = read3(position, point[3 * f + 1]) - o, v = read3(position, point[3 * f + 2]) - o;
        const double l = length(u), x = l > 0 ? dot(u, v) / l : 0;
        double y = l > 0 ? length(tk::cross(u, v)) / l : 0;
        if (kind[f] == thin) {  // its true shape has no usable gradients; one a little taller only keeps it from turning
            const double longest = sqrt(fmax(dot(u, u), fmax(dot(v, v), dot(v - u, v - u))));
            y = fmax(y, 0.02 * longest);
        }
        const bool good = l > 0 && y > 0;
        rest[4 * f] = good ? 1 / l : 0;
        rest[4 * f + 1] = good ? x / l : 0;
        rest[4 * f + 2] = good ? 1 / y : 0;
        rest[4 * f + 3] = good ? 0.5 * l * y : 0;
    }
};

struct Matrix2 {
    double a, b, c, d;  // [[a, b], [c, d]]
    TK_BOTH double det() const { return a * d - b * c; }
    TK_BOTH double norm2() const { return a * a + b * b + c * c + d * d; }
};
TK_BOTH inline Vec2d read2(const double* from, int64_t i) { return {from[2 * i], from[2 * i + 1]}; }
TK_BOTH inline Matrix2 jacobian(const Rest& r, const Vec2d& u0, const Vec2d& u1, const Vec2d& u2) {
    const Vec2d d1 = u1 - u0, d2 = u2 - u0;
    return {d1.x * r.a, (d2.x - d1.x * r.b) * r.c, d1.y * r.a, (d2.y - d1.y * r.b) * r.c};
}
TK_BOTH inline Matrix2 face_jacobian(const double* rest, const int32_t* corner, const double* uv, int64_t f) {
    return jacobian(read_rest(rest, f), read2(uv, corner[3 * f]), read2(uv, corner[3 * f + 1]), read2(uv, corner[3 * f + 2]));
}

struct Project {  // along the chart's mean normal
    const double* position;
    const int32_t *vertex_point, *vertex_chart;
    const int64_t* sums;
    double* uv;
    TK_BOTH void operator()(int64_t v) const {
        Vec3d n = chart_direction(sums, vertex_chart[v]);
        if (!(dot(n, n) > 0)) n = {0, 0, 1};
        const Vec3d helper = fabs(n.x) < 0.6 ? Vec3d{1, 0, 0} : Vec3d{0, 1, 0};
        const Vec3d x = normalized(tk::cross(helper, n)), y = tk::cross(n, x), p = read3(position, vertex_point[v]);
        uv[2 * v] = dot(p, x);
        uv[2 * v + 1] = dot(p, y);
    }
};

// Each vertex takes the least colour that no neighbour before it (in an order by a hash) has: Jones and Plassmann
// (1993). The result does not depend on who comes first.
struct Colour {
    const int32_t *corner, *ring_first, *ring;
    int32_t *colour, *left;
    TK_BOTH static uint32_t hash(uint32_t x) {
        x ^= x >> 16;
        x *= 0x7feb352du;
        x ^= x >> 15;
        x *= 0x846ca68bu;
        return x ^ x >> 16;
    }
    TK_BOTH void operator()(int64_t v) const {
        if (colour[v] >= 0) return;
        const uint32_t own = hash(static_cast<uint32_t>(v));
        uint64_t used = 0;
        for (int32_t i = ring_first[v]; i < ring_first[v + 1]; ++i)
            for (int side = 0; side < 2; ++side) {
                const int32_t w = corner[side ? next_corner(ring[i]) : previous_corner(ring[i])];
                const uint32_t other = hash(static_cast<uint32_t>(w));
                if (w == v || other < own || (other == own && w > v)) continue;
                const int32_t c = load(colour + w);
                if (c < 0) {
                    *left = 1;
                    return;
                }
                used |= uint64_t{1} << (c < 63 ? c : 63);
            }
        int32_t c = 0;
        while (c < 63 && (used >> c & 1)) ++c;
        store(colour + v, c);  // 63: crowded, such vertices stay where they are
    }
};

struct Activate {  // faces that take part in moving: all that have a shape, or those that are not turned
    const double *rest, *uv;
    const int32_t* corner;
    const uint8_t* kind;
    int turned_too;
    uint8_t* active;
    TK_BOTH void operator()(int64_t f) const {
        const bool shaped = rest[4 * f + 3] > 0;
        active[f] = shaped && (turned_too || face_jacobian(rest, corner, uv, f).det() > (kind[f] == thin ? 1e-4 : 1e-6));
    }
};

// The terms of the first faces of a ring are kept between the steps that are tried, and those of all of them are asked for at
// once, whether the ring has so many or not: a thread that waits for one after the other takes several times as long.
struct Move {
    const int32_t *list, *corner, *ring_first, *ring;
    const double* rest;
    const uint8_t *active, *pinned;
    double softness;  // 0: turned faces have infinite energy
    double* uv;

    static constexpr int kept = 8, attempts = 6;

    struct Term {  // of one face as its corner k moves
        double n, det, g2, area;
        Vec2d a, w;
    };
    TK_BOTH Term term(int64_t f, int k) const {
        const Rest r = read_rest(rest, f);
        const Matrix2 j = jacobian(r, read2(uv, corner[3 * f]), read2(uv, corner[3 * f + 1]), read2(uv, corner[3 * f + 2]));
        const Vec2d g1{r.a, -r.b * r.c}, g2{0, r.c};
        const Vec2d g = k == 1 ? g1 : k == 2 ? g2 : Vec2d{-g1.x - g2.x, -g1.y - g2.y};
        return {j.norm2(), j.det(), dot(g, g), r.area, {j.a * g.x + j.b * g.y, j.c * g.x + j.d * g.y}, {j.d * g.x - j.c * g.y, j.a * g.y - j.b * g.x}};
    }
    struct Ring {
        int32_t first, last;
        Term terms[kept];
        uint32_t counts;  // bits of the kept terms that exist and take part
    };
    TK_BOTH void read(int64_t v, Ring& own) const {
        own.first = ring_first[v];
        own.last = ring_first[v + 1];
        own.counts = 0;
        if (own.first == own.last) return;
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
        for (int k = 0; k < kept; ++k) {
            const int32_t at = own.first + k < own.last ? own.first + k : own.last - 1, c = ring[at];
            own.terms[k] = term(c / 3, c % 3);
            if (own.first + k < own.last && active[c / 3]) own.counts |= 1u << k;
        }
    }
    // Calls use(term) for each face that takes part, in the order of the ring.
    template <class Use>
    TK_BOTH void each(const Ring& own, const Use& use) const {
#ifdef __CUDA_ARCH__
#pragma unroll
#endif
        for (int k = 0; k < kept; ++k)
            if (own.counts >> k & 1) use(own.terms[k]);
        for (int32_t at = own.first + kept; at < own.last; ++at)
            if (active[ring[at] / 3]) use(term(ring[at] / 3, ring[at] % 3));
    }

    TK_BOTH double energy(const Term& t, const Vec2d& p) const {
        double det = t.det + dot(p, t.w);
        if (softness > 0) det = 0.5 * (det + sqrt(det * det + softness * softness));
        if (!(det > 0)) return INFINITY;
        return t.area * (t.n + 2 * dot(p, t.a) + dot(p, p) * t.g2) * (1 + 1 / (det * det));
    }

    struct Slopes {  // of the energy of a ring: its value, gradient, convex part of the second derivative and the rest of it
        double now = 0, gx = 0, gy = 0, xx = 0, xy = 0, yy = 0, cxx = 0, cxy = 0, cyy = 0;
        bool stuck = false;  // infinite as it is
    };
    TK_BOTH void add_slopes(const Term& t, Slopes& s) const {
        double x = t.det, x1 = 1, x2 = 0;
        if (softness > 0) {
            const double root = sqrt(t.det * t.det + softness * softness);
            x = 0.5 * (t.det + root);
            x1 = 0.5 * (1 + t.det / root);
            x2 = 0.5 * softness * softness / (root * root * root);
        }
        if (!(x > 0)) s.stuck = true;
        const double i1 = 1 / x, m = 1 + i1 * i1, m1 = -2 * x1 * i1 * i1 * i1;
        const double m2 = fmax(0.0, 6 * x1 * x1 * i1 * i1 * i1 * i1 - 2 * x2 * i1 * i1 * i1);
        s.now += t.area * t.n * m;
        s.gx += t.area * (2 * m * t.a.x + t.n * m1 * t.w.x);
        s.gy += t.area * (2 * m * t.a.y + t.n * m1 * t.w.y);
        s.xx += t.area * (2 * m * t.g2 + t.n * m2 * t.w.x * t.w.x);
        s.yy += t.area * (2 * m * t.g2 + t.n * m2 * t.w.y * t.w.y);
        s.xy += t.area * t.n * m2 * t.w.x * t.w.y;
        s.cxx += t.area * 4 * m1 * t.a.x * t.w.x;
        s.cyy += t.area * 4 * m1 * t.a.y * t.w.y;
        s.cxy += t.area * 2 * m1 * (t.a.x * t.w.y + t.a.y * t.w.x);
    }
    // Newton's step, false where there is none that is worth trying.
    TK_BOTH static bool step_down(const Slopes& s, Vec2d& step) {
        double xx = s.xx, xy = s.xy, yy = s.yy;
        // The whole second derivative where it is convex, else its convex part.
        const double fxx = xx + s.cxx, fyy = yy + s.cyy, fxy = xy + s.cxy;
        if (fxx > 0 && fxx * fyy - fxy * fxy > 1e-3 * (xx * yy - xy * xy)) {
            xx = fxx;
            yy = fyy;
            xy = fxy;
        }
        const double det = xx * yy - xy * xy;
        if (!(det > 0)) return false;
        step = {-(yy * s.gx - xy * s.gy) / det, -(xx * s.gy - xy * s.gx) / det};
        return -(s.gx * step.x + s.gy * step.y) > 1e-5 * s.now;
    }

    TK_BOTH void operator()(int64_t i) const {
        const int64_t v = list[i];
        if (pinned && pinned[v]) return;
        Ring own;
        read(v, own);
        Slopes slopes;
        each(own, [&](const Term& t) { add_slopes(t, slopes); });
        Vec2d step{0, 0};
        if (slopes.stuck || !step_down(slopes, step)) return;
        double whole = 0;
        each(own, [&](const Term& t) { whole += energy(t, step); });
        double share = 1;
        if (!(whole < slopes.now)) {  // the longest of the shorter steps that gains, all tried together
            double shorter[attempts - 1] = {};
            each(own, [&](const Term& t) {
                double part = 1;
                for (double& sum : shorter) {
                    part *= 0.5;
                    sum += energy(t, step * part);
                }
            });
            int tried = 0;
            for (share = 0.5; tried < attempts - 1 && !(shorter[tried] < slopes.now); ++tried) share *= 0.5;
            if (tried == attempts - 1) return;
        }
        uv[2 * v] += step.x * share;
        uv[2 * v + 1] += step.y * share;
    }
};

// Sums for scaling each chart's layout to its area on the surface, over regular faces that are not turned:
// texture area, surface area, energy of the layout.
struct LayoutSums {
    const double *rest, *uv, *area;
    const int32_t *corner, *label;
    const uint8_t *kind, *out;  // `out` may be null
    int64_t* sums;
    TK_BOTH void operator()(int64_t f) const {
        if (kind[f] != regular || (out && out[f])) return;
        const Matrix2 j = face_jacobian(rest, corner, uv, f);
        const double det = j.det();
        if (!(det > 0)) return;
        int64_t* s = sums + 3 * int64_t{label[f]};
        add(s, fixed(det * area[f]));
        add(s + 1, fixed(area[f]));
        add(s + 2, fixed(area[f] * fmin(1000.0, j.norm2() * (1 + 1 / (det * det)))));
    }
};
struct Rescale {
    const int64_t* sums;
    const int32_t* vertex_chart;
    double* uv;
    TK_BOTH void operator()(int64_t v) const {
        const int64_t* s = sums + 3 * int64_t{vertex_chart[v]};
        if (!(s[0] > 0 && s[1] > 0)) return;
        const double scale = sqrt(real(s[1]) / real(s[0]));
        uv[2 * v] *= scale;
        uv[2 * v + 1] *= scale;
    }
};

// Faces that may not stay in this layout: turned, or stretched beyond the limit.
struct JudgeFace {
    const double *rest, *uv;
    const int32_t* corner;
    const uint8_t* kind;
    double max_stretch, tolerance;
    uint8_t* out;
    TK_BOTH void operator()(int64_t f) const {
        const Vec2d p[3] = {read2(uv, corner[3 * f]), read2(uv, corner[3 * f + 1]), read2(uv, corner[3 * f + 2])};
        bool bad = height_of(p[0], p[1], p[2]) < -tolerance;
        if (kind[f] == regular && !bad) {
            const Matrix2 j = face_jacobian(rest, corner, uv, f);
            const double det = j.det(), n = j.norm2(), s1 = sqrt(0.5 * (n + sqrt(fmax(0.0, n * n - 4 * det * det))));
            bad = !(det > 0 && s1 <= max_stretch && det * max_stretch >= s1);
        }
        out[f] = bad;
    }
};

}  // namespace tk::uv::flat
