// Closes the simple loops of boundary edges.
//
// Loops are followed from fan to fan (see topology.hpp), so where two holes touch at a vertex each keeps its
// own loop. A loop that passes a vertex twice is cut there into simple ones.
#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "normals.hpp"
#include "topology.hpp"
#include "triangulate.hpp"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

struct Loop {
    std::vector<int32_t> vertices;  // wound as the closing faces must be
    double perimeter = 0;
};

struct Patch {
    std::vector<std::array<int32_t, 3>> faces;  // -1 stands for the new vertex
    std::vector<std::array<int32_t, 2>> diagonals;
    bool has_centre = false;
};

struct Filling {
    std::vector<float> vertices;
    std::vector<int32_t> faces;
};

class HoleFiller {
public:
    HoleFiller(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices, const uint8_t* rim)
        : vertices_(vertices), faces_(faces), num_faces_(num_faces), num_vertices_(num_vertices), rim_(rim),
          edges_(build_edges(faces, num_faces, num_vertices)) {}

    // counts: loops found, loops closed, loops longer than the limit, boundary edges in open chains.
    std::unique_ptr<Filling> fill(double max_perimeter, int64_t counts[4]) {
        std::vector<Loop> loops = find_loops(counts[3]);
        counts[0] = static_cast<int64_t>(loops.size());
        const auto too_long = [&](const Loop& loop) { return !(loop.perimeter <= max_perimeter); };
        loops.erase(std::remove_if(loops.begin(), loops.end(), too_long), loops.end());
        counts[1] = static_cast<int64_t>(loops.size());
        counts[2] = counts[0] - counts[1];
        std::vector<Patch> patches(loops.size());
        parallel_for(static_cast<int64_t>(loops.size()), 1, [&](int64_t i) { patches[i] = patch(loops[i]); });
        separate(loops, patches);
        return gather(loops, patches);
    }

private:
    Vec3d point(int32_t v) const { return load_point(vertices_, v); }

    std::vector<Loop> find_loops(int64_t& left_over) {
        std::vector<int32_t> boundary;
        for (int64_t e = 0; e < edges_.count(); ++e)
            if (edges_.num_faces(e) == 1 && (!rim_ || rim_[edges_.low[e]] || rim_[edges_.high[e]])) boundary.push_back(*edges_.halves.begin(e));
        std::sort(boundary.begin(), boundary.end());
        left_over = static_cast<int64_t>(boundary.size());
        if (boundary.empty()) return {};

        // Ends of boundary edges by fan: a fan is a strip of faces, so at most two boundary edges end in it.
        struct End {
            int32_t fan, edge;
            bool operator<(const End& o) const { return fan != o.fan ? fan < o.fan : edge < o.edge; }
        };
        DisjointSets fans = fans_of_corners(faces_, num_faces_, edges_);
        const int32_t n = static_cast<int32_t>(boundary.size());
        std::vector<End> ends;
        std::vector<std::array<int32_t, 2>> fan_of(static_cast<size_t>(n));
        for (int32_t i = 0; i < n; ++i) {
            const int32_t h = boundary[i];
            fan_of[i] = {fans.find(h), fans.find(h - h % 3 + next_corner(h % 3))};
            ends.push_back({fan_of[i][0], i});
            ends.push_back({fan_of[i][1], i});
        }
        std::sort(ends.begin(), ends.end());
        const auto other_edge = [&](int32_t fan, int32_t edge) {
            const auto at = std::lower_bound(ends.begin(), ends.end(), End{fan, -1});
            const auto stop = std::upper_bound(at, ends.end(), End{fan, INT32_MAX});
            if (stop - at != 2) return -1;
            return at->edge == edge ? at[1].edge : at->edge;
        };

        std::vector<Loop> loops;
        std::vector<uint8_t> visited(static_cast<size_t>(n), 0);
        for (int32_t start = 0; start < n; ++start) {
            if (visited[start]) continue;
            std::vector<int32_t> walk;  // vertices in walking order
            int64_t along = 0;
            int32_t edge = start, fan = fan_of[start][0];
            bool closed = false;
            while (edge >= 0 && !visited[edge]) {
                visited[edge] = 1;
                const bool forward = fan_of[edge][0] == fan;
                const int32_t h = boundary[edge];
                walk.push_back(forward ? half_from(faces_, h) : half_to(faces_, h));
                along += forward ? 1 : -1;
                fan = fan_of[edge][forward ? 1 : 0];
                edge = other_edge(fan, edge);
                closed = edge == start;
            }
            if (!closed) continue;
            left_over -= static_cast<int64_t>(walk.size());
            // The closing faces run against their neighbours. Where the neighbours disagree, against most.
            if (along >= 0) std::reverse(walk.begin(), walk.end());
            for (Loop& loop : simple_loops(walk)) loops.push_back(std::move(loop));
        }
        return loops;
    }

    // Cuts a closed walk where it meets itself. Pairs of edges to and fro enclose nothing, and the outline of
    // a lone triangle is not a hole.
    std::vector<Loop> simple_loops(const std::vector<int32_t>& walk) const {
        std::vector<Loop> loops;
        std::vector<int32_t> stack;
        std::map<int32_t, size_t> place;
        const auto emit = [&](std::vector<int32_t> vertices) {
            if (vertices.size() < 3 || (vertices.size() == 3 && is_face(vertices))) return;
            Loop loop;
            for (size_t i = 0; i < vertices.size(); ++i)
                loop.perimeter += length(point(vertices[(i + 1) % vertices.size()]) - point(vertices[i]));
            loop.vertices = std::move(vertices);
            loops.push_back(std::move(loop));
        };
        for (const int32_t v : walk) {
            const auto seen = place.find(v);
            if (seen != place.end()) {
                const size_t from = seen->second;
                emit({stack.begin() + static_cast<std::ptrdiff_t>(from), stack.end()});
                while (stack.size() > from) {
                    place.erase(stack.back());
                    stack.pop_back();
                }
            }
            place[v] = stack.size();
            stack.push_back(v);
        }
        emit(stack);
        return loops;
    }

    // The edge between two vertices, or -1.
    int64_t edge_between(int32_t a, int32_t b) const {
        if (a > b) std::swap(a, b);
        int64_t from = std::lower_bound(edges_.low.begin(), edges_.low.end(), a) - edges_.low.begin();
        int64_t to = std::upper_bound(edges_.low.begin() + from, edges_.low.end(), a) - edges_.low.begin();
        const int64_t e = std::lower_bound(edges_.high.begin() + from, edges_.high.begin() + to, b) - edges_.high.begin();
        return e < to && edges_.high[e] == b ? e : -1;
    }

    bool is_face(const std::vector<int32_t>& t) const {
        const int64_t e = edge_between(t[0], t[1]);
        if (e < 0) return false;
        for (const int32_t* h = edges_.halves.begin(e); h < edges_.halves.end(e); ++h)
            if (faces_[*h - *h % 3 + prev_corner(*h % 3)] == t[2]) return true;
        return false;
    }

    Patch patch(const Loop& loop) const {
        std::vector<Vec3d> points;
        for (const int32_t v : loop.vertices) points.push_back(point(v));
        const auto exists = [&](int32_t i, int32_t j) { return edge_between(loop.vertices[i], loop.vertices[j]) >= 0; };
        const std::vector<Triangle> triangles = triangulate_polygon(points, exists);
        if (triangles.empty()) return fan(loop);
        const int32_t n = static_cast<int32_t>(points.size());
        Patch result;
        for (const Triangle& t : triangles) {
            result.faces.push_back({loop.vertices[t[0]], loop.vertices[t[1]], loop.vertices[t[2]]});
            for (int i = 0; i < 3; ++i) {
                const int32_t a = std::min(t[i], t[next_corner(i)]), b = std::max(t[i], t[next_corner(i)]);
                if (b - a == 1 || b - a == n - 1) continue;
                const int32_t va = loop.vertices[a], vb = loop.vertices[b];
                result.diagonals.push_back({std::min(va, vb), std::max(va, vb)});
            }
        }
        return result;
    }

    // Where every triangulation would give some edge a third face: a fan around a new vertex at the mean.
    static Patch fan(const Loop& loop) {
        Patch result;
        result.has_centre = true;
        for (size_t i = 0; i < loop.vertices.size(); ++i)
            result.faces.push_back({loop.vertices[i], loop.vertices[(i + 1) % loop.vertices.size()], -1});
        return result;
    }

    // Two loops through the same two vertices must not both use the diagonal between them.
    static void separate(const std::vector<Loop>& loops, std::vector<Patch>& patches) {
        std::map<std::array<int32_t, 2>, size_t> owner;
        for (size_t i = 0; i < loops.size(); ++i)
            for (const auto& d : patches[i].diagonals)
                if (owner.emplace(d, i).first->second != i) {
                    patches[i] = fan(loops[i]);
                    break;
                }
    }

    std::unique_ptr<Filling> gather(const std::vector<Loop>& loops, const std::vector<Patch>& patches) const {
        auto filling = std::make_unique<Filling>();
        int64_t next = num_vertices_;
        for (size_t i = 0; i < loops.size(); ++i) {
            if (patches[i].has_centre) {
                Vec3d mean{0, 0, 0};
                for (const int32_t v : loops[i].vertices) mean += point(v) * (1.0 / static_cast<double>(loops[i].vertices.size()));
                for (int k = 0; k < 3; ++k) filling->vertices.push_back(static_cast<float>(mean[k]));
            }
            for (const auto& face : patches[i].faces)
                for (const int32_t v : face) filling->faces.push_back(v < 0 ? static_cast<int32_t>(next) : v);
            next += patches[i].has_centre;
        }
        require_indexable(num_faces_ + static_cast<int64_t>(filling->faces.size()) / 3, next);
        return filling;
    }

    const float* vertices_;
    const int32_t* faces_;
    int64_t num_faces_, num_vertices_;
    const uint8_t* rim_;
    EdgeTable edges_;
};

}  // namespace
}  // namespace tk::mesh

TK_API int tk_mesh_fill_holes_begin(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices,
                                    const uint8_t* rim, double max_perimeter, void** state, int64_t* counts, int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        tk::mesh::HoleFiller filler(vertices, faces, num_faces, num_vertices, rim);
        auto filling = filler.fill(max_perimeter, counts);
        counts[4] = static_cast<int64_t>(filling->vertices.size() / 3);
        counts[5] = static_cast<int64_t>(filling->faces.size() / 3);
        *state = filling.release();
    });
}

TK_API int tk_mesh_fill_holes_fill(void* state, float* new_vertices, int32_t* new_faces, int, void*) {
    return tk::guarded([&] {
        const auto* filling = static_cast<const tk::mesh::Filling*>(state);
        std::copy(filling->vertices.begin(), filling->vertices.end(), new_vertices);
        std::copy(filling->faces.begin(), filling->faces.end(), new_faces);
    });
}

TK_API int tk_mesh_fill_holes_end(void* state) {
    return tk::guarded([&] { delete static_cast<tk::mesh::Filling*>(state); });
}
