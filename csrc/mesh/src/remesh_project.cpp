#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>

#include "remesh_surface.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"

namespace tk::mesh {
namespace {

constexpr int64_t grain = 1 << 12;

std::vector<int32_t> cut(const DualSurface& surface, const std::vector<Vec3d>& at) {
    const int64_t count = static_cast<int64_t>(surface.quads.size());
    std::vector<int64_t> start(static_cast<size_t>(count));
    parallel_for(count, grain, [&](int64_t q) {
        start[q] = triangles_of(surface.quads[q]);
    });
    const int64_t total = exclusive_scan(start.data(), count);
    std::vector<int32_t> triangles(static_cast<size_t>(3 * total));
    parallel_for(count, grain, [&](int64_t q) {
        const Quad& quad = surface.quads[q];
        cut_quad(quad, at.data(), triangles.data() + 3 * start[q]);
    });
    return triangles;
}

}  // namespace

Triangles project_and_cut(const BvhView& tree, double project, DualSurface& surface) {
    const int64_t count = static_cast<int64_t>(surface.vertices.size());
    const std::vector<Vec3d> from = surface.vertices;
    std::vector<Vec3d>& at = surface.vertices;
    if (project == 0) return {cut(surface, at), 0};

    std::vector<Vec3d> way(static_cast<size_t>(count));
    parallel_chunks(count, 512, [&](int64_t, int64_t begin, int64_t end) {
        int64_t seed = -1;
        for (int64_t v = begin; v < end; ++v) {
            const Vec3f point = static_cast<Vec3f>(from[v]);
            const Closest found = closest(tree, point, std::numeric_limits<float>::infinity(), seed);
            way[v] = {0, 0, 0};
            if (found.slot < 0) continue;
            seed = found.slot;
            Vec3d corner[3];
            slot_corners(tree, found.slot, point, corner);
            const Vec3d weight = closest_barycentric(corner[0], corner[1], corner[2]);
            for (int k = 0; k < 3; ++k) way[v] = add_scaled(way[v], corner[k], weight[k]);
        }
    });
    std::vector<float> share(static_cast<size_t>(count), static_cast<float>(project));
    auto move = [&] {
        parallel_for(count, grain, [&](int64_t v) { at[v] = add_scaled(from[v], way[v], static_cast<double>(share[v])); });
    };
    move();
    std::vector<int32_t> triangles = cut(surface, at);

    // Where the nearest point jumps from one part of the mesh to another, triangles can turn over on the way.
    // Their corners go only half as far, then a quarter, and in the end stay, until no triangle is left over. This
    // ends, because each round after the first few brings corners to rest.
    const int64_t faces = static_cast<int64_t>(triangles.size() / 3);
    const std::unique_ptr<std::atomic<uint8_t>[]> turned(new std::atomic<uint8_t>[static_cast<size_t>(count)]);
    for (int round = 0;; ++round) {
        parallel_for(count, grain, [&](int64_t v) { turned[v].store(0, std::memory_order_relaxed); });
        std::atomic<bool> any{false};
        parallel_for(faces, grain, [&](int64_t f) {
            const int32_t* c = triangles.data() + 3 * f;
            if (!turns_over(from.data(), at.data(), c)) return;
            for (int k = 0; k < 3; ++k) {
                if (share[c[k]] == 0) continue;
                turned[c[k]].store(1, std::memory_order_relaxed);
                any.store(true, std::memory_order_relaxed);
            }
        });
        if (!any) break;
        parallel_for(count, grain, [&](int64_t v) {
            if (turned[v].load(std::memory_order_relaxed)) share[v] = round < halvings ? share[v] * 0.5f : 0;
        });
        move();
    }
    const float whole = static_cast<float>(project);
    return {std::move(triangles), parallel_sum<int64_t>(count, grain, [&](int64_t v) { return share[v] < whole ? 1 : 0; })};
}

}  // namespace tk::mesh
