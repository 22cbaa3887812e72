// Lays one chart out in the plane.
#pragma once

#include "unwrap_chart.hpp"

namespace tk::uv {

struct LayoutOptions {
    double max_stretch = 4.0;  // of any face that is not thin: largest singular value, or inverse of the smallest
    double max_energy = 4.5;   // mean symmetric Dirichlet energy; an isometry has 4, a scaling by 1.2 has 4.3
    int iterations = 20;       // of the distortion minimisation, at most
};

// A layout finer than this is below the resolution of texture coordinates (units of the surface's positions).
constexpr double layout_tolerance = 1.0 / (1 << 24);

enum class Layout {
    whole,     // the chart has a valid layout
    partial,   // so it has without the few faces marked in `rejected`
    impossible // none was found: split it
};

// Fills chart.uv: a layout without turned or overlapping faces whose distortion is within the options, with
// the area that the chart has on the surface. The start is the projection along the mean normal, with folds
// smoothed out, or Tutte's embedding, for which the chart is cut to a disk. A single face is always whole.
Layout lay_out(const Surface& surface, Chart& chart, const LayoutOptions& options, std::vector<uint8_t>& rejected);

// Scales the chart's layout to the area that the chart has on the surface. False when it has none.
bool restore_area(const Surface& surface, const Chart& chart, std::vector<Vec2d>& uv);

// Two starts of a layout. `turned[f]` marks the faces, thin ones apart, that are turned over or on edge in it.
struct Projection {
    double turned_share;  // of the chart's area
    double max_stretch;   // of any face, infinite when one is turned
};
Projection project(const Surface& surface, const Chart& chart, const std::vector<Vec3d>& where, std::vector<Vec2d>& uv, std::vector<uint8_t>& turned);
bool embed(const Chart& chart, const std::vector<Vec3d>& where, std::vector<Vec2d>& uv);

// Smooths the layout in growing neighbourhoods of the turned faces until none is left, or for a few rounds.
void untangle(const Surface& surface, const Chart& chart, std::vector<Vec2d>& uv, std::vector<uint8_t>& turned);

// The shape of a face on the surface: gradients of its three hat functions in its own plane.
struct RestShape {
    double gx[3], gy[3];
    double area;
    bool active;  // takes part in the minimisation
};

RestShape rest_shape(const Surface& surface, const Chart& chart, const std::vector<Vec3d>& where, int64_t face);
std::vector<Vec3d> vertex_positions(const Surface& surface, const Chart& chart);

// Minimises the mean symmetric Dirichlet energy of the active faces, none of which may be turned; none will
// be. Vertices with fixed[v] stay (`fixed` may be empty). Returns the mean energy reached.
double minimise_distortion(const Chart& chart, const std::vector<Vec3d>& where, const std::vector<RestShape>& rest, const std::vector<uint8_t>& fixed,
                           int iterations, std::vector<Vec2d>& uv);

// Jacobian of the layout of face f: columns are images of the axes of the face's plane.
struct Jacobian {
    double a, b, c, d;  // [[a, b], [c, d]]
    double det() const { return a * d - b * c; }
    double norm2() const { return a * a + b * b + c * c + d * d; }
};
inline Jacobian jacobian(const Chart& chart, const RestShape& r, int64_t f, const std::vector<Vec2d>& uv) {
    Jacobian j{0, 0, 0, 0};
    for (int k = 0; k < 3; ++k) {
        const Vec2d& p = uv[chart.corner[3 * f + k]];
        j.a += p.x * r.gx[k];
        j.b += p.x * r.gy[k];
        j.c += p.y * r.gx[k];
        j.d += p.y * r.gy[k];
    }
    return j;
}

// True when no direction in the face is stretched or squeezed by more than `limit`, and it is not turned.
bool within_stretch(const Jacobian& jacobian, double limit);

// Pairs of vertices joined by an edge of the chart, once for each edge, and the edge of each half-edge.
void chart_edges(const Chart& chart, std::vector<int32_t>& pairs, std::vector<int32_t>& edge_of);

}  // namespace tk::uv
