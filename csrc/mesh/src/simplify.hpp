// Parallel edge collapse in rounds; see simplify.cpp.
#pragma once

#include <cstdint>
#include <vector>

#include "simplify_rules.hpp"

namespace tk::mesh {

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
    struct Collapse {
        int32_t a, b;  // b becomes a
        float cost;
        Vec3d point;
        int32_t multiplicity = 0;
        int32_t removes = 0;  // faces
    };

    CollapseMesh view() const;
    void make_quadrics();
    void build_rings();
    void weigh_edges(Rules rules);
    int64_t cheapest(int64_t v) const;
    float cost_limit(int64_t rank) const;
    std::vector<Collapse> candidates(float limit, Rules rules);
    std::vector<Collapse> independent(const std::vector<Collapse>& candidates);
    int64_t round(int64_t target_faces, Rules rules, int64_t slack);
    void apply(const std::vector<Collapse>& chosen);
    void compact();
    void drop_unused_vertices();

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

    // Rebuilt each round; see CollapseMesh. Costs stand beside the rings.
    Groups corners_;
    bool rings_are_fresh_ = false;
    std::vector<int32_t> ring_size_, ring_ids_;
    std::vector<uint8_t> ring_multiplicity_;
    std::vector<float> ring_cost_;
    std::vector<uint8_t> kinds_;
    std::vector<int64_t> choice_;   // each vertex's edge, as an index into the rings, or -1
    std::vector<uint64_t> owner_;  // of each face: who may change it
    int64_t ring_begin(int64_t v) const { return 2 * int64_t{corners_.first[v]}; }
};

}  // namespace tk::mesh
