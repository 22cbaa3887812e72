// One orientation for each component, on the device; what is decided, and in which order, as in orientation.cpp.
//
// A forest of disjoint sets keeps for each face whether it must be turned over to agree with its parent. Where no two
// edges of a component contradict each other, any forest gives the same answer. Where they do (surfaces with one side),
// the answer is that of the forest which takes edges in ascending order whenever they join two trees, which is the
// minimum spanning forest (Boruvka 1926; Kruskal 1956) for the edges' numbers as weights.
#include <utility>

#include "disjoint_sets.cuh"
#include "exact_sum.cuh"
#include "half_edges.cuh"
#include "normals.hpp"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

// link: parent * 2 + whether to turn over against it. Roots have themselves and 0.
__device__ uint32_t find_parity(uint32_t* link, uint32_t i) {
    volatile uint32_t* l = link;
    uint32_t flip = 0;
    for (;;) {
        const uint32_t own = l[i];
        if (own >> 1 == i) return i << 1 | flip;
        const uint32_t upper = l[own >> 1] ^ (own & 1);
        if (upper != own) l[i] = upper;
        flip ^= upper & 1;
        i = upper >> 1;
    }
}

__device__ void unite_parity(uint32_t* link, uint32_t a, uint32_t b, uint32_t differ) {
    for (;;) {
        const uint32_t ra = find_parity(link, a), rb = find_parity(link, b);
        if (ra >> 1 == rb >> 1) return;
        const bool keep_a = ScatteredFirst::before(ra >> 1, rb >> 1);
        const uint32_t upper = keep_a ? ra >> 1 : rb >> 1, lower = keep_a ? rb >> 1 : ra >> 1;
        if (atomicCAS(link + lower, lower << 1, upper << 1 | ((ra ^ rb ^ differ) & 1)) == lower << 1) return;
    }
}

// The two faces of the edge that starts at i, and whether they disagree.
struct Pair {
    uint32_t g, h, differ;
};
__device__ bool read_pair(const HalfEdges::View& halves, const int32_t* faces, int64_t i, Pair& pair) {
    if (!halves.starts(i) || !halves.is_edge(i) || !halves.joins_two(i)) return false;
    const int32_t g = halves.half[i], h = halves.half[i + 1];
    pair = {static_cast<uint32_t>(g / 3), static_cast<uint32_t>(h / 3), faces[g] == faces[h]};
    return true;
}

__global__ void alone_kernel(uint32_t* link, int64_t n) {
    TK_GRID_STRIDE(f, n) link[f] = static_cast<uint32_t>(f) << 1;
}

__global__ void join_kernel(HalfEdges::View halves, const int32_t* faces, uint32_t* link) {
    TK_GRID_STRIDE(i, halves.count) {
        Pair pair;
        if (read_pair(halves, faces, i, pair)) unite_parity(link, pair.g, pair.h, pair.differ);
    }
}

__global__ void find_kernel(uint32_t* link, int64_t n, uint32_t* found) {
    TK_GRID_STRIDE(f, n) found[f] = find_parity(link, static_cast<uint32_t>(f));
}

__global__ void conflicts_kernel(HalfEdges::View halves, const int32_t* faces, const uint32_t* found, unsigned long long* conflicts) {
    unsigned own = 0;
    TK_GRID_STRIDE(i, halves.count) {
        Pair pair;
        if (read_pair(halves, faces, i, pair)) own += (found[pair.g] ^ found[pair.h] ^ pair.differ) & 1;
    }
    for (int step = 16; step > 0; step /= 2) own += __shfl_down_sync(~0u, own, step);
    if (threadIdx.x % 32 == 0 && own) atomicAdd(conflicts, own);
}

// ---- The minimum spanning forest ----

__global__ void none_best_kernel(int32_t* best, int64_t n) {
    TK_GRID_STRIDE(f, n) best[f] = INT32_MAX;
}

// The first edge by which each tree can be joined to another.
__global__ void best_kernel(HalfEdges::View halves, const int32_t* faces, const uint32_t* found, int32_t* best) {
    TK_GRID_STRIDE(i, halves.count) {
        Pair pair;
        if (!read_pair(halves, faces, i, pair)) continue;
        const uint32_t a = found[pair.g] >> 1, b = found[pair.h] >> 1;
        if (a == b) continue;
        const int32_t edge = static_cast<int32_t>(i);
        lower_to(best + a, edge);
        lower_to(best + b, edge);
    }
}

__global__ void hook_kernel(HalfEdges::View halves, const int32_t* faces, const uint32_t* found, const int32_t* best, int64_t n,
                            uint32_t* link, int32_t* any) {
    TK_GRID_STRIDE(r, n) {
        if (best[r] == INT32_MAX) continue;
        Pair pair;
        read_pair(halves, faces, best[r], pair);
        const uint32_t g = found[pair.g], h = found[pair.h], own = static_cast<uint32_t>(r);
        const uint32_t other = g >> 1 == own ? h >> 1 : g >> 1;
        // Two trees that choose each other's edge: one of them stays.
        if (best[other] == best[r] && own < other) continue;
        link[r] = other << 1 | ((g ^ h ^ pair.differ) & 1);
        *any = 1;
    }
}

// Components in terms of their first face.
__global__ void first_face_kernel(const uint32_t* found, int64_t n, int32_t* first) {
    TK_GRID_STRIDE(f, n) lower_to(first + (found[f] >> 1), static_cast<int32_t>(f));
}
__global__ void rebase_kernel(const uint32_t* found, int64_t n, const int32_t* first, uint32_t* rebased) {
    TK_GRID_STRIDE(f, n) {
        const uint32_t leader = static_cast<uint32_t>(first[found[f] >> 1]);
        rebased[f] = leader << 1 | ((found[f] ^ found[leader]) & 1);
    }
}

// ---- Votes and volumes ----

// Adds up values by root: each thread keeps the sum of one root until it meets another, and warps that end in one root
// add theirs up before the atomics. `term` gives a face's value and `flush` adds a sum to that of a root.
template <class Sum, class Term, class Flush, class Shuffle>
__device__ void sum_by_root(const uint32_t* found, int64_t n, Sum sum, const Term& term, const Shuffle& shuffle, const Flush& flush) {
    const Sum zero = sum;
    uint32_t root = ~0u;
    TK_GRID_STRIDE(f, n) {
        if (found[f] >> 1 != root) {
            if (root != ~0u) flush(root, sum);
            root = found[f] >> 1;
            sum = zero;
        }
        sum += term(f);
    }
    if (__all_sync(~0u, root == __shfl_sync(~0u, root, 0))) {
        for (int step = 16; step > 0; step /= 2) sum += shuffle(sum, step);
        if (threadIdx.x % 32 != 0) return;
    }
    if (root != ~0u) flush(root, sum);
}

// Per root: how many faces more keep their orientation than lose it, if the root keeps its own.
__global__ void votes_kernel(const uint32_t* found, int64_t n, int32_t* votes) {
    sum_by_root(
        found, n, int32_t{0}, [&](int64_t f) { return found[f] & 1 ? -1 : 1; },
        [](int32_t sum, int step) { return __shfl_down_sync(~0u, sum, step); },
        [&](uint32_t root, int32_t sum) { atomicAdd(votes + root, sum); });
}

struct Moments {
    ExactSum area, x, y, z;
    __device__ Moments& operator+=(const Moments& o) {
        area += o.area;
        x += o.x;
        y += o.y;
        z += o.z;
        return *this;
    }
};
struct Shape {
    Moments moments;
    ExactSum volume;
};
struct Bounds {
    uint64_t area, moment, volume;
};

struct Surface {
    const float* vertices;
    const int32_t* faces;
    int64_t num_faces;

    __device__ double area(int64_t f) const { return length(area_normal(vertices, faces + 3 * f)); }
    __device__ Vec3d moment(int64_t f, double area) const {
        Vec3d sum{0, 0, 0};
        for (int i = 0; i < 3; ++i) sum += load_point(vertices, faces[3 * f + i]) * (area / 3);
        return sum;
    }
    __device__ double volume(int64_t f, const Vec3d& centre) const {
        return dot(area_normal(vertices, faces + 3 * f), load_point(vertices, faces[3 * f]) - centre);
    }
};

__global__ void moment_bounds_kernel(Surface surface, Bounds* bounds) {
    uint64_t area_bound = 0, moment_bound = 0;
    TK_GRID_STRIDE(f, surface.num_faces) {
        const double area = surface.area(f);
        if (!isfinite(area)) continue;
        const Vec3d m = surface.moment(f, area);
        area_bound = max(area_bound, magnitude_bits(area));
        moment_bound = max(moment_bound, max(magnitude_bits(m.x), max(magnitude_bits(m.y), magnitude_bits(m.z))));
    }
    raise_to_largest(&bounds->area, area_bound);
    raise_to_largest(&bounds->moment, moment_bound);
}

__global__ void moments_kernel(Surface surface, const uint32_t* found, const Bounds* bounds, Shape* shapes) {
    const FixedPoint areas(bounds->area, surface.num_faces), moments(bounds->moment, surface.num_faces);
    const auto split = [&](double x) { return x - x == 0 ? moments.split(x) : ExactSum{0, 0}; };
    sum_by_root(
        found, surface.num_faces, Moments{},
        [&](int64_t f) {
            const double area = surface.area(f);
            if (!isfinite(area)) return Moments{};
            const Vec3d m = surface.moment(f, area);
            return Moments{areas.split(area), split(m.x), split(m.y), split(m.z)};
        },
        [](const Moments& s, int step) {
            return Moments{shuffled(s.area, step), shuffled(s.x, step), shuffled(s.y, step), shuffled(s.z, step)};
        },
        [&](uint32_t root, const Moments& sum) {
            Moments* total = &shapes[root].moments;
            add(&total->area, sum.area);
            add(&total->x, sum.x);
            add(&total->y, sum.y);
            add(&total->z, sum.z);
        });
}

__device__ Vec3d centre_of(const Shape& shape, const Bounds* bounds, int64_t count) {
    const FixedPoint moments(bounds->moment, count);
    const Moments& sum = shape.moments;
    const double scale = 1 / fmax(FixedPoint(bounds->area, count).value(sum.area), 1e-300);
    return Vec3d{moments.value(sum.x), moments.value(sum.y), moments.value(sum.z)} * scale;
}

__global__ void centres_kernel(const Bounds* bounds, const Shape* shapes, int64_t n, Vec3d* centres) {
    TK_GRID_STRIDE(f, n) centres[f] = centre_of(shapes[f], bounds, n);
}

__global__ void volume_bounds_kernel(Surface surface, const uint32_t* found, const Vec3d* centres, Bounds* bounds) {
    uint64_t own = 0;
    TK_GRID_STRIDE(f, surface.num_faces) own = max(own, magnitude_bits(surface.volume(f, centres[found[f] >> 1])));
    raise_to_largest(&bounds->volume, own);
}

__global__ void volumes_kernel(Surface surface, const uint32_t* found, const Vec3d* centres, const Bounds* bounds, Shape* shapes) {
    const FixedPoint volumes(bounds->volume, surface.num_faces);
    sum_by_root(
        found, surface.num_faces, ExactSum{0, 0},
        [&](int64_t f) {
            const double volume = surface.volume(f, centres[found[f] >> 1]);
            return volume - volume == 0 ? volumes.split(found[f] & 1 ? -volume : volume) : ExactSum{0, 0};
        },
        [](const ExactSum& s, int step) { return shuffled(s, step); },
        [&](uint32_t root, const ExactSum& sum) { add(&shapes[root].volume, sum); });
}

__global__ void outward_votes_kernel(const Shape* shapes, const Bounds* bounds, int64_t n, int32_t* votes) {
    const FixedPoint areas(bounds->area, n), volumes(bounds->volume, n);
    TK_GRID_STRIDE(f, n) {
        const double volume = volumes.value(shapes[f].volume);
        // A sheet encloses nothing worth the name: the vote stands.
        if (fabs(volume) > 1e-6 * pow(areas.value(shapes[f].moments.area), 1.5)) votes[f] = volume < 0 ? -1 : 1;
    }
}

__global__ void flip_kernel(const uint32_t* found, int64_t n, const int32_t* votes, uint8_t* flip) {
    TK_GRID_STRIDE(f, n) flip[f] = (found[f] & 1) ^ (votes[found[f] >> 1] < 0);
}

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_unify_orientation(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices, int outward,
                                     uint8_t* flip, int64_t* num_conflicts, void* scratch, int64_t* scratch_bytes, int device,
                                     void* stream) {
    return guarded_on(device, [&] {
        require_indexable(num_faces, num_vertices);
        const int64_t n = num_faces;
        Scratch room(scratch, scratch_bytes);
        unsigned long long* conflicts = room.take<unsigned long long>(1);
        int32_t* any = room.take<int32_t>(1);
        uint32_t* link = room.take<uint32_t>(n);
        uint32_t* found = room.take<uint32_t>(n);
        int32_t* votes = room.take<int32_t>(n);
        const int64_t mark = room.mark();
        HalfEdges halves(room, n, num_vertices);
        // The sums take the place of the half-edges, which are not needed any more by then.
        room.rewind(mark);
        Bounds* bounds = outward ? room.take<Bounds>(1) : nullptr;
        Shape* shapes = outward ? room.take<Shape>(n) : nullptr;
        Vec3d* centres = outward ? room.take<Vec3d>(n) : nullptr;
        if (room.only_measured()) return;

        const cudaStream_t s = as_stream(stream);
        halves.sort(faces, s);
        TK_CUDA(cudaMemsetAsync(conflicts, 0, sizeof *conflicts, s));
        TK_LAUNCH(alone_kernel, n, s, link, n);
        TK_LAUNCH(join_kernel, 3 * n, s, halves.view(), faces, link);
        TK_LAUNCH(find_kernel, n, s, link, n, found);
        TK_LAUNCH(conflicts_kernel, 3 * n, s, halves.view(), faces, found, conflicts);
        *num_conflicts = static_cast<int64_t>(read_back(conflicts, s));
        int32_t* best = halves.spare();
        if (*num_conflicts > 0) {
            TK_LAUNCH(alone_kernel, n, s, link, n);
            for (bool joined = true; joined;) {
                TK_LAUNCH(find_kernel, n, s, link, n, found);
                TK_LAUNCH(none_best_kernel, n, s, best, n);
                TK_LAUNCH(best_kernel, 3 * n, s, halves.view(), faces, found, best);
                TK_CUDA(cudaMemsetAsync(any, 0, sizeof *any, s));
                TK_LAUNCH(hook_kernel, n, s, halves.view(), faces, found, best, n, link, any);
                joined = read_back(any, s) != 0;
            }
            TK_CUDA(cudaMemsetAsync(conflicts, 0, sizeof *conflicts, s));
            TK_LAUNCH(conflicts_kernel, 3 * n, s, halves.view(), faces, found, conflicts);
            *num_conflicts = static_cast<int64_t>(read_back(conflicts, s));
        }
        TK_LAUNCH(none_best_kernel, n, s, best, n);
        TK_LAUNCH(first_face_kernel, n, s, found, n, best);
        TK_LAUNCH(rebase_kernel, n, s, found, n, best, link);
        std::swap(found, link);

        if (n > 0) TK_CUDA(cudaMemsetAsync(votes, 0, static_cast<size_t>(n) * sizeof(int32_t), s));
        if (n > 0) votes_kernel<<<few_blocks(n), block_size, 0, s>>>(found, n, votes);
        if (outward && n > 0) {
            const Surface surface{vertices, faces, n};
            TK_CUDA(cudaMemsetAsync(bounds, 0, sizeof(Bounds), s));
            TK_CUDA(cudaMemsetAsync(shapes, 0, static_cast<size_t>(n) * sizeof(Shape), s));
            const unsigned blocks = few_blocks(n);
            moment_bounds_kernel<<<blocks, block_size, 0, s>>>(surface, bounds);
            moments_kernel<<<blocks, block_size, 0, s>>>(surface, found, bounds, shapes);
            TK_LAUNCH(centres_kernel, n, s, bounds, shapes, n, centres);
            volume_bounds_kernel<<<blocks, block_size, 0, s>>>(surface, found, centres, bounds);
            volumes_kernel<<<blocks, block_size, 0, s>>>(surface, found, centres, bounds, shapes);
            TK_LAUNCH(outward_votes_kernel, n, s, shapes, bounds, n, votes);
        }
        TK_LAUNCH(flip_kernel, n, s, found, n, votes, flip);
    });
}
