#include "unwrap_surface.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"

namespace tk::uv {
namespace {

constexpr int64_t grain = 1 << 12;

uint32_t coordinate_bits(float value) {
    if (value == 0.0f) value = 0.0f;  // -0 and +0 are one coordinate
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// The point of each vertex: vertices with equal coordinates share one. Returns the number of points.
int64_t weld(const float* vertices, int64_t n, std::vector<int32_t>& point_of_vertex, std::vector<int32_t>& first_vertex) {
    std::vector<int32_t> order(n);
    std::vector<uint64_t> keys(n);
    parallel_for(n, grain, [&](int64_t i) {
        order[i] = static_cast<int32_t>(i);
        keys[i] = coordinate_bits(vertices[3 * i + 2]);
    });
    stable_sort_by_key(keys, order);
    auto xy = [&](int32_t v) {
        return (static_cast<uint64_t>(coordinate_bits(vertices[3 * int64_t{v}])) << 32) | coordinate_bits(vertices[3 * int64_t{v} + 1]);
    };
    parallel_for(n, grain, [&](int64_t i) { keys[i] = xy(order[i]); });
    stable_sort_by_key(keys, order);
    point_of_vertex.resize(n);
    int64_t points = 0;
    for (int64_t i = 0; i < n; ++i) {
        const bool same = i > 0 && keys[i] == keys[i - 1] &&
                          coordinate_bits(vertices[3 * int64_t{order[i]} + 2]) == coordinate_bits(vertices[3 * int64_t{order[i - 1]} + 2]);
        if (!same) {
            first_vertex.push_back(order[i]);
            ++points;
        }
        point_of_vertex[order[i]] = static_cast<int32_t>(points - 1);
    }
    return points;
}

void measure_faces(Surface& s) {
    s.normal.resize(s.num_faces);
    s.area.resize(s.num_faces);
    parallel_for(s.num_faces, grain, [&](int64_t f) {
        const Vec3d &a = s.position[s.point[3 * f]], &b = s.position[s.point[3 * f + 1]], &c = s.position[s.point[3 * f + 2]];
        const Vec3d n = cross(b - a, c - a);
        s.area[f] = s.kind[f] == collapsed ? 0.0 : 0.5 * length(n);
        s.normal[f] = s.kind[f] == collapsed ? Vec3d{0, 0, 0} : normalized(n);
    });
}

// Scales positions about the bounding box so that areas neither overflow nor vanish, then to total area 1.
void normalise_scale(Surface& s, const std::vector<uint8_t>& used) {
    Vec3d low{INFINITY, INFINITY, INFINITY}, high{-INFINITY, -INFINITY, -INFINITY};
    for (int64_t p = 0; p < s.num_points; ++p) {
        if (!used[p]) continue;
        for (int k = 0; k < 3; ++k) {
            low[k] = std::min(low[k], s.position[p][k]);
            high[k] = std::max(high[k], s.position[p][k]);
        }
    }
    const Vec3d size = high - low;
    const double extent = std::max({size.x, size.y, size.z});
    if (!(extent > 0)) return;
    const Vec3d centre = (low + high) * 0.5;
    parallel_for(s.num_points, grain, [&](int64_t p) { s.position[p] = (s.position[p] - centre) * (1.0 / extent); });
    measure_faces(s);
    const double area = parallel_sum<double>(s.num_faces, grain, [&](int64_t f) { return s.area[f]; });
    // Below this the area is what rounding makes of collinear points.
    if (!(area > 1e-13)) return;
    s.has_area = true;
    const double scale = 1.0 / std::sqrt(area);
    parallel_for(s.num_points, grain, [&](int64_t p) { s.position[p] = s.position[p] * scale; });
}

void classify_faces(Surface& s) {
    // Thin against the whole atlas (a texture coordinate has 24 bits), or against its own length (the
    // positions' own rounding decides its normal).
    constexpr double thin_absolute = 1.0 / (1 << 21), thin_relative = 1e-5;
    parallel_for(s.num_faces, grain, [&](int64_t f) {
        if (s.kind[f] == collapsed) return;
        double longest = 0;
        for (int k = 0; k < 3; ++k)
            longest = std::max(longest, length(s.position[s.point[3 * f + (k + 1) % 3]] - s.position[s.point[3 * f + k]]));
        const double height = longest > 0 ? 2 * s.area[f] / longest : 0;
        if (!(height > std::max(thin_absolute, thin_relative * longest))) s.kind[f] = thin;
    });
}

// Glues the half-edges of one edge where exactly two faces run along it in opposite directions, or, where
// more meet, the flattest pair first.
void glue_run(Surface& s, const int32_t* half_edges, int64_t count) {
    constexpr int64_t crowded = 16;  // beyond it, all stay borders: choosing pairs costs count^2
    auto forward = [&](int64_t h) { return s.point[h] < s.point[next_half_edge(h)]; };
    if (count < 2 || count > crowded) return;
    uint32_t taken = 0;
    for (;;) {
        double best = -2;
        int64_t best_i = -1, best_j = -1;
        for (int64_t i = 0; i < count; ++i) {
            if ((taken >> i & 1) || !forward(half_edges[i])) continue;
            for (int64_t j = 0; j < count; ++j) {
                if ((taken >> j & 1) || forward(half_edges[j])) continue;
                const double flat = dot(s.normal[half_edges[i] / 3], s.normal[half_edges[j] / 3]);
                if (flat > best) {
                    best = flat;
                    best_i = i;
                    best_j = j;
                }
            }
        }
        if (best_i < 0) return;
        taken |= (1u << best_i) | (1u << best_j);
        s.twin[half_edges[best_i]] = half_edges[best_j];
        s.twin[half_edges[best_j]] = half_edges[best_i];
    }
}

void glue(Surface& s) {
    const int64_t n = 3 * s.num_faces;
    std::vector<int32_t> half_edges;
    std::vector<uint64_t> keys;
    half_edges.reserve(n);
    keys.reserve(n);
    for (int64_t h = 0; h < n; ++h) {
        if (s.kind[h / 3] == collapsed) continue;
        const uint64_t a = s.point[h], b = s.point[next_half_edge(h)];
        half_edges.push_back(static_cast<int32_t>(h));
        keys.push_back(a < b ? (a << 32 | b) : (b << 32 | a));
    }
    stable_sort_by_key(keys, half_edges);
    const std::vector<int64_t> starts = run_starts(keys);
    s.twin.assign(n, -1);
    parallel_for(static_cast<int64_t>(starts.size()) - 1, grain, [&](int64_t r) { glue_run(s, &half_edges[starts[r]], starts[r + 1] - starts[r]); });
}

}  // namespace

Surface make_surface(const float* vertices, int64_t num_vertices, const int32_t* faces, int64_t num_faces) {
    require(num_vertices >= 0 && num_vertices < std::numeric_limits<int32_t>::max(), format("vertices: expected fewer than 2^31 rows, got %lld", static_cast<long long>(num_vertices)));
    require(num_faces >= 0 && num_faces < std::numeric_limits<int32_t>::max() / 3, format("faces: expected fewer than 2^31 / 3 rows, got %lld", static_cast<long long>(num_faces)));
    for (int64_t i = 0; i < 3 * num_faces; ++i) {
        const int64_t v = faces[i];
        require(v >= 0 && v < num_vertices, format("faces: expected vertex indices in [0, %lld), got %lld in face %lld", static_cast<long long>(num_vertices), static_cast<long long>(v), static_cast<long long>(i / 3)));
        for (int k = 0; k < 3; ++k)
            require(std::isfinite(vertices[3 * v + k]), format("vertices: expected finite coordinates, got %g in vertex %lld", vertices[3 * v + k], static_cast<long long>(v)));
    }
    Surface s;
    s.num_faces = num_faces;
    std::vector<int32_t> point_of_vertex, first_vertex;
    s.num_points = weld(vertices, num_vertices, point_of_vertex, first_vertex);
    s.position.resize(s.num_points);
    parallel_for(s.num_points, grain, [&](int64_t p) {
        const float* v = vertices + 3 * int64_t{first_vertex[p]};
        s.position[p] = {v[0], v[1], v[2]};
    });
    s.point.resize(3 * num_faces);
    s.kind.assign(num_faces, regular);
    std::vector<uint8_t> used(s.num_points, 0);
    for (int64_t f = 0; f < num_faces; ++f) {
        for (int k = 0; k < 3; ++k) used[s.point[3 * f + k] = point_of_vertex[faces[3 * f + k]]] = 1;
        const int32_t *p = &s.point[3 * f];
        if (p[0] == p[1] || p[1] == p[2] || p[2] == p[0]) {
            s.kind[f] = collapsed;
            s.has_collapsed = true;
        }
    }
    s.area.assign(num_faces, 0.0);
    s.normal.assign(num_faces, Vec3d{0, 0, 0});
    normalise_scale(s, used);
    measure_faces(s);
    classify_faces(s);
    glue(s);
    return s;
}

}  // namespace tk::uv
