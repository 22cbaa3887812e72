// Symmetric Dirichlet energy minimised with reweighted proxies: Rabinovich, Poranne, Panozzo and
// Sorkine-Hornung, "Scalable Locally Injective Mappings" (2017). The step is bounded by the first time at
// which a face would lose its area: Smith and Schaefer, "Bijective Parameterization with Free Boundaries"
// (2015).
#include <algorithm>
#include <cmath>

#include "unwrap_parameterise.hpp"
#include "unwrap_solver.hpp"

namespace tk::uv {
namespace {

double face_energy(const Jacobian& j) {
    const double det = j.det();
    if (!(det > 0)) return INFINITY;
    const double n = j.norm2();
    return n + n / (det * det);
}

// First t > 0 at which det(j + t d) = 0, or infinity.
double first_collapse(const Jacobian& j, const Jacobian& d) {
    const double a = d.det(), b = j.a * d.d + d.a * j.d - j.b * d.c - d.b * j.c, c = j.det();
    const double disc = b * b - 4 * a * c;
    if (!(disc >= 0)) return INFINITY;
    const double q = -0.5 * (b + std::copysign(std::sqrt(disc), b));
    double first = INFINITY;
    if (a != 0 && q / a > 0) first = q / a;
    if (q != 0 && c / q > 0) first = std::min(first, c / q);
    return first;
}

}  // namespace

void chart_edges(const Chart& chart, std::vector<int32_t>& pairs, std::vector<int32_t>& edge_of) {
    pairs.clear();
    edge_of.assign(chart.twin.size(), -1);
    for (int64_t h = 0; h < static_cast<int64_t>(chart.twin.size()); ++h) {
        if (chart.twin[h] >= 0 && chart.twin[h] < h) {
            edge_of[h] = edge_of[chart.twin[h]];
            continue;
        }
        edge_of[h] = static_cast<int32_t>(pairs.size() / 2);
        pairs.push_back(chart.corner[h]);
        pairs.push_back(chart.corner[next_half_edge(h)]);
    }
}

double minimise_distortion(const Chart& chart, const std::vector<Vec3d>& where, const std::vector<RestShape>& rest, const std::vector<uint8_t>& fixed,
                           int iterations, std::vector<Vec2d>& uv) {
    using Solver = BlockSolver<2>;
    const int64_t faces = chart.size(), n = chart.vertices();
    double total_area = 0;
    for (const RestShape& r : rest)
        if (r.active) total_area += r.area;
    if (!(total_area > 0)) return 4;
    auto mean_energy = [&](const std::vector<Vec2d>& at) {
        double sum = 0;
        for (int64_t f = 0; f < faces && sum < INFINITY; ++f)
            if (rest[f].active) sum += rest[f].area * face_energy(jacobian(chart, rest[f], f, at));
        return sum / total_area;
    };
    double energy = mean_energy(uv);
    if (!std::isfinite(energy) || iterations <= 0) return energy;

    std::vector<int32_t> pairs, edge_of;
    chart_edges(chart, pairs, edge_of);
    Solver solver(n, pairs, nested_dissection(where, pairs));
    std::vector<Solver::Block> diagonal(n), off_diagonal(pairs.size() / 2);
    std::vector<double> step(2 * n), gradient(2 * n);
    std::vector<Vec2d> direction(n), candidate(n);
    for (int iteration = 0; iteration < iterations; ++iteration) {
        std::fill(diagonal.begin(), diagonal.end(), Solver::Block{});
        std::fill(off_diagonal.begin(), off_diagonal.end(), Solver::Block{});
        std::fill(gradient.begin(), gradient.end(), 0.0);
        for (int64_t f = 0; f < faces; ++f) {
            const RestShape& r = rest[f];
            if (!r.active) continue;
            const Jacobian j = jacobian(chart, r, f, uv);
            // J = S R with R the nearest rotation; s1 and s2 are the singular values.
            const double ra = 0.5 * (j.a + j.d), rb = 0.5 * (j.c - j.b), e = std::hypot(ra, rb);
            const double spread = std::hypot(0.5 * (j.a - j.d), 0.5 * (j.b + j.c));
            const double cosine = ra / e, sine = rb / e;
            const double product = j.det(), s1 = e + spread, s2 = product / s1;
            const double sxx = j.a * cosine - j.b * sine, sxy = j.a * sine + j.b * cosine, syy = j.c * sine + j.d * cosine;
            // The weight of a singular value s is 1 + 1/s + 1/s^2 + 1/s^3, which makes the proxy's gradient
            // that of the energy; the matrix with these eigenvalues is alpha + beta S.
            const double p = 1 / product;
            const double beta = -p - (s1 + s2) * p * p - (s1 * s1 + product + s2 * s2) * p * p * p;
            const double i1 = 1 / s1;
            const double alpha = 1 + i1 + i1 * i1 + i1 * i1 * i1 - beta * s1;
            const double mxx = r.area * (alpha + beta * sxx), mxy = r.area * beta * sxy, myy = r.area * (alpha + beta * syy);
            const double da = j.a - cosine, db = j.b + sine, dc = j.c - sine, dd = j.d - cosine;
            const double ga = mxx * da + mxy * dc, gb = mxx * db + mxy * dd, gc = mxy * da + myy * dc, gd = mxy * db + myy * dd;
            for (int k = 0; k < 3; ++k) {
                const int32_t v = chart.corner[3 * f + k];
                gradient[2 * v] += ga * r.gx[k] + gb * r.gy[k];
                gradient[2 * v + 1] += gc * r.gx[k] + gd * r.gy[k];
                const double own = r.gx[k] * r.gx[k] + r.gy[k] * r.gy[k];
                Solver::Block& d = diagonal[v];
                d.m[0][0] += own * mxx;
                d.m[0][1] += own * mxy;
                d.m[1][0] += own * mxy;
                d.m[1][1] += own * myy;
                const int k1 = (k + 1) % 3;
                const double between = r.gx[k] * r.gx[k1] + r.gy[k] * r.gy[k1];
                Solver::Block& o = off_diagonal[edge_of[3 * f + k]];
                o.m[0][0] += between * mxx;
                o.m[0][1] += between * mxy;
                o.m[1][0] += between * mxy;
                o.m[1][1] += between * myy;
            }
        }
        // A translation changes nothing, so the matrix is singular without this.
        double trace = 0;
        for (const auto& d : diagonal) trace += d.m[0][0] + d.m[1][1];
        const double hold = 1e-8 * trace / static_cast<double>(2 * n);
        for (auto& d : diagonal) {
            d.m[0][0] += hold;
            d.m[1][1] += hold;
        }
        if (!fixed.empty()) {
            for (int64_t v = 0; v < n; ++v) {
                if (!fixed[v]) continue;
                diagonal[v] = {{{1, 0}, {0, 1}}};
                gradient[2 * v] = gradient[2 * v + 1] = 0;
            }
            for (size_t e = 0; e < off_diagonal.size(); ++e)
                if (fixed[pairs[2 * e]] || fixed[pairs[2 * e + 1]]) off_diagonal[e] = Solver::Block{};
        }
        if (!solver.factor(diagonal, off_diagonal)) break;
        for (int64_t i = 0; i < 2 * n; ++i) step[i] = -gradient[i];
        solver.solve(step);
        double slope = 0;
        for (int64_t i = 0; i < 2 * n; ++i) slope += step[i] * gradient[i];
        if (!(slope < 0)) break;
        for (int64_t v = 0; v < n; ++v) direction[v] = {step[2 * v], step[2 * v + 1]};
        double longest = INFINITY;
        for (int64_t f = 0; f < faces; ++f)
            if (rest[f].active) longest = std::min(longest, first_collapse(jacobian(chart, rest[f], f, uv), jacobian(chart, rest[f], f, direction)));
        double t = std::min(1.0, 0.9 * longest), reached = INFINITY;
        for (int attempt = 0; attempt < 12; ++attempt, t *= 0.5) {
            for (int64_t v = 0; v < n; ++v) candidate[v] = uv[v] + direction[v] * t;
            reached = mean_energy(candidate);
            // gradient holds half the derivative of the summed energy
            if (reached <= energy + 1e-4 * t * 2 * slope / total_area) break;
            reached = INFINITY;
        }
        if (!(reached < energy)) break;
        uv.swap(candidate);
        const double gain = energy - reached;
        energy = reached;
        if (gain < 2e-3 * energy) break;
        // From so bad a start it takes longer than laying out the two halves of the chart.
        if (iteration >= 8 && energy > 30) break;
    }
    return energy;
}

}  // namespace tk::uv
