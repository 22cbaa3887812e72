// One orientation for each component: agreement across edges of exactly two faces, with the parity of flips
// kept in a forest of disjoint sets. One thread: the work is a few loads an edge.
#include <algorithm>
#include <cmath>

#include "normals.hpp"
#include "topology.hpp"
#include "trellis_mesh.h"

namespace {

class ParitySets {
public:
    explicit ParitySets(int64_t n) : link_(static_cast<size_t>(n)) {
        for (int64_t i = 0; i < n; ++i) link_[i] = static_cast<uint32_t>(i) << 1;
    }
    // The root and whether `i` must be flipped to agree with it, as root * 2 + flip.
    uint32_t find(uint32_t i) {
        uint32_t flip = 0;
        for (;;) {
            const uint32_t link = link_[i];
            if (link >> 1 == i) return i << 1 | flip;
            link_[i] = link_[link >> 1] ^ (link & 1);
            flip ^= link_[i] & 1;
            i = link_[i] >> 1;
        }
    }
    // False when the two are joined already and disagree.
    bool unite(uint32_t a, uint32_t b, uint32_t differ) {
        const uint32_t ra = find(a), rb = find(b);
        const uint32_t flip = (ra ^ rb ^ differ) & 1;
        if (ra >> 1 == rb >> 1) return flip == 0;
        link_[std::max(ra >> 1, rb >> 1)] = std::min(ra >> 1, rb >> 1) << 1 | flip;
        return true;
    }

private:
    std::vector<uint32_t> link_;
};

}  // namespace

TK_API int tk_mesh_unify_orientation(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices,
                                     int outward, uint8_t* flip, int64_t* num_conflicts, void*, int64_t*, int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        const tk::mesh::EdgeTable edges = tk::mesh::build_edges(faces, num_faces, num_vertices);
        ParitySets sets(num_faces);
        int64_t conflicts = 0;
        for (int64_t e = 0; e < edges.count(); ++e) {
            if (edges.num_faces(e) != 2) continue;
            const int32_t g = edges.halves.begin(e)[0], h = edges.halves.begin(e)[1];
            conflicts += !sets.unite(static_cast<uint32_t>(g / 3), static_cast<uint32_t>(h / 3), faces[g] == faces[h]);
        }
        *num_conflicts = conflicts;

        // Per root: how many faces more keep their orientation than lose it, if the root keeps its own.
        std::vector<int32_t> votes(static_cast<size_t>(num_faces), 0);
        std::vector<uint32_t> found(static_cast<size_t>(num_faces));
        for (int64_t f = 0; f < num_faces; ++f) {
            found[f] = sets.find(static_cast<uint32_t>(f));
            votes[found[f] >> 1] += found[f] & 1 ? -1 : 1;
        }
        std::vector<uint8_t> flip_root(static_cast<size_t>(num_faces));
        for (int64_t f = 0; f < num_faces; ++f) flip_root[f] = votes[f] < 0;

        if (outward) {
            struct Sums {
                tk::Vec3d centre{0, 0, 0};
                double area = 0, volume = 0;
            };
            std::vector<Sums> sums(static_cast<size_t>(num_faces));
            for (int64_t f = 0; f < num_faces; ++f) {
                const double area = tk::length(tk::mesh::area_normal(vertices, faces + 3 * f));
                if (!std::isfinite(area)) continue;
                Sums& s = sums[found[f] >> 1];
                s.area += area;
                for (int i = 0; i < 3; ++i) s.centre += tk::mesh::load_point(vertices, faces[3 * f + i]) * (area / 3);
            }
            for (int64_t f = 0; f < num_faces; ++f) {
                Sums& s = sums[found[f] >> 1];
                const tk::Vec3d normal = tk::mesh::area_normal(vertices, faces + 3 * f);
                const double volume =
                    tk::dot(normal, tk::mesh::load_point(vertices, faces[3 * f]) - s.centre * (1 / std::max(s.area, 1e-300)));
                if (std::isfinite(volume)) s.volume += found[f] & 1 ? -volume : volume;
            }
            // A sheet encloses nothing worth the name: the vote stands.
            for (int64_t f = 0; f < num_faces; ++f)
                if (std::abs(sums[f].volume) > 1e-6 * std::pow(sums[f].area, 1.5)) flip_root[f] = sums[f].volume < 0;
        }
        for (int64_t f = 0; f < num_faces; ++f) flip[f] = (found[f] & 1) ^ flip_root[found[f] >> 1];
    });
}
