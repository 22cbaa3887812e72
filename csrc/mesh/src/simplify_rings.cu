// Rounds of simplification on the device, first part: neighbours, costs, choices. A group of lanes for each vertex.
#include "simplify_device.cuh"

namespace tk::mesh {
namespace {

constexpr int ring_block = 128;
constexpr int ring_groups = ring_block / LaneGroup::size;
constexpr int ring_room = 64;  // others in a vertex's faces, which are two in each; larger rings get a block each
constexpr int heavy_blocks = 264;

__global__ void ranges_kernel(const int32_t* sorted, int64_t n, int32_t* first, int32_t* last) {
    TK_GRID_STRIDE(i, n) {
        const int32_t v = sorted[i];
        if (i == 0 || sorted[i - 1] != v) first[v] = static_cast<int32_t>(i);
        if (i == n - 1 || sorted[i + 1] != v) last[v] = static_cast<int32_t>(i + 1);
    }
}

// Neighbours take their places by counting: a neighbour's is the number of smaller ones, each of which counts once.
__global__ void __launch_bounds__(ring_block) rings_kernel(DeviceArrays d, int64_t num_vertices) {
    __shared__ int32_t shared_ids[ring_groups][ring_room];
    __shared__ uint8_t shared_copies[ring_groups][ring_room];  // how often the id stands there, at its first place; else 0
    const CollapseMesh mesh = d.mesh();
    const LaneGroup lanes;
    int32_t* ids = shared_ids[threadIdx.x / LaneGroup::size];
    uint8_t* copies = shared_copies[threadIdx.x / LaneGroup::size];
    TK_EACH_GROUP(v, num_vertices) {
        const int32_t first = d.first[v], n = 2 * (d.last[v] - first);
        if (n > ring_room) {
            if (lanes.leads()) d.heavy[atomicAdd(&d.counts->heavy, 1)] = static_cast<int32_t>(v);
            continue;
        }
        lanes.meet();  // the room is free again
        for (int i = lanes.first(); i < n / 2; i += lanes.count()) {
            const int32_t c = d.corners[first + i];
            const int32_t* face = mesh.face_of(c);
            ids[2 * i] = face[next_corner(c % 3)];
            ids[2 * i + 1] = face[prev_corner(c % 3)];
        }
        lanes.meet();
        for (int i = lanes.first(); i < n; i += lanes.count()) {
            const int32_t own = ids[i];
            int same = 0, earlier = 0;
            for (int j = 0; j < n; ++j) {
                same += ids[j] == own;
                earlier += j < i && ids[j] == own;
            }
            copies[i] = static_cast<uint8_t>(earlier == 0 ? same : 0);
        }
        lanes.meet();
        int size = 0, boundary = 0, crowded = 0;
        const int64_t begin = mesh.ring_begin(v);
        for (int i = lanes.first(); i < n; i += lanes.count()) {
            const uint8_t own_copies = copies[i];
            if (own_copies == 0) continue;
            int place = 0;
            for (int j = 0; j < n; ++j) place += copies[j] != 0 && ids[j] < ids[i];
            d.ring_ids[begin + place] = ids[i];
            d.ring_multiplicity[begin + place] = own_copies;
            ++size;
            boundary += own_copies == 1;
            crowded += own_copies > 2;
        }
        size = lanes.sum(size);
        boundary = lanes.sum(boundary);
        crowded = lanes.sum(crowded);
        if (lanes.leads()) {
            d.ring_size[v] = size;
            d.kinds[v] = CollapseMesh::kind_of(boundary, crowded);
        }
    }
}

// Sorts in place with the block's threads: Batcher's bitonic network in the form whose comparisons all look upwards, so
// that what lies beyond n need not be there.
__device__ void sort_in_block(int32_t* items, int64_t n) {
    const auto exchange = [&](int64_t mask) {
        for (int64_t i = threadIdx.x; i < n; i += blockDim.x) {
            const int64_t j = i ^ mask;
            if (j > i && j < n && items[i] > items[j]) {
                const int32_t swap = items[i];
                items[i] = items[j];
                items[j] = swap;
            }
        }
        __syncthreads();
    };
    for (int64_t span = 2; span / 2 < n; span *= 2) {
        exchange(span - 1);
        for (int64_t step = span / 4; step > 0; step /= 2) exchange(step);
    }
}

__global__ void __launch_bounds__(ring_block) heavy_rings_kernel(DeviceArrays d) {
    const CollapseMesh mesh = d.mesh();
    for (int32_t h = blockIdx.x; h < d.counts->heavy; h += gridDim.x) {
        const int32_t v = d.heavy[h];
        const int64_t begin = mesh.ring_begin(v), degree = mesh.end(v) - mesh.begin(v);
        int32_t* ids = d.ring_ids + begin;
        for (int64_t i = threadIdx.x; i < degree; i += blockDim.x) {
            const int32_t c = mesh.begin(v)[i];
            const int32_t* face = mesh.face_of(c);
            ids[2 * i] = face[next_corner(c % 3)];
            ids[2 * i + 1] = face[prev_corner(c % 3)];
        }
        __syncthreads();
        sort_in_block(ids, 2 * degree);
        if (threadIdx.x == 0) {
            int32_t size = 0, run = 0;
            for (int64_t i = 0; i < 2 * degree; ++i) {
                const int32_t id = ids[i];
                run = size > 0 && ids[size - 1] == id ? run + 1 : 1;
                if (run == 1) ids[size++] = id;
                d.ring_multiplicity[begin + size - 1] = static_cast<uint8_t>(run < 255 ? run : 255);
            }
            d.ring_size[v] = size;
            d.kinds[v] = mesh.kind_from_ring(v, OneLane{});
        }
        __syncthreads();
    }
}

__global__ void quadrics_kernel(DeviceArrays d, int64_t num_vertices, SimplifyOptions options) {
    const CollapseMesh mesh = d.mesh();
    const LaneGroup lanes;
    TK_EACH_GROUP(v, num_vertices) {
        const Quadric q = mesh.quadric_of(static_cast<int32_t>(v), options, lanes);
        if (lanes.leads()) d.quadrics[v] = q;
    }
}

// Each edge is weighed at both of its ends, which give the same bits: that costs less than telling the other end.
__global__ void weigh_kernel(DeviceArrays d, int64_t num_vertices, Rules rules) {
    const CollapseMesh mesh = d.mesh();
    const LaneGroup lanes;
    TK_EACH_GROUP(i, num_vertices) {
        const int32_t v = static_cast<int32_t>(i);
        const int64_t begin = mesh.ring_begin(v), end = begin + d.ring_size[v];
        CheapestEdge cheapest;
        for (int64_t at = begin + lanes.first(); at < end; at += lanes.count()) {
            const int32_t u = d.ring_ids[at];
            Vec3d point;
            const float cost = mesh.edge_cost(v, u, d.ring_multiplicity[at], rules, point);
            d.ring_cost[at] = cost;
            cheapest.offer(cost, v, u, at);
        }
        cheapest.store(d, v, lanes);
    }
}

__global__ void histogram_kernel(DeviceArrays d, int64_t num_vertices) {
    __shared__ int32_t bins[cost_bins];
    for (int i = threadIdx.x; i < cost_bins; i += blockDim.x) bins[i] = 0;
    __syncthreads();
    TK_GRID_STRIDE(v, num_vertices) {
        const int32_t slot = d.choice[v];
        if (slot >= 0) atomicAdd(&bins[cost_bits(d.ring_cost[slot]) >> 19], 1);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < cost_bins; i += blockDim.x)
        if (bins[i] != 0) atomicAdd(&d.histogram[i], bins[i]);
}

// One block of cost_bins / 4 threads.
__global__ void limit_kernel(DeviceArrays d, int64_t rank) {
    constexpr int threads = cost_bins / 4;
    __shared__ int32_t sums[2][threads];
    const int t = static_cast<int>(threadIdx.x);
    int32_t own[4], total = 0;
    for (int k = 0; k < 4; ++k) total += own[k] = d.histogram[4 * t + k];
    sums[0][t] = total;
    int from = 0;
    for (int step = 1; step < threads; step *= 2) {
        __syncthreads();
        sums[1 - from][t] = sums[from][t] + (t >= step ? sums[from][t - step] : 0);
        from = 1 - from;
    }
    int64_t before = int64_t{sums[from][t]} - total;
    for (int k = 0; k < 4; ++k) {
        if (before <= rank && rank < before + own[k]) {
            const uint32_t bits = (static_cast<uint32_t>(4 * t + k + 1) << 19) - 1;
            d.counts->cost_limit = __uint_as_float(bits);
        }
        before += own[k];
    }
}

}  // namespace

void find_ranges(const DeviceArrays& d, int64_t num_faces, int64_t num_vertices, cudaStream_t stream) {
    TK_CUDA(cudaMemsetAsync(d.first, 0, static_cast<size_t>(num_vertices) * sizeof(int32_t), stream));
    TK_CUDA(cudaMemsetAsync(d.last, 0, static_cast<size_t>(num_vertices) * sizeof(int32_t), stream));
    TK_LAUNCH(ranges_kernel, 3 * num_faces, stream, d.sorted_faces, 3 * num_faces, d.first, d.last);
}

void build_rings(const DeviceArrays& d, int64_t num_vertices, cudaStream_t stream) {
    if (num_vertices <= 0) return;
    rings_kernel<<<grid_size(num_vertices * LaneGroup::size, ring_block), ring_block, 0, stream>>>(d, num_vertices);
    heavy_rings_kernel<<<heavy_blocks, ring_block, 0, stream>>>(d);
}

void make_quadrics(const DeviceArrays& d, int64_t num_vertices, const SimplifyOptions& options, cudaStream_t stream) {
    TK_LAUNCH(quadrics_kernel, num_vertices * LaneGroup::size, stream, d, num_vertices, options);
}

void weigh_edges(const DeviceArrays& d, int64_t num_vertices, Rules rules, cudaStream_t stream) {
    TK_LAUNCH(weigh_kernel, num_vertices * LaneGroup::size, stream, d, num_vertices, rules);
}

void find_cost_limit(const DeviceArrays& d, int64_t num_vertices, int64_t rank, cudaStream_t stream) {
    TK_CUDA(cudaMemsetAsync(d.histogram, 0, cost_bins * sizeof(int32_t), stream));
    const unsigned blocks = grid_size(num_vertices, 1024);
    histogram_kernel<<<blocks < 528 ? blocks : 528, 256, 0, stream>>>(d, num_vertices);
    limit_kernel<<<1, cost_bins / 4, 0, stream>>>(d, rank);
}

}  // namespace tk::mesh
