#include "unwrap_measure.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"
#include "unwrap_overlap.hpp"
#include "unwrap_stretch.hpp"

namespace tk::uv {
namespace {

constexpr int64_t grain = 1 << 12;
enum Fault : uint8_t { flipped = 1, overlapping = 2, outside = 4, without_texels = 8 };

// Faces that share an edge, by vertex numbers, are of one chart; charts are numbered by their first face.
int64_t number_charts(const int32_t* faces, int64_t num_faces, int32_t* face_chart) {
    const int64_t n = 3 * num_faces;
    std::vector<uint64_t> keys(n);
    std::vector<int32_t> face(n), parent(num_faces);
    parallel_for(n, grain, [&](int64_t h) {
        const uint32_t a = faces[h], b = faces[h % 3 == 2 ? h - 2 : h + 1];
        keys[h] = static_cast<uint64_t>(std::min(a, b)) << 32 | std::max(a, b);
        face[h] = static_cast<int32_t>(h / 3);
    });
    for (int64_t f = 0; f < num_faces; ++f) parent[f] = static_cast<int32_t>(f);
    stable_sort_by_key(keys, face);
    auto root = [&](int32_t f) {
        while (parent[f] != f) f = parent[f] = parent[parent[f]];
        return f;
    };
    for (int64_t i = 1; i < n; ++i)
        if (keys[i] == keys[i - 1]) {
            const int32_t a = root(face[i - 1]), b = root(face[i]);
            parent[std::max(a, b)] = std::min(a, b);
        }
    int32_t charts = 0;
    for (int64_t f = 0; f < num_faces; ++f) face_chart[f] = root(static_cast<int32_t>(f)) == f ? charts++ : face_chart[root(static_cast<int32_t>(f))];
    return charts;
}

}  // namespace

void measure(const float* vertices, const int32_t* faces, const float* uv, int64_t num_vertices, int64_t num_faces, int resolution,
             double small_chart_texels, double* out, int32_t* face_chart, uint8_t* face_fault) {
    for (int64_t i = 0; i < 3 * num_faces; ++i) {
        const int64_t v = faces[i];
        require(v >= 0 && v < num_vertices, format("faces: expected vertex indices in [0, %lld), got %lld", static_cast<long long>(num_vertices), static_cast<long long>(v)));
        for (int k = 0; k < 2; ++k)
            require(std::abs(uv[2 * v + k]) <= 1 << 20, format("uv: expected coordinates in [-2^20, 2^20], got %g in row %lld", uv[2 * v + k], static_cast<long long>(v)));
        for (int k = 0; k < 3; ++k)
            require(std::isfinite(vertices[3 * v + k]), format("vertices: expected finite coordinates, got %g in vertex %lld", vertices[3 * v + k], static_cast<long long>(v)));
    }
    const int64_t components = number_charts(faces, num_faces, face_chart);

    std::vector<FaceStretch> stretch(num_faces);
    std::vector<Vec2d> corners(3 * num_faces);
    std::vector<uint8_t> degenerate(num_faces);  // on the surface: its stretch means nothing
    parallel_for(num_faces, grain, [&](int64_t f) {
        const int32_t* i = faces + 3 * f;
        const float *a = vertices + 3 * int64_t{i[0]}, *b = vertices + 3 * int64_t{i[1]}, *c = vertices + 3 * int64_t{i[2]};
        stretch[f] = face_stretch(a, b, c, uv + 2 * int64_t{i[0]}, uv + 2 * int64_t{i[1]}, uv + 2 * int64_t{i[2]});
        const Vec3d p[3] = {{a[0], a[1], a[2]}, {b[0], b[1], b[2]}, {c[0], c[1], c[2]}};
        double longest = 0;
        for (int k = 0; k < 3; ++k) {
            longest = std::max(longest, length(p[(k + 1) % 3] - p[k]));
            corners[3 * f + k] = {uv[2 * int64_t{i[k]}], uv[2 * int64_t{i[k]} + 1]};
        }
        degenerate[f] = !(2 * stretch[f].surface_area > 1e-5 * longest * longest);
    });
    std::vector<double> chart_area(components, 0.0);  // signed
    for (int64_t f = 0; f < num_faces; ++f) chart_area[face_chart[f]] += stretch[f].texture_area;
    const TriangleTree tree(corners, measure_tolerance);
    std::vector<uint8_t> turned(num_faces);
    parallel_for(num_faces, 256, [&](int64_t f) {
        uint8_t fault = 0;
        // A chart may lie mirrored as a whole; within one no face may be turned against the others.
        const bool against = chart_area[face_chart[f]] < 0;
        const double height = signed_height(corners[3 * f], corners[3 * f + 1], corners[3 * f + 2]);
        if ((against ? -height : height) < -measure_tolerance) fault |= flipped;
        turned[f] = against && height < -measure_tolerance;
        if (tree.overlapped_by(f) >= 0) fault |= overlapping;
        for (int k = 0; k < 3; ++k) {
            const Vec2d& p = corners[3 * f + k];
            if (p.x < 0 || p.x > 1 || p.y < 0 || p.y > 1) fault |= outside;
        }
        if (!degenerate[f] && stretch[f].texture_area == 0) fault |= without_texels;
        face_fault[f] = fault;
    });

    double texture_area = 0, surface_area = 0, squares = 0, largest = 0, texels = 0;
    double faults[4] = {0, 0, 0, 0};
    std::vector<double> covered(components, 0.0);
    std::vector<uint8_t> is_mirrored(components, 0);
    for (int64_t f = 0; f < num_faces; ++f) {
        for (int k = 0; k < 4; ++k) faults[k] += face_fault[f] >> k & 1;
        const double area = std::abs(stretch[f].texture_area);
        texture_area += area;
        covered[face_chart[f]] += area;
        is_mirrored[face_chart[f]] |= turned[f];
        if (degenerate[f] || !(area > 0)) continue;
        surface_area += stretch[f].surface_area;
        texels += area;
        squares += stretch[f].surface_area * 0.5 * (stretch[f].largest * stretch[f].largest + stretch[f].smallest * stretch[f].smallest);
        largest = std::max(largest, stretch[f].largest);
    }
    double charts = 0, mirrored = 0, small = 0;
    for (int64_t c = 0; c < components; ++c) {
        if (!(covered[c] > 0)) continue;
        ++charts;
        mirrored += is_mirrored[c];
        small += covered[c] * resolution * resolution < small_chart_texels;
    }
    // Both norms in units where a layout of even density without distortion has 1.
    const double unit = surface_area > 0 ? std::sqrt(texels / surface_area) : 0;
    const double figures[10] = {charts, mirrored, small, surface_area > 0 ? std::sqrt(squares / surface_area) * unit : 0, largest * unit, texture_area,
                                faults[0], faults[1], faults[2], faults[3]};
    std::copy(figures, figures + 10, out);
}

}  // namespace tk::uv
