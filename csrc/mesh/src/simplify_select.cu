// Rounds of simplification on the device, second part: which collapses are allowed, which of these do not disturb one
// another, and making them.
//
// Lists are filled by many threads at once and their order differs from run to run. Nothing depends on it: what is
// done to a vertex, edge or face depends on its own number and on least keys, and numbers are all different.
#include "simplify_device.cuh"

namespace tk::mesh {
namespace {

constexpr int judge_block = 128;
constexpr unsigned most_blocks = 2112;  // sixteen for each multiprocessor of an H100: kernels over lists stride

// For lists of at most this many items, whose lengths the host does not know.
unsigned list_blocks(int64_t most) {
    const unsigned blocks = grid_size(most * LaneGroup::size, judge_block);
    return blocks < most_blocks ? blocks : most_blocks;
}

// A new place at a list's end: one atomic operation for all threads of a warp that come here together.
__device__ int32_t append(int32_t* length) {
    const unsigned together = __activemask();
    const int lane = static_cast<int>(threadIdx.x & 31u);
    const int leader = __ffs(static_cast<int>(together)) - 1;
    int32_t base = 0;
    if (lane == leader) base = atomicAdd(length, __popc(together));
    base = __shfl_sync(together, base, leader);
    return base + __popc(together & ((1u << lane) - 1u));
}

__device__ bool is_cheap(const DeviceArrays& d, int32_t v) { return d.ring_cost[d.choice[v]] <= d.counts->cost_limit; }

__global__ void first_pairs_kernel(DeviceArrays d, int64_t num_vertices) {
    TK_GRID_STRIDE(i, num_vertices) {
        const int32_t v = static_cast<int32_t>(i), u = d.partner[v];
        if (u > v && d.partner[u] == v && is_cheap(d, v)) d.pairs[append(&d.counts->pairs[0])] = v;
    }
}

__global__ void choose_again_kernel(DeviceArrays d, int attempt, int32_t stamp) {
    const int32_t n = d.counts->losers[attempt];
    const LaneGroup lanes;
    TK_EACH_GROUP(i, n) {
        const int32_t v = d.losers[i];
        const int64_t begin = 2 * int64_t{d.first[v]}, end = begin + d.ring_size[v];
        CheapestEdge cheapest;
        for (int64_t at = begin + lanes.first(); at < end; at += lanes.count()) cheapest.offer(d.ring_cost[at], v, d.ring_ids[at], at);
        cheapest.store(d, v, lanes);
        if (lanes.leads()) d.stamp[v] = stamp;
    }
}

// Pairs that are mutual only now have one of the vertices that chose again in it; both may be, so the smaller one counts.
__global__ void more_pairs_kernel(DeviceArrays d, int attempt, int32_t stamp) {
    const int32_t n = d.counts->losers[attempt];
    TK_GRID_STRIDE(i, n) {
        const int32_t v = d.losers[i], u = d.partner[v];
        if (u < 0 || d.partner[u] != v || (u < v && d.stamp[u] == stamp)) continue;
        const int32_t a = u < v ? u : v;
        if (is_cheap(d, a)) d.pairs[append(&d.counts->pairs[attempt])] = a;
    }
}

__global__ void __launch_bounds__(judge_block) judge_kernel(DeviceArrays d, int attempt, Rules rules, double min_quality, int32_t most_removed) {
    const CollapseMesh mesh = d.mesh();
    const LaneGroup lanes;
    const int32_t n = d.counts->pairs[attempt];
    TK_EACH_GROUP(i, n) {
        DeviceCollapse k;
        k.a = d.pairs[i];
        k.b = d.partner[k.a];
        const int32_t slot = d.choice[k.a];
        k.cost = d.ring_cost[slot];
        k.multiplicity = d.ring_multiplicity[slot];
        mesh.edge_cost(k.a, k.b, k.multiplicity, rules, k.point);
        bool allowed = mesh.is_valid(k.a, k.b, k.multiplicity, k.point, rules, min_quality, lanes);
        if (allowed) {
            k.removes = mesh.removed_by(k.a, k.b, k.multiplicity, rules, lanes);
            allowed = k.removes <= most_removed;
        }
        lanes.meet();  // all have read the cost
        if (!lanes.leads()) continue;
        if (allowed) {
            const int32_t at = append(&d.counts->candidates);
            d.candidates[at] = k;
            d.state[at] = open_candidate;
        } else {
            d.ring_cost[slot] = forbidden_cost;
            d.ring_cost[d.choice[k.b]] = forbidden_cost;
            const int32_t at = atomicAdd(&d.counts->losers[attempt + 1], 2);
            d.more_losers[at] = k.a;
            d.more_losers[at + 1] = k.b;
        }
    }
}

// The least key owns a face. Keys of a later pass are below all of an earlier one, so that what is left of those need
// not be cleared; 0, below all, is of faces of a taken collapse. No vertex is in two candidates: keys differ.
__device__ uint64_t owner_key(const DeviceCollapse& k, int pass) {
    return uint64_t{3u - static_cast<unsigned>(pass)} << 61 | uint64_t{cost_bits(k.cost) >> 2} << 32 | scramble(static_cast<uint32_t>(k.a));
}

// body(owner of face) for the lane's share of the collapse's faces; those of a that b has too come twice.
template <class Body>
__device__ void each_owner(const DeviceArrays& d, const DeviceCollapse& k, const LaneGroup& lanes, Body&& body) {
    for (int end = 0; end < 2; ++end) {
        const int32_t v = end == 0 ? k.a : k.b;
        for (int32_t c = d.first[v] + lanes.first(); c < d.last[v]; c += lanes.count()) body(d.owner + d.corners[c] / 3);
    }
}

__global__ void claim_kernel(DeviceArrays d, int pass) {
    const int32_t n = d.counts->candidates;
    const LaneGroup lanes;
    TK_EACH_GROUP(i, n) {
        if (d.state[i] != open_candidate) continue;
        const DeviceCollapse& k = d.candidates[i];
        bool free = true;
        if (pass > 0) each_owner(d, k, lanes, [&](const uint64_t* slot) { free = free && *slot != 0; });
        if (!lanes.all(free)) {
            if (lanes.leads()) d.state[i] = blocked_candidate;
            continue;
        }
        const unsigned long long key = owner_key(k, pass);
        each_owner(d, k, lanes, [&](uint64_t* slot) { atomicMin(reinterpret_cast<unsigned long long*>(slot), key); });
    }
}

// A face that another marks meanwhile as taken was that other's, not this one's: its mark and its key tell the same here.
__global__ void take_kernel(DeviceArrays d, int pass) {
    const int32_t n = d.counts->candidates;
    const LaneGroup lanes;
    TK_EACH_GROUP(i, n) {
        if (d.state[i] != open_candidate) continue;
        const DeviceCollapse& k = d.candidates[i];
        const uint64_t key = owner_key(k, pass);
        bool own = true;
        each_owner(d, k, lanes, [&](const uint64_t* slot) { own = own && *static_cast<const volatile uint64_t*>(slot) == key; });
        if (!lanes.all(own)) continue;
        each_owner(d, k, lanes, [](uint64_t* slot) { *static_cast<volatile uint64_t*>(slot) = 0; });
        if (!lanes.leads()) continue;
        d.state[i] = taken_candidate;
        atomicAdd(&d.counts->taken, 1);
        atomicAdd(&d.counts->removed, k.removes);
    }
}

__global__ void keys_kernel(DeviceArrays d, int64_t n) {
    TK_GRID_STRIDE(i, n) {
        const DeviceCollapse& k = d.candidates[i];
        const bool taken = d.state[i] == taken_candidate;
        d.keys[i] = taken ? uint64_t{cost_bits(k.cost)} << 32 | scramble(static_cast<uint32_t>(k.a)) : ~uint64_t{0};
        d.order[i] = static_cast<int32_t>(i);
    }
}

__global__ void removals_kernel(DeviceArrays d, int64_t n) {
    TK_GRID_STRIDE(i, n) {
        const int32_t at = d.sorted_order[i];
        d.removes[i] = d.state[at] == taken_candidate ? d.candidates[at].removes : 0;
    }
}

__global__ void leave_kernel(DeviceArrays d, int64_t n, int64_t surplus, int64_t most_removed) {
    TK_GRID_STRIDE(i, n) {
        const int32_t at = d.sorted_order[i];
        const int64_t before = d.removes_before[i], after = before + d.removes[i];
        if (d.state[at] != taken_candidate || (before < surplus && after <= most_removed)) continue;
        d.state[at] = blocked_candidate;
        atomicSub(&d.counts->taken, 1);
        atomicSub(&d.counts->removed, d.removes[i]);
    }
}

__global__ void topology_kernel(DeviceArrays d, int64_t n) {
    const CollapseMesh mesh = d.mesh();
    TK_GRID_STRIDE(i, n) {
        if (d.state[i] != taken_candidate) continue;
        const DeviceCollapse& k = d.candidates[i];
        if (!mesh.keeps_topology(k.a, k.b, k.multiplicity, OneLane{})) atomicAdd(&d.counts->topology_changes, 1);
        if (k.removes > k.multiplicity || mesh.leaves_bare_edge(k.a, k.b)) d.counts->parts_vanished = 1;
    }
}

__device__ void drop_face(int32_t* face) { face[0] = face[1] = face[2] = -1; }

__global__ void apply_kernel(DeviceArrays d, int64_t n) {
    const CollapseMesh mesh = d.mesh();
    const LaneGroup lanes;
    TK_EACH_GROUP(i, n) {
        if (d.state[i] != taken_candidate) continue;
        const DeviceCollapse k = d.candidates[i];
        if (k.removes > k.multiplicity) {  // rare, and in order: what is dropped already does not coincide with more
            if (lanes.leads())
                mesh.each_coincident(k.a, k.b, OneLane{}, [&](int32_t of_a, int32_t of_b, bool opposite) {
                    drop_face(d.faces + 3 * int64_t{of_b});
                    if (opposite) drop_face(d.faces + 3 * int64_t{of_a});
                });
            lanes.meet();
        }
        for (int32_t c = d.first[k.b] + lanes.first(); c < d.last[k.b]; c += lanes.count()) {
            const int32_t at = d.corners[c], corner = at % 3;
            int32_t* face = d.faces + (at - corner);
            if (face[0] < 0) continue;
            if (face[next_corner(corner)] == k.a || face[prev_corner(corner)] == k.a) drop_face(face);
            else face[corner] = k.a;
        }
        if (!lanes.leads()) continue;
        d.positions[k.a] = k.point;
        d.quadrics[k.a] += d.quadrics[k.b];
        d.merged_into[k.b] = k.a;
    }
}

}  // namespace

void find_candidates(const DeviceArrays& arrays, int64_t num_vertices, Rules rules, double min_quality, int32_t most_removed,
                     int32_t first_stamp, cudaStream_t stream) {
    DeviceArrays d = arrays;
    const unsigned blocks = list_blocks(num_vertices / 2 + 1);
    TK_LAUNCH(first_pairs_kernel, num_vertices, stream, d, num_vertices);
    for (int attempt = 0; attempt < most_attempts_on_device; ++attempt) {
        if (attempt > 0) {
            choose_again_kernel<<<blocks, judge_block, 0, stream>>>(d, attempt, first_stamp + attempt);
            more_pairs_kernel<<<blocks, judge_block, 0, stream>>>(d, attempt, first_stamp + attempt);
        }
        judge_kernel<<<blocks, judge_block, 0, stream>>>(d, attempt, rules, min_quality, most_removed);
        std::swap(d.losers, d.more_losers);
    }
}

void take_independent(const DeviceArrays& d, int64_t num_faces, int64_t num_vertices, cudaStream_t stream) {
    TK_CUDA(cudaMemsetAsync(d.owner, 0xff, static_cast<size_t>(num_faces) * sizeof(uint64_t), stream));
    const unsigned blocks = list_blocks(num_vertices / 2 + 1);
    for (int pass = 0; pass < 3; ++pass) {
        claim_kernel<<<blocks, judge_block, 0, stream>>>(d, pass);
        take_kernel<<<blocks, judge_block, 0, stream>>>(d, pass);
    }
}

void make_keys(const DeviceArrays& d, int64_t n, cudaStream_t stream) { TK_LAUNCH(keys_kernel, n, stream, d, n); }
void order_removals(const DeviceArrays& d, int64_t n, cudaStream_t stream) { TK_LAUNCH(removals_kernel, n, stream, d, n); }
void leave_cheapest(const DeviceArrays& d, int64_t n, int64_t surplus, int64_t most_removed, cudaStream_t stream) {
    TK_LAUNCH(leave_kernel, n, stream, d, n, surplus, most_removed);
}
void count_topology_changes(const DeviceArrays& d, int64_t n, cudaStream_t stream) { TK_LAUNCH(topology_kernel, n, stream, d, n); }
void apply_taken(const DeviceArrays& d, int64_t n, cudaStream_t stream) { TK_LAUNCH(apply_kernel, n * LaneGroup::size, stream, d, n); }

}  // namespace tk::mesh
