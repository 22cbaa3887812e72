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
// Eight threads of a warp that work on one vertex, edge or collapse: about as many as it has faces. With one thread a
// check is a chain of dependent loads as long as the vertex of most faces makes it, and the device waits for that one.
class LaneGroup {
public:
    static constexpr int size = 8;
    // This thread's group among all of the grid, and how many there are.
    static __device__ int64_t index() { return (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / size; }
    static __device__ int64_t groups() { return int64_t{blockDim.x} * gridDim.x / size; }

    __device__ int first() const { return static_cast<int>(threadIdx.x) % size; }
    __device__ int count() const { return size; }
    __device__ bool leads() const { return first() == 0; }
    __device__ unsigned mask() const { return 0xffu << (threadIdx.x & 24u); }
    __device__ void meet() const { __syncwarp(mask()); }
    __device__ bool all(bool x) const { return __all_sync(mask(), x); }
    __device__ int sum(int x) const {
        for (int step = 1; step < size; step *= 2) x += __shfl_xor_sync(mask(), x, step);
        return x;
    }
    __device__ double least(double x) const {
        for (int step = 1; step < size; step *= 2) x = least_of(x, __shfl_xor_sync(mask(), x, step));
        return x;
    }
    __device__ unsigned long long least(unsigned long long x) const {
        for (int step = 1; step < size; step *= 2) {
            const unsigned long long other = __shfl_xor_sync(mask(), x, step);
            x = other < x ? other : x;
        }
        return x;
    }
    // The same tree of additions every time.
    __device__ Quadric sum(Quadric q) const {
        for (int step = 1; step < size; step *= 2) {
            Quadric other;
            for (double Quadric::*field : {&Quadric::xx, &Quadric::xy, &Quadric::xz, &Quadric::yy, &Quadric::yz, &Quadric::zz, &Quadric::bx,
                                           &Quadric::by, &Quadric::bz, &Quadric::c, &Quadric::weight})
                other.*field = __shfl_xor_sync(mask(), q.*field, step);
            q += other;
        }
        return q;
    }
};
#define TK_EACH_GROUP(i, n) for (int64_t i = LaneGroup::index(); i < (n); i += LaneGroup::groups())

// Keeps the vertex's cheapest edge of those whose costs and slots its lanes saw: each lane gives its own least key.
struct CheapestEdge {
    uint64_t key = ~uint64_t{0};
    int32_t slot = -1, other = -1;

    __device__ void offer(float cost, int32_t v, int32_t u, int64_t at) {
        if (!(cost < forbidden_cost)) return;
        const uint64_t own = edge_key(cost, v, u);
        if (own >= key) return;
        key = own;
        slot = static_cast<int32_t>(at);
        other = u;
    }
    // Of equal keys, which two edges of a vertex hardly ever have, that of the smaller slot.
    __device__ void store(const DeviceArrays& d, int32_t v, const LaneGroup& lanes) const {
        const unsigned long long least = lanes.least(static_cast<unsigned long long>(key));
        const unsigned long long mine = slot >= 0 && key == least ? static_cast<unsigned>(slot) : ~0ull;
        const unsigned long long chosen = lanes.least(mine);
        if (mine == chosen && slot >= 0) {
            d.choice[v] = slot;
            d.partner[v] = other;
        }
        if (chosen == ~0ull && lanes.leads()) d.choice[v] = d.partner[v] = -1;
    }
};
#endif

constexpr int cost_bins = 4096;
enum : uint8_t { open_candidate = 0, taken_candidate = 1, blocked_candidate = 2 };

// ---- simplify_rings.cu: who is next to whom, and what each edge costs ----

// first and last, from sorted_faces.
void find_ranges(const DeviceArrays& d, int64_t num_faces, int64_t num_vertices, cudaStream_t stream);
void build_rings(const DeviceArrays& d, int64_t num_vertices, cudaStream_t stream);
void make_quadrics(const DeviceArrays& d, int64_t num_vertices, const SimplifyOptions& options, cudaStream_t stream);
// The rings' costs, and each vertex's choice and partner.
void weigh_edges(const DeviceArrays& d, int64_t num_vertices, Rules rules, cudaStream_t stream);
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
