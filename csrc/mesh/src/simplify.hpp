// Parallel edge collapse in rounds; see simplify.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "simplify_quadric.hpp"
#include "topology.hpp"

namespace tk::mesh {

struct SimplifyOptions {
    double regularization = 3e-4;
    double boundary_weight = 10;
    double min_quality = 0.1;
};

struct SimplifyStatistics {
    int64_t rounds = 0, collapses = 0, topology_changes = 0;
};

class Simplifier {
public:
    Simplifier(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices, const SimplifyOptions& options);

    void run(int64_t target_faces);

    int64_t num_vertices() const { return static_cast<int64_t>(positions_.size()); }
    int64_t num_faces() const { return static_cast<int64_t>(faces_.size()) / 3; }
    // `image` gives for each input vertex the one it became part of, or -1 if its faces vanished.
    void store(float* vertices, int32_t* faces, int32_t* image) const;
    // Largest quadric error of a vertex as a distance; largest distance between an input vertex and the
    // result; largest distance between an input vertex and its image.
    void measure(const float* vertices, double* quadric_error, double* deviation, double* displacement) const;

    SimplifyStatistics statistics;

private:
    // How far a round may go. Each is taken up only when the one before finds nothing left to collapse.
    enum class Rules { all, any_shape, any_topology };
    enum Kind : uint8_t { smooth, curve, corner };
    struct Collapse {
        int32_t a, b;  // b becomes a
        float cost;
        Vec3d point;
        int32_t multiplicity = 0;
        int32_t removes = 0;  // faces
    };

    void make_quadrics();
    void build_rings();
    void classify();
    float edge_cost(int32_t a, int32_t b, int multiplicity, Rules rules, Vec3d& point) const;
    bool is_valid(int32_t a, int32_t b, int multiplicity, const Vec3d& point, Rules rules) const;
    bool keeps_topology(int32_t a, int32_t b, int multiplicity) const;
    bool keeps_sides(int32_t moved, int32_t other, const Vec3d& point, double& worst_before, double& worst_after) const;
    int32_t removed_by(int32_t a, int32_t b, int multiplicity, Rules rules) const;
    void weigh_edges(Rules rules);
    int64_t cheapest(int64_t v) const;
    float cost_limit(int64_t rank) const;
    std::vector<Collapse> candidates(float limit, Rules rules);
    std::vector<Collapse> independent(const std::vector<Collapse>& candidates);
    int64_t round(int64_t target_faces, Rules rules, int64_t slack);
    void apply(const std::vector<Collapse>& chosen);
    void compact();
    void drop_unused_vertices();
    int multiplicity(int32_t a, int32_t b) const;
    Vec3d normal_across(int32_t a, int32_t b, int32_t not_this, bool backward) const;
    double nearby_distance2(const Vec3d& p, int32_t start, const Groups& corners) const;

    // body(face at a, face at b, opposite) for the pairs of faces that the collapse of (a, b) lays onto one another.
    template <class Body>
    void each_coincident(int32_t a, int32_t b, Body&& body) const {
        for (const int32_t* c = corners_.begin(a); c < corners_.end(a); ++c) {
            const int32_t* face = faces_.data() + (*c - *c % 3);
            if (face[0] < 0) continue;
            const int32_t u = face[next_corner(*c % 3)], w = face[prev_corner(*c % 3)];
            if (u == b || w == b) continue;
            for (const int32_t* d = corners_.begin(b); d < corners_.end(b); ++d) {
                const int32_t* other = faces_.data() + (*d - *d % 3);
                if (other[0] < 0) continue;
                const int32_t s = other[next_corner(*d % 3)], t = other[prev_corner(*d % 3)];
                if (!((s == u && t == w) || (s == w && t == u))) continue;
                body(*c / 3, *d / 3, s == w);
                break;
            }
        }
    }

    SimplifyOptions options_;
    Vec3d centre_{0, 0, 0};
    double scale_ = 1;
    int64_t num_input_vertices_;
    std::vector<Vec3d> positions_;  // in units of the bounding box's diagonal, about its centre
    std::vector<Quadric> quadrics_;
    std::vector<int32_t> faces_;
    std::vector<int32_t> image_;  // of each input vertex, -1 if none
    bool parts_vanished_ = false;
    int64_t most_removed_ = 0;          // faces, in the present round
    std::vector<uint8_t> referenced_;   // whether a face used the input vertex
    std::vector<int32_t> merged_into_;  // in the present round

    // Rebuilt each round. Around vertex v: corners, and from ring_begin(v) its neighbours ascending, how many
    // faces the edge to each has, and its cost.
    Groups corners_;
    std::vector<int32_t> ring_size_, ring_ids_;
    std::vector<uint8_t> ring_multiplicity_;
    std::vector<float> ring_cost_;
    std::vector<uint8_t> kinds_;
    std::vector<int64_t> choice_;   // each vertex's edge, as an index into the rings, or -1
    std::vector<uint64_t> owner_;  // of each face: who may change it
    int64_t ring_begin(int64_t v) const { return 2 * int64_t{corners_.first[v]}; }
};

}  // namespace tk::mesh
