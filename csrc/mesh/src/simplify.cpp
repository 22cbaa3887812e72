// Simplification by edge collapse in rounds.
//
// Each round weighs all edges by the quadric error of their collapse, lets every vertex choose its cheapest
// edge, and collapses those that both ends chose and that no cheaper one disturbs: two collapses of one round
// never touch the same face, so they run in parallel and their order is of no account. A round takes no edge
// that costs more than the one whose rank is the number of collapses still to do. Costs only grow when
// quadrics are added, so a serial collapse in order of cost would take all of these too.
//
// Quadrics are those of Garland and Heckbert, weighted by area, with planes across boundary edges. To each
// face's plane is added a weak attraction to its centroid, after Trettner and Kobbelt, "Fast and robust QEF
// minimization using probabilistic quadrics" (2020): where the planes say nothing, as on flat ground, vertices
// spread evenly instead of making slivers.
//
// Vertices on boundary edges, and on edges of three faces or more, are moved along these only. A vertex where
// such edges end or branch stays.
#include "simplify.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <memory>

#include "normals.hpp"
#include "trellis/sort.hpp"
#include "trellis_mesh.h"

namespace tk::mesh {

namespace {

constexpr int64_t grain = 1 << 12;
constexpr int most_attempts = 32;

void lower_to(uint64_t* slot, uint64_t value) {
    uint64_t seen = __atomic_load_n(slot, __ATOMIC_RELAXED);
    while (value < seen && !__atomic_compare_exchange_n(slot, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

// The items for which keep(i) holds, in order.
template <class T, class Keep, class Make>
std::vector<T> collect(int64_t n, Keep&& keep, Make&& make) {
    std::vector<int64_t> before(static_cast<size_t>(chunk_count(n, grain)), 0);
    parallel_chunks(n, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) before[chunk] += keep(i);
    });
    std::vector<T> result(static_cast<size_t>(exclusive_scan(before.data(), static_cast<int64_t>(before.size()))));
    parallel_chunks(n, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        int64_t at = before[chunk];
        for (int64_t i = begin; i < end; ++i)
            if (keep(i)) result[at++] = make(i);
    });
    return result;
}

}  // namespace

Simplifier::Simplifier(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices,
                       const SimplifyOptions& options)
    : options_(options), num_input_vertices_(num_vertices) {
    const auto triples = collect<std::array<int32_t, 3>>(
        num_faces, [&](int64_t f) { return is_proper(faces + 3 * f); },
        [&](int64_t f) { return std::array<int32_t, 3>{faces[3 * f], faces[3 * f + 1], faces[3 * f + 2]}; });
    faces_.resize(triples.size() * 3);
    image_.assign(static_cast<size_t>(num_vertices), -1);
    Vec3d low{INFINITY, INFINITY, INFINITY}, high{-INFINITY, -INFINITY, -INFINITY};
    for (size_t f = 0; f < triples.size(); ++f)
        for (size_t i = 0; i < 3; ++i) {
            const int32_t v = triples[f][i];
            faces_[3 * f + i] = v;
            image_[v] = v;
            for (int k = 0; k < 3; ++k) {
                low[k] = std::min<double>(low[k], vertices[3 * int64_t{v} + k]);
                high[k] = std::max<double>(high[k], vertices[3 * int64_t{v} + k]);
            }
        }
    if (!triples.empty()) {
        centre_ = (low + high) * 0.5;
        scale_ = length(high - low);
        if (!(scale_ > 0)) scale_ = 1;
    }
    positions_.resize(static_cast<size_t>(num_vertices));
    parallel_for(num_vertices, grain, [&](int64_t v) {
        positions_[v] = image_[v] < 0 ? Vec3d{0, 0, 0} : (load_point(vertices, v) - centre_) * (1 / scale_);
    });
    referenced_.resize(static_cast<size_t>(num_vertices));
    parallel_for(num_vertices, grain, [&](int64_t v) { referenced_[v] = image_[v] >= 0; });
    merged_into_ = image_;
    make_quadrics();
}

CollapseMesh Simplifier::view() const {
    return {positions_.data(),      quadrics_.data(),  faces_.data(),    corners_.first.data(),     corners_.first.data() + 1,
            corners_.items.data(), ring_size_.data(), ring_ids_.data(), ring_multiplicity_.data(), kinds_.data()};
}

void Simplifier::make_quadrics() {
    quadrics_.assign(positions_.size(), Quadric{});
    build_rings();
    const CollapseMesh mesh = view();
    parallel_for(num_vertices(), grain, [&](int64_t v) { quadrics_[v] = mesh.quadric_of(static_cast<int32_t>(v), options_, OneLane{}); });
    rings_are_fresh_ = true;
}

void Simplifier::build_rings() {
    corners_ = corners_of_vertices(faces_.data(), num_faces(), num_vertices(), false);
    ring_size_.resize(positions_.size());
    ring_ids_.resize(faces_.size() * 2);
    ring_multiplicity_.resize(faces_.size() * 2);
    ring_cost_.resize(faces_.size() * 2);
    kinds_.resize(positions_.size());
    const CollapseMesh mesh = view();
    parallel_for(num_vertices(), grain, [&](int64_t v) {
        const int64_t begin = ring_begin(v);
        int32_t* ids = ring_ids_.data() + begin;
        int32_t n = 0;
        for (const int32_t* c = corners_.begin(v); c < corners_.end(v); ++c) {
            const int32_t* face = faces_.data() + (*c - *c % 3);
            ids[n++] = face[next_corner(*c % 3)];
            ids[n++] = face[prev_corner(*c % 3)];
        }
        if (n > 40) std::sort(ids, ids + n);
        else
            for (int32_t i = 1; i < n; ++i) {
                const int32_t id = ids[i];
                int32_t j = i;
                for (; j > 0 && id < ids[j - 1]; --j) ids[j] = ids[j - 1];
                ids[j] = id;
            }
        int32_t size = 0;
        for (int32_t i = 0; i < n;) {
            int32_t j = i;
            while (j < n && ids[j] == ids[i]) ++j;
            ring_multiplicity_[begin + size] = static_cast<uint8_t>(std::min(j - i, 255));
            ids[size++] = ids[i];
            i = j;
        }
        ring_size_[v] = size;
        kinds_[v] = mesh.kind_from_ring(v, OneLane{});
    });
}

void Simplifier::weigh_edges(Rules rules) {
    const CollapseMesh mesh = view();
    parallel_for(num_vertices(), grain, [&](int64_t v) {
        const int64_t begin = ring_begin(v);
        Vec3d point;
        for (int32_t i = 0; i < ring_size_[v]; ++i) {
            const int32_t u = ring_ids_[begin + i];
            if (u < v) continue;
            const float cost = mesh.edge_cost(static_cast<int32_t>(v), u, ring_multiplicity_[begin + i], rules, point);
            ring_cost_[begin + i] = cost;
            ring_cost_[mesh.ring_slot(u, static_cast<int32_t>(v))] = cost;
        }
    });
}

// The vertex's cheapest edge, as an index into the rings, or -1.
int64_t Simplifier::cheapest(int64_t v) const {
    int64_t best = -1;
    uint64_t least = ~uint64_t{0};
    for (int64_t i = ring_begin(v); i < ring_begin(v) + ring_size_[v]; ++i) {
        if (!(ring_cost_[i] < forbidden_cost)) continue;
        const uint64_t key = edge_key(ring_cost_[i], static_cast<int32_t>(v), ring_ids_[i]);
        if (key < least) {
            least = key;
            best = i;
        }
    }
    return best;
}

float Simplifier::cost_limit(int64_t rank) const {
    std::vector<float> costs = collect<float>(
        num_vertices(), [&](int64_t v) { return choice_[v] >= 0; }, [&](int64_t v) { return ring_cost_[choice_[v]]; });
    if (rank >= static_cast<int64_t>(costs.size())) return forbidden_cost;
    std::nth_element(costs.begin(), costs.begin() + rank, costs.end());
    return costs[rank];
}

// Edges that both ends prefer to all their others, are allowed, and cost no more than `limit`. Where the
// preferred edge is not allowed, its ends choose again among the rest.
std::vector<Simplifier::Collapse> Simplifier::candidates(float limit, Rules rules) {
    const CollapseMesh mesh = view();
    constexpr uint8_t unknown = 0, allowed = 1, refused = 2;
    std::vector<uint8_t> verdict(positions_.size(), unknown);  // on the choice of the smaller of two mutual vertices
    const auto partner = [&](int64_t v) { return choice_[v] < 0 ? -1 : ring_ids_[choice_[v]]; };
    const auto judge = [&](int64_t v) {
        const int32_t u = partner(v);
        if (u < v || partner(u) != v || !(ring_cost_[choice_[v]] <= limit)) return unknown;
        const int m = ring_multiplicity_[choice_[v]];
        Vec3d point;
        mesh.edge_cost(static_cast<int32_t>(v), u, m, rules, point);
        if (!mesh.is_valid(static_cast<int32_t>(v), u, m, point, rules, options_.min_quality, OneLane{})) return refused;
        return mesh.removed_by(static_cast<int32_t>(v), u, m, rules, OneLane{}) <= most_removed_ ? allowed : refused;
    };
    parallel_for(num_vertices(), grain, [&](int64_t v) { verdict[v] = judge(v); });
    std::vector<int32_t> losers = collect<int32_t>(
        num_vertices(), [&](int64_t v) { return verdict[v] == refused; }, [](int64_t v) { return static_cast<int32_t>(v); });
    for (int attempt = 1; attempt < most_attempts && !losers.empty(); ++attempt) {
        const int64_t n = static_cast<int64_t>(losers.size());
        std::vector<int32_t> changed(losers.size() * 2);
        parallel_for(n, grain, [&](int64_t i) {
            const int32_t v = losers[i], u = partner(v);
            changed[2 * i] = v;
            changed[2 * i + 1] = u;
            verdict[v] = unknown;
        });
        parallel_for(2 * n, grain, [&](int64_t i) {
            const int32_t v = changed[i];
            ring_cost_[choice_[v]] = forbidden_cost;
            choice_[v] = cheapest(v);
        });
        // A pair that is mutual only now has one of these vertices in it; both may be, so it is judged once.
        std::vector<int32_t> owners = collect<int32_t>(
            2 * n,
            [&](int64_t i) {
                const int32_t v = changed[i], u = partner(v);
                return u >= 0 && partner(u) == v;
            },
            [&](int64_t i) { return std::min(changed[i], partner(changed[i])); });
        std::sort(owners.begin(), owners.end());
        owners.erase(std::unique(owners.begin(), owners.end()), owners.end());
        parallel_for(static_cast<int64_t>(owners.size()), grain, [&](int64_t i) { verdict[owners[i]] = judge(owners[i]); });
        losers = collect<int32_t>(
            static_cast<int64_t>(owners.size()), [&](int64_t i) { return verdict[owners[i]] == refused; },
            [&](int64_t i) { return owners[i]; });
    }
    return collect<Collapse>(
        num_vertices(), [&](int64_t v) { return verdict[v] == allowed; },
        [&](int64_t v) {
            Collapse c{static_cast<int32_t>(v), partner(v), 0, {}};
            c.multiplicity = ring_multiplicity_[choice_[v]];
            c.cost = mesh.edge_cost(c.a, c.b, c.multiplicity, rules, c.point);
            c.removes = mesh.removed_by(c.a, c.b, c.multiplicity, rules, OneLane{});
            return c;
        });
}

// Those of the candidates that share no face with a cheaper one that is taken.
std::vector<Simplifier::Collapse> Simplifier::independent(const std::vector<Collapse>& candidates) {
    const int64_t n = static_cast<int64_t>(candidates.size());
    constexpr uint8_t open = 0, taken = 1, blocked = 2;
    std::vector<uint8_t> state(candidates.size(), open);
    owner_.assign(static_cast<size_t>(num_faces()), ~uint64_t{0});
    const auto key = [&](int64_t i) { return uint64_t{cost_bits(candidates[i].cost)} << 32 | scramble(static_cast<uint32_t>(i)); };
    const auto each_face = [&](int64_t i, auto&& body) {
        for (const int32_t v : {candidates[i].a, candidates[i].b})
            for (const int32_t* c = corners_.begin(v); c < corners_.end(v); ++c) body(owner_.data() + *c / 3);
    };
    for (int pass = 0; pass < 3; ++pass) {
        parallel_for(n, grain, [&](int64_t i) {
            if (state[i] == open) each_face(i, [&](uint64_t* slot) { lower_to(slot, key(i)); });
        });
        parallel_for(n, grain, [&](int64_t i) {
            if (state[i] != open) return;
            bool all = true;
            each_face(i, [&](const uint64_t* slot) { all = all && *slot == key(i); });
            if (all) state[i] = taken;
        });
        // Faces of those taken stay theirs (0 is below every key of an open candidate); the rest are free again.
        parallel_for(n, grain, [&](int64_t i) {
            if (state[i] == taken) each_face(i, [](uint64_t* slot) { *slot = 0; });
        });
        parallel_for(n, grain, [&](int64_t i) {
            if (state[i] != open) return;
            bool hit = false;
            each_face(i, [&](const uint64_t* slot) { hit = hit || *slot == 0; });
            if (hit) state[i] = blocked;
        });
        parallel_for(num_faces(), grain, [&](int64_t f) {
            if (owner_[f] != 0) owner_[f] = ~uint64_t{0};
        });
    }
    return collect<Collapse>(n, [&](int64_t i) { return state[i] == taken; }, [&](int64_t i) { return candidates[i]; });
}

void Simplifier::apply(const std::vector<Collapse>& chosen) {
    const CollapseMesh mesh = view();
    parallel_for(static_cast<int64_t>(chosen.size()), grain, [&](int64_t i) {
        const Collapse& k = chosen[i];
        if (k.removes > k.multiplicity)
            mesh.each_coincident(k.a, k.b, OneLane{}, [&](int32_t of_a, int32_t of_b, bool opposite) {
                faces_[3 * of_b] = faces_[3 * of_b + 1] = faces_[3 * of_b + 2] = -1;
                if (opposite) faces_[3 * of_a] = faces_[3 * of_a + 1] = faces_[3 * of_a + 2] = -1;
            });
        for (const int32_t* c = corners_.begin(k.b); c < corners_.end(k.b); ++c) {
            int32_t* face = faces_.data() + (*c - *c % 3);
            if (face[0] < 0) continue;
            if (face[next_corner(*c % 3)] == k.a || face[prev_corner(*c % 3)] == k.a) face[0] = face[1] = face[2] = -1;
            else faces_[*c] = k.a;
        }
        positions_[k.a] = k.point;
        quadrics_[k.a] += quadrics_[k.b];
        merged_into_[k.b] = k.a;
    });
}

// Drops dead faces, and vertices that no face uses once they are many.
void Simplifier::compact() {
    const auto live = collect<std::array<int32_t, 3>>(
        num_faces(), [&](int64_t f) { return faces_[3 * f] >= 0; },
        [&](int64_t f) { return std::array<int32_t, 3>{faces_[3 * f], faces_[3 * f + 1], faces_[3 * f + 2]}; });
    faces_.resize(live.size() * 3);
    if (!live.empty()) std::memcpy(faces_.data(), live.data(), live.size() * sizeof live[0]);
    parallel_for(num_input_vertices_, grain, [&](int64_t v) {
        if (image_[v] >= 0) image_[v] = merged_into_[image_[v]];
    });
    // A closed surface has half as many vertices as faces: far more than that are dead ones.
    if (num_vertices() > num_faces() && num_vertices() > 64) drop_unused_vertices();
    merged_into_.resize(positions_.size());
    parallel_for(num_vertices(), grain, [&](int64_t v) { merged_into_[v] = static_cast<int32_t>(v); });
}

void Simplifier::drop_unused_vertices() {
    std::vector<int32_t> number(positions_.size(), 0);
    for (const int32_t v : faces_) number[v] = 1;
    const std::vector<int32_t> used = collect<int32_t>(
        num_vertices(), [&](int64_t v) { return number[v] != 0; }, [](int64_t v) { return static_cast<int32_t>(v); });
    std::fill(number.begin(), number.end(), -1);
    const int64_t n = static_cast<int64_t>(used.size());
    std::vector<Vec3d> positions(used.size());
    std::vector<Quadric> quadrics(used.size());
    parallel_for(n, grain, [&](int64_t i) {
        number[used[i]] = static_cast<int32_t>(i);
        positions[i] = positions_[used[i]];
        quadrics[i] = quadrics_[used[i]];
    });
    positions_.swap(positions);
    quadrics_.swap(quadrics);
    parallel_for(static_cast<int64_t>(faces_.size()), grain, [&](int64_t i) { faces_[i] = number[faces_[i]]; });
    parallel_for(num_input_vertices_, grain, [&](int64_t v) {
        if (image_[v] >= 0) image_[v] = number[image_[v]];
    });
}

int64_t Simplifier::round(int64_t target_faces, Rules rules, int64_t slack) {
    if (!rings_are_fresh_) build_rings();
    rings_are_fresh_ = false;
    weigh_edges(rules);
    choice_.resize(positions_.size());
    parallel_for(num_vertices(), grain, [&](int64_t v) { choice_[v] = cheapest(v); });
    const int64_t surplus = num_faces() - target_faces;
    // Never below nine tenths of the target: one collapse in a tangle may remove very many faces.
    most_removed_ = num_faces() - (target_faces * 9 + 9) / 10;
    const int64_t rank = rank_of_limit(num_faces(), target_faces, slack);
    std::vector<Collapse> chosen = independent(candidates(cost_limit(rank), rules));
    int64_t removed = 0;
    for (const Collapse& c : chosen) removed += c.removes;
    if (removed > surplus) {
        std::stable_sort(chosen.begin(), chosen.end(), [](const Collapse& x, const Collapse& y) { return x.cost < y.cost; });
        size_t taken = 0;
        removed = 0;
        for (const Collapse& c : chosen)
            if (removed < surplus && removed + c.removes <= most_removed_) {
                removed += c.removes;
                chosen[taken++] = c;
            }
        chosen.resize(taken);
    }
    if (rules == Rules::any_topology) {
        const CollapseMesh mesh = view();
        for (const Collapse& c : chosen) {
            statistics.topology_changes += !mesh.keeps_topology(c.a, c.b, c.multiplicity, OneLane{});
            parts_vanished_ = parts_vanished_ || c.removes > c.multiplicity || mesh.leaves_bare_edge(c.a, c.b);
        }
    }
    statistics.collapses += static_cast<int64_t>(chosen.size());
    ++statistics.rounds;
    apply(chosen);
    compact();
    return static_cast<int64_t>(chosen.size());
}

void Simplifier::run(int64_t target_faces) {
    Rules rules = Rules::all;
    int64_t slack = 1;
    while (num_faces() > target_faces) {
        // Cheap edges that are not allowed take up ranks. Where few of the rest are found, look farther.
        const int64_t wanted = (num_faces() - target_faces + 1) / 2;
        const bool unlimited = wanted * slack > num_faces();
        const int64_t done = round(target_faces, rules, slack);
        if (done * 20 >= wanted) slack = std::max<int64_t>(1, slack / 2);
        else if (!unlimited) slack *= 4;
        else if (rules == Rules::all) rules = Rules::any_shape;
        else if (done * 1000 < wanted && rules == Rules::any_shape) rules = Rules::any_topology;
        else if (done == 0) break;
    }
    drop_unused_vertices();
}

void Simplifier::store(float* vertices, int32_t* faces, int32_t* image) const {
    parallel_for(num_vertices(), grain, [&](int64_t v) {
        const Vec3d p = positions_[v] * scale_ + centre_;
        for (int k = 0; k < 3; ++k) vertices[3 * v + k] = static_cast<float>(p[k]);
    });
    std::copy(faces_.begin(), faces_.end(), faces);
    std::copy(image_.begin(), image_.end(), image);
}

void Simplifier::measure(const float* vertices, double* quadric_error, double* deviation, double* displacement) const {
    const Groups corners = corners_of_vertices(faces_.data(), num_faces(), num_vertices(), false);
    CollapseMesh mesh{};
    mesh.positions = positions_.data();
    mesh.faces = faces_.data();
    mesh.first = corners.first.data();
    mesh.last = corners.first.data() + 1;
    mesh.corners = corners.items.data();
    struct Largest {
        double deviation = 0, displacement = 0;
    };
    Largest most;
    if (parts_vanished_) most.displacement = unbounded;
    std::vector<Largest> partial(static_cast<size_t>(chunk_count(num_input_vertices_, grain)));
    parallel_chunks(num_input_vertices_, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        Largest& own = partial[chunk];
        for (int64_t v = begin; v < end; ++v) {
            if (!referenced_[v]) continue;
            if (image_[v] < 0) {
                own.displacement = unbounded;
                continue;
            }
            const Vec3d p = (load_point(vertices, v) - centre_) * (1 / scale_);
            own.displacement = std::max(own.displacement, length(positions_[image_[v]] - p));
            own.deviation = std::max(own.deviation, std::sqrt(mesh.nearby_distance2(p, image_[v])));
        }
    });
    for (const Largest& l : partial) {
        most.deviation = std::max(most.deviation, l.deviation);
        most.displacement = std::max(most.displacement, l.displacement);
    }
    double error = 0;
    for (int64_t v = 0; v < num_vertices(); ++v)
        if (quadrics_[v].weight > 0) error = std::max(error, quadrics_[v].at(positions_[v]) / quadrics_[v].weight);
    *quadric_error = std::sqrt(error) * scale_;
    *deviation = most.deviation * scale_;
    *displacement = most.displacement * scale_;
}

}  // namespace tk::mesh

namespace {

struct Simplified {
    tk::mesh::Simplifier simplifier;
};

}  // namespace

TK_API int tk_mesh_simplify_begin(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices,
                                  int64_t target_faces, double regularization, double boundary_weight, double min_quality,
                                  void** state, int64_t* counts, double* errors, void*, int64_t*, int, void*) {
    return tk::guarded([&] {
        tk::mesh::require_indexable(num_faces, num_vertices);
        tk::mesh::SimplifyOptions options;
        options.regularization = regularization;
        options.boundary_weight = boundary_weight;
        options.min_quality = min_quality;
        auto result = std::make_unique<Simplified>(Simplified{{vertices, faces, num_faces, num_vertices, options}});
        tk::mesh::Simplifier& s = result->simplifier;
        s.run(target_faces);
        counts[0] = s.num_vertices();
        counts[1] = s.num_faces();
        counts[2] = s.statistics.rounds;
        counts[3] = s.statistics.collapses;
        counts[4] = s.statistics.topology_changes;
        s.measure(vertices, errors, errors + 1, errors + 2);
        *state = result.release();
    });
}

TK_API int tk_mesh_simplify_fill(void* state, float* vertices, int32_t* faces, int32_t* image, int, void*) {
    return tk::guarded([&] { static_cast<Simplified*>(state)->simplifier.store(vertices, faces, image); });
}

TK_API int tk_mesh_simplify_end(void* state) {
    return tk::guarded([&] { delete static_cast<Simplified*>(state); });
}
