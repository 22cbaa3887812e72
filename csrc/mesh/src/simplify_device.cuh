// The state of a simplification on the device, and the passes of its rounds; see simplify_device.cu.
#pragma once

#include "scratch.cuh"
#include "simplify_rules.hpp"

namespace tk::mesh {

constexpr int most_attempts_on_device = 8;

struct DeviceCollapse {
    int32_t a, b;  // b becomes a
    float cost;
    int32_t multiplicity;
    int32_t removes;  // faces
    Vec3d point;
};

// Written by the passes of one round; the first four are what the host reads.
struct RoundCounts {
    int32_t candidates, taken, removed, live_faces;
    int32_t topology_changes, parts_vanished;
    float cost_limit;
    int32_t heavy;
    int32_t pairs[most_attempts_on_device], losers[most_attempts_on_device + 1];
};

// All on the device. Sizes: F faces and V vertices at first, C = V / 2 + 1 collapses.
struct DeviceArrays {
    int32_t* faces;       // [3 F]
    int32_t* other_faces;  // [3 F]
    Vec3d* positions;     // [V]
    Quadric* quadrics;
    int32_t *corner_ids, *corners, *sorted_faces;  // [3 F]
    int32_t *first, *last, *ring_size;             // [V]
    uint8_t* kinds;                                // [V]
    int32_t* ring_ids;                             // [6 F]
    uint8_t* ring_multiplicity;                    // [6 F]
    float* ring_cost;                              // [6 F]
    int32_t *choice, *partner;  // [V]: each vertex's edge, as an index into the rings, and its other end; or -1
    int32_t* stamp;             // [V]: the attempt at which the vertex chose last
    int32_t *pairs, *losers, *more_losers, *heavy;  // [V]: lists
    int32_t *merged_into, *flag, *number;           // [V]
    DeviceCollapse* candidates;                     // [C]
    uint8_t* state;                                 // [C]
    uint64_t* owner;                                // [F]: who may change the face
    uint64_t *keys, *sorted_keys;                   // [C]
    int32_t *order, *sorted_order, *removes, *removes_before;  // [C]
    int32_t* histogram;
    RoundCounts* counts;

    TK_BOTH CollapseMesh mesh() const {
        return {positions, quadrics, faces, first, last, corners, ring_size, ring_ids, ring_multiplicity, kinds};
    }
};

#ifdef __CUDACC__
// The vertex's cheapest edge.
__device__ inline void choose_cheapest(const DeviceArrays& d, int32_t v) {
    const int64_t begin = 2 * int64_t{d.first[v]};
    const int32_t size = d.ring_size[v];
    int32_t best = -1, other = -1;
    uint64_t least = ~uint64_t{0};
    for (int64_t i = begin; i < begin + size; ++i) {
        const float cost = d.ring_cost[i];
        if (!(cost < forbidden_cost)) continue;
        const int32_t u = d.ring_ids[i];
        const uint64_t key = edge_key(cost, v, u);
        if (key < least) {
            least = key;
            best = static_cast<int32_t>(i);
            other = u;
        }
    }
    d.choice[v] = best;
    d.partner[v] = other;
}
#endif

constexpr int cost_bins = 4096;
enum : uint8_t { open_candidate = 0, taken_candidate = 1, blocked_candidate = 2 };

// ---- simplify_rings.cu: who is next to whom, and what each edge costs ----

// first and last, from sorted_faces.
void find_ranges(const DeviceArrays& d, int64_t num_faces, int64_t num_vertices, cudaStream_t stream);
void build_rings(const DeviceArrays& d, int64_t num_vertices, cudaStream_t stream);
void make_quadrics(const DeviceArrays& d, int64_t num_vertices, const SimplifyOptions& options, cudaStream_t stream);
void weigh_edges(const DeviceArrays& d, int64_t num_vertices, Rules rules, cudaStream_t stream);
// choice and partner of all vertices.
void choose_edges(const DeviceArrays& d, int64_t num_vertices, cudaStream_t stream);
// counts->cost_limit: not less than the cost of this rank among the vertices' choices, by at most a sixteenth.
void find_cost_limit(const DeviceArrays& d, int64_t num_vertices, int64_t rank, cudaStream_t stream);

// ---- simplify_select.cu: which collapses a round makes ----

// Fills candidates: edges that both ends prefer to all their others, that are allowed, and cost no more than the limit.
void find_candidates(const DeviceArrays& d, int64_t num_vertices, Rules rules, double min_quality, int32_t most_removed, int32_t first_stamp,
                     cudaStream_t stream);
// Takes those that share no face with a cheaper one that is taken; counts->taken and counts->removed.
void take_independent(const DeviceArrays& d, int64_t num_faces, int64_t num_vertices, cudaStream_t stream);
// Keys by which the cheapest of the n candidates come first, those taken before the others.
void make_keys(const DeviceArrays& d, int64_t n, cudaStream_t stream);
void order_removals(const DeviceArrays& d, int64_t n, cudaStream_t stream);
// Of the taken, in that order, leaves as many as remove `surplus` faces, and no more than `most_removed`.
void leave_cheapest(const DeviceArrays& d, int64_t n, int64_t surplus, int64_t most_removed, cudaStream_t stream);
void count_topology_changes(const DeviceArrays& d, int64_t n, cudaStream_t stream);
void apply_taken(const DeviceArrays& d, int64_t n, cudaStream_t stream);

}  // namespace tk::mesh
