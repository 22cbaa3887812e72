// Simplification on the device: the rounds of simplify.cpp with a few lanes for each vertex, edge or collapse.
//
// The rules are the CPU's (simplify_rules.hpp) and so is the order in which they are relaxed. What differs: a refused
// edge's ends choose again a few times only, limits of cost are rounded up by at most a sixteenth, and ties fall
// otherwise. Costs are doubles either way, and no sum is taken in an order that could change: the same input gives the
// same bits. The host waits once a round, for four counts.
#include <memory>

#include "normals.hpp"
#include "simplify_device.cuh"
#include "simplify_primitives.cuh"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

// Floats as integers in the same order, so that the least and the largest can be found by atomic operations.
__device__ int32_t ordered(float x) {
    const int32_t bits = __float_as_int(x + 0.0f);
    return bits >= 0 ? bits : bits ^ 0x7fffffff;
}
float from_ordered(int32_t bits) {
    bits = bits >= 0 ? bits : bits ^ 0x7fffffff;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

struct Totals {  // of the whole work
    int32_t low[3], high[3];  // of the bounding box, as `ordered`
    int32_t faces, vertices;
    unsigned long long quadric_error, deviation, displacement;  // bits of doubles that are not negative
};

__global__ void begin_kernel(Totals* totals) {
    *totals = Totals{};
    for (int k = 0; k < 3; ++k) {
        totals->low[k] = INT32_MAX;
        totals->high[k] = INT32_MIN;
    }
}

__global__ void reset_kernel(RoundCounts* counts) {
    *counts = RoundCounts{};
    counts->cost_limit = __int_as_float(0x7f800000);
}

__global__ void count_up_kernel(int32_t* values, int64_t n) {
    TK_GRID_STRIDE(i, n) values[i] = static_cast<int32_t>(i);
}

__global__ void flag_kernel(const int32_t* faces, int64_t n, int32_t* flag) {
    TK_GRID_STRIDE(i, n) flag[faces[i]] = 1;
}

__global__ void bounds_kernel(const float* vertices, const int32_t* flag, int64_t num_vertices, Totals* totals) {
    int32_t low[3] = {INT32_MAX, INT32_MAX, INT32_MAX}, high[3] = {INT32_MIN, INT32_MIN, INT32_MIN};
    TK_GRID_STRIDE(v, num_vertices) {
        if (flag[v] == 0) continue;
        for (int k = 0; k < 3; ++k) {
            const int32_t x = ordered(vertices[3 * v + k]);
            low[k] = min(low[k], x);
            high[k] = max(high[k], x);
        }
    }
    for (int k = 0; k < 3; ++k) {
        for (int step = 16; step > 0; step /= 2) {
            low[k] = min(low[k], __shfl_xor_sync(~0u, low[k], step));
            high[k] = max(high[k], __shfl_xor_sync(~0u, high[k], step));
        }
        if ((threadIdx.x & 31) == 0) {
            atomicMin(&totals->low[k], low[k]);
            atomicMax(&totals->high[k], high[k]);
        }
    }
}

__global__ void number_faces_kernel(int32_t* faces, int64_t n, const int32_t* number) {
    TK_GRID_STRIDE(i, n) faces[i] = number[faces[i]];
}

struct Frame {
    Vec3d centre;
    double scale, inverse;
    __host__ __device__ Vec3d inward(const Vec3d& p) const { return (p - centre) * inverse; }
};

__global__ void enter_kernel(const float* vertices, int64_t num_vertices, const int32_t* flag, const int32_t* number, Frame frame,
                             int32_t* image, uint8_t* referenced, Vec3d* positions) {
    TK_GRID_STRIDE(v, num_vertices) {
        const bool used = flag[v] != 0;
        image[v] = used ? number[v] : -1;
        referenced[v] = used;
        if (used) positions[number[v]] = frame.inward(load_point(vertices, v));
    }
}

__global__ void move_kernel(DeviceArrays d, int64_t num_vertices, Vec3d* positions, Quadric* quadrics) {
    TK_GRID_STRIDE(v, num_vertices) {
        if (d.flag[v] == 0) continue;
        positions[d.number[v]] = d.positions[v];
        quadrics[d.number[v]] = d.quadrics[v];
    }
}

__global__ void follow_kernel(DeviceArrays d, int64_t num_input_vertices, int32_t* image) {
    TK_GRID_STRIDE(v, num_input_vertices) {
        int32_t at = image[v];
        if (at < 0) continue;
        while (d.merged_into[at] != at) at = d.merged_into[at];
        image[v] = d.flag[at] != 0 ? d.number[at] : -1;
    }
}

__global__ void last_number_kernel(const int32_t* flag, const int32_t* number, int64_t n, int32_t* count) {
    *count = n > 0 ? number[n - 1] + flag[n - 1] : 0;
}

__device__ void raise_to(unsigned long long* slot, double value) {
    unsigned long long bits = static_cast<unsigned long long>(__double_as_longlong(value));
    for (int step = 16; step > 0; step /= 2) {
        const unsigned long long other = __shfl_xor_sync(~0u, bits, step);
        bits = other > bits ? other : bits;
    }
    if ((threadIdx.x & 31) == 0) atomicMax(slot, bits);
}

__global__ void distance_kernel(DeviceArrays d, const float* vertices, int64_t num_vertices, const int32_t* image, const uint8_t* referenced,
                                Frame frame, Totals* totals) {
    const CollapseMesh mesh = d.mesh();
    double deviation = 0, displacement = 0;
    TK_GRID_STRIDE(v, num_vertices) {
        if (!referenced[v]) continue;
        if (image[v] < 0) {
            displacement = unbounded;
            continue;
        }
        const Vec3d p = frame.inward(load_point(vertices, v));
        displacement = fmax(displacement, length(mesh.positions[image[v]] - p));
        deviation = fmax(deviation, sqrt(mesh.nearby_distance2(p, image[v])));
    }
    raise_to(&totals->deviation, deviation);
    raise_to(&totals->displacement, displacement);
}

__global__ void quadric_error_kernel(DeviceArrays d, int64_t num_vertices, Totals* totals) {
    double error = 0;
    TK_GRID_STRIDE(v, num_vertices) {
        const Quadric& q = d.quadrics[v];
        if (q.weight > 0) error = fmax(error, q.at(d.positions[v]) / q.weight);
    }
    raise_to(&totals->quadric_error, error);
}

__global__ void leave_frame_kernel(const Vec3d* positions, int64_t num_vertices, Frame frame, float* vertices) {
    TK_GRID_STRIDE(v, num_vertices) {
        const Vec3d p = positions[v] * frame.scale + frame.centre;
        for (int k = 0; k < 3; ++k) vertices[3 * v + k] = static_cast<float>(p[k]);
    }
}

class DeviceSimplifier {
public:
    DeviceSimplifier(Scratch& scratch, int64_t num_faces, int64_t num_vertices, const SimplifyOptions& options)
        : options_(options), num_input_vertices_(num_vertices), num_faces_(num_faces), num_vertices_(num_vertices) {
        const int64_t f = num_faces, v = num_vertices, c = num_vertices / 2 + 1;
        d_.faces = scratch.take<int32_t>(3 * f);
        d_.other_faces = scratch.take<int32_t>(3 * f);
        d_.positions = scratch.take<Vec3d>(v);
        d_.quadrics = scratch.take<Quadric>(v);
        other_positions_ = scratch.take<Vec3d>(v);
        other_quadrics_ = scratch.take<Quadric>(v);
        d_.corner_ids = scratch.take<int32_t>(3 * f);
        d_.corners = scratch.take<int32_t>(3 * f);
        d_.sorted_faces = scratch.take<int32_t>(3 * f);
        d_.ring_ids = scratch.take<int32_t>(6 * f);
        d_.ring_multiplicity = scratch.take<uint8_t>(6 * f);
        d_.ring_cost = scratch.take<float>(6 * f);
        for (int32_t** list : {&d_.first, &d_.last, &d_.ring_size, &d_.choice, &d_.partner, &d_.stamp, &d_.pairs, &d_.losers, &d_.more_losers,
                               &d_.heavy, &d_.merged_into, &d_.flag, &d_.number, &image_})
            *list = scratch.take<int32_t>(v + 1);
        d_.kinds = scratch.take<uint8_t>(v);
        referenced_ = scratch.take<uint8_t>(v);
        d_.candidates = scratch.take<DeviceCollapse>(c);
        d_.state = scratch.take<uint8_t>(c);
        d_.owner = scratch.take<uint64_t>(f);
        d_.keys = scratch.take<uint64_t>(c);
        d_.sorted_keys = scratch.take<uint64_t>(c);
        for (int32_t** list : {&d_.order, &d_.sorted_order, &d_.removes, &d_.removes_before}) *list = scratch.take<int32_t>(c);
        d_.histogram = scratch.take<int32_t>(cost_bins);
        d_.counts = scratch.take<RoundCounts>(1);
        totals_ = scratch.take<Totals>(1);
        primitives_ = std::make_unique<Primitives>(scratch, f, v);
    }

    void enter(const float* vertices, const int32_t* faces, cudaStream_t stream) {
        begin_kernel<<<1, 1, 0, stream>>>(totals_);
        if (num_faces_ > 0) primitives_->keep_faces(faces, d_.faces, &totals_->faces, num_faces_, stream);
        num_faces_ = read_back(&totals_->faces, stream);
        number_used(stream);
        if (num_vertices_ > 0)
            bounds_kernel<<<std::min(grid_size(num_vertices_, block_size), 1056u), block_size, 0, stream>>>(vertices, d_.flag, num_vertices_, totals_);
        const Totals totals = read_back(totals_, stream);
        if (num_faces_ > 0) {
            Vec3d low, high;
            for (int k = 0; k < 3; ++k) {
                low[k] = from_ordered(totals.low[k]);
                high[k] = from_ordered(totals.high[k]);
            }
            frame_.centre = (low + high) * 0.5;
            frame_.scale = length(high - low);
            if (!(frame_.scale > 0)) frame_.scale = 1;
        }
        frame_.inverse = 1 / frame_.scale;
        TK_LAUNCH(enter_kernel, num_vertices_, stream, vertices, num_vertices_, d_.flag, d_.number, frame_, image_, referenced_, d_.positions);
        TK_LAUNCH(number_faces_kernel, 3 * num_faces_, stream, d_.faces, 3 * num_faces_, d_.number);
        num_vertices_ = totals.vertices;
        TK_LAUNCH(count_up_kernel, num_vertices_, stream, d_.merged_into, num_vertices_);
        TK_LAUNCH(count_up_kernel, 3 * num_faces_, stream, d_.corner_ids, 3 * num_faces_);
        TK_CUDA(cudaMemsetAsync(d_.stamp, 0, static_cast<size_t>(num_vertices_) * sizeof(int32_t), stream));
        reset_kernel<<<1, 1, 0, stream>>>(d_.counts);
        rings(stream);
        make_quadrics(d_, num_vertices_, options_, stream);
        rings_are_fresh_ = true;
    }

    void run(int64_t target_faces, cudaStream_t stream) {
        Rules rules = Rules::all;
        int64_t slack = 1;
        while (num_faces_ > target_faces) {
            const int64_t wanted = (num_faces_ - target_faces + 1) / 2;
            const bool unlimited = wanted * slack > num_faces_;
            const int64_t done = round(target_faces, rules, slack, stream);
            if (done * 20 >= wanted) slack = std::max<int64_t>(1, slack / 2);
            else if (!unlimited) slack *= 4;
            else if (rules == Rules::all) rules = Rules::any_shape;
            else if (done * 1000 < wanted && rules == Rules::any_shape) rules = Rules::any_topology;
            else if (done == 0) break;
        }
        renumber(stream);
    }

    void measure(const float* vertices, double* errors, cudaStream_t stream) {
        corners(stream);
        if (num_input_vertices_ > 0)
            distance_kernel<<<grid_size(num_input_vertices_, 128), 128, 0, stream>>>(d_, vertices, num_input_vertices_, image_, referenced_, frame_,
                                                                                   totals_);
        if (num_vertices_ > 0)
            quadric_error_kernel<<<std::min(grid_size(num_vertices_, block_size), 1056u), block_size, 0, stream>>>(d_, num_vertices_, totals_);
        const Totals totals = read_back(totals_, stream);
        const auto as_double = [](unsigned long long bits) {
            double x;
            std::memcpy(&x, &bits, sizeof x);
            return x;
        };
        errors[0] = std::sqrt(as_double(totals.quadric_error)) * frame_.scale;
        errors[1] = as_double(totals.deviation) * frame_.scale;
        errors[2] = parts_vanished_ ? unbounded : as_double(totals.displacement) * frame_.scale;
    }

    void store(float* vertices, int32_t* faces, int32_t* image, cudaStream_t stream) const {
        TK_LAUNCH(leave_frame_kernel, num_vertices_, stream, d_.positions, num_vertices_, frame_, vertices);
        const auto copy = [&](int32_t* to, const int32_t* from, int64_t n) {
            if (n > 0) TK_CUDA(cudaMemcpyAsync(to, from, static_cast<size_t>(n) * sizeof(int32_t), cudaMemcpyDeviceToDevice, stream));
        };
        copy(faces, d_.faces, 3 * num_faces_);
        copy(image, image_, num_input_vertices_);
    }

    void count(int64_t* counts) const {
        counts[0] = num_vertices_;
        counts[1] = num_faces_;
        counts[2] = rounds_;
        counts[3] = collapses_;
        counts[4] = topology_changes_;
    }

private:
    // Sets flag and number (its rank among them) of the vertices that faces name, and totals_->vertices.
    void number_used(cudaStream_t stream) {
        TK_CUDA(cudaMemsetAsync(d_.flag, 0, static_cast<size_t>(num_vertices_) * sizeof(int32_t), stream));
        TK_LAUNCH(flag_kernel, 3 * num_faces_, stream, d_.faces, 3 * num_faces_, d_.flag);
        if (num_vertices_ > 0) primitives_->exclusive_sum(d_.flag, d_.number, num_vertices_, stream);
        last_number_kernel<<<1, 1, 0, stream>>>(d_.flag, d_.number, num_vertices_, &totals_->vertices);
    }

    void corners(cudaStream_t stream) {
        if (num_faces_ > 0) primitives_->sort_corners(d_.faces, d_.corner_ids, d_.sorted_faces, d_.corners, num_faces_, num_vertices_, stream);
        find_ranges(d_, num_faces_, num_vertices_, stream);
    }

    void rings(cudaStream_t stream) {
        corners(stream);
        build_rings(d_, num_vertices_, stream);
    }

    // Drops vertices that no face uses.
    void renumber(cudaStream_t stream) {
        number_used(stream);
        TK_LAUNCH(move_kernel, num_vertices_, stream, d_, num_vertices_, other_positions_, other_quadrics_);
        TK_LAUNCH(follow_kernel, num_input_vertices_, stream, d_, num_input_vertices_, image_);
        TK_LAUNCH(number_faces_kernel, 3 * num_faces_, stream, d_.faces, 3 * num_faces_, d_.number);
        std::swap(d_.positions, other_positions_);
        std::swap(d_.quadrics, other_quadrics_);
        num_vertices_ = read_back(&totals_->vertices, stream);
        TK_LAUNCH(count_up_kernel, num_vertices_, stream, d_.merged_into, num_vertices_);
        collapses_since_ = 0;
    }

    int64_t round(int64_t target_faces, Rules rules, int64_t slack, cudaStream_t stream) {
        const int64_t surplus = num_faces_ - target_faces;
        // Never below nine tenths of the target: one collapse in a tangle may remove very many faces.
        const int64_t most_removed = num_faces_ - (target_faces * 9 + 9) / 10;
        const int64_t rank = rank_of_limit(num_faces_, target_faces, slack);
        reset_kernel<<<1, 1, 0, stream>>>(d_.counts);
        if (!rings_are_fresh_) rings(stream);
        rings_are_fresh_ = false;
        weigh_edges(d_, num_vertices_, rules, stream);
        if (rank < num_vertices_) find_cost_limit(d_, num_vertices_, rank, stream);
        find_candidates(d_, num_vertices_, rules, options_.min_quality, static_cast<int32_t>(most_removed), stamp_, stream);
        stamp_ += most_attempts_on_device;
        take_independent(d_, num_faces_, num_vertices_, stream);
        RoundCounts found = read_back(d_.counts, stream);
        const int64_t n = found.candidates;
        if (found.removed > surplus) {
            make_keys(d_, n, stream);
            primitives_->sort_keys(d_.keys, d_.order, d_.sorted_keys, d_.sorted_order, n, stream);
            order_removals(d_, n, stream);
            primitives_->exclusive_sum(d_.removes, d_.removes_before, n, stream);
            leave_cheapest(d_, n, surplus, most_removed, stream);
        }
        if (rules == Rules::any_topology) count_topology_changes(d_, n, stream);
        apply_taken(d_, n, stream);
        if (num_faces_ > 0) primitives_->keep_faces(d_.faces, d_.other_faces, &d_.counts->live_faces, num_faces_, stream);
        std::swap(d_.faces, d_.other_faces);
        int64_t left = num_faces_ - found.removed;
        if (found.removed > surplus || rules == Rules::any_topology) {  // then the first counts are not what was done
            found = read_back(d_.counts, stream);
            left = found.live_faces;
        }
        num_faces_ = left;
        topology_changes_ += found.topology_changes;
        parts_vanished_ = parts_vanished_ || found.parts_vanished != 0;
        collapses_ += found.taken;
        collapses_since_ += found.taken;
        ++rounds_;
        if (2 * collapses_since_ > num_vertices_) renumber(stream);
        return found.taken;
    }

    SimplifyOptions options_;
    int64_t num_input_vertices_, num_faces_, num_vertices_;
    int64_t rounds_ = 0, collapses_ = 0, topology_changes_ = 0, collapses_since_ = 0;
    bool parts_vanished_ = false, rings_are_fresh_ = false;
    int32_t stamp_ = 1;
    Frame frame_{{0, 0, 0}, 1, 1};
    DeviceArrays d_{};
    Vec3d* other_positions_;
    Quadric* other_quadrics_;
    int32_t* image_;
    uint8_t* referenced_;
    Totals* totals_;
    std::unique_ptr<Primitives> primitives_;
};

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_simplify_begin(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices, int64_t target_faces,
                                  double regularization, double boundary_weight, double min_quality, void** state, int64_t* counts,
                                  double* errors, void* scratch, int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        require_indexable(num_faces, num_vertices);
        SimplifyOptions options;
        options.regularization = regularization;
        options.boundary_weight = boundary_weight;
        options.min_quality = min_quality;
        Scratch room(scratch, scratch_bytes);
        auto simplifier = std::make_unique<DeviceSimplifier>(room, num_faces, num_vertices, options);
        if (room.only_measured()) return;
        simplifier->enter(vertices, faces, as_stream(stream));
        simplifier->run(target_faces, as_stream(stream));
        simplifier->measure(vertices, errors, as_stream(stream));
        simplifier->count(counts);
        *state = simplifier.release();
    });
}

TK_API int tk_mesh_simplify_fill(void* state, float* vertices, int32_t* faces, int32_t* image, int device, void* stream) {
    return guarded_on(device, [&] { static_cast<DeviceSimplifier*>(state)->store(vertices, faces, image, as_stream(stream)); });
}

TK_API int tk_mesh_simplify_end(void* state) {
    return guarded([&] { delete static_cast<DeviceSimplifier*>(state); });
}
