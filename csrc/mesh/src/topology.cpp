#include "topology.hpp"

#include <algorithm>

#include "trellis/sort.hpp"

namespace tk::mesh {

namespace {

constexpr int64_t grain = 1 << 14;

int32_t take_slot(int32_t* cursor) { return __atomic_fetch_add(cursor, 1, __ATOMIC_RELAXED); }

struct Entry {
    int32_t high, half;
    bool operator<(const Entry& o) const { return high != o.high ? high < o.high : half < o.half; }
};

template <class T>
void sort_small(T* begin, T* end) {
    if (end - begin > 24) {
        std::sort(begin, end);
        return;
    }
    for (T* i = begin + 1; i < end; ++i) {
        const T value = *i;
        T* j = i;
        for (; j > begin && value < j[-1]; --j) *j = j[-1];
        *j = value;
    }
}

}  // namespace

Groups corners_of_vertices(const int32_t* faces, int64_t num_faces, int64_t num_vertices, bool proper_only) {
    Groups groups;
    groups.first.assign(static_cast<size_t>(num_vertices) + 1, 0);
    int32_t* count = groups.first.data();
    const auto skip = [&](int64_t f) { return proper_only && !is_proper(faces + 3 * f); };
    parallel_for(num_faces, grain, [&](int64_t f) {
        if (skip(f)) return;
        for (int i = 0; i < 3; ++i) take_slot(count + faces[3 * f + i]);
    });
    const int32_t total = exclusive_scan(count, num_vertices + 1);
    groups.items.resize(static_cast<size_t>(total));
    std::vector<int32_t> cursor(groups.first.begin(), groups.first.end() - 1);
    parallel_for(num_faces, grain, [&](int64_t f) {
        if (skip(f)) return;
        for (int i = 0; i < 3; ++i)
            groups.items[take_slot(&cursor[faces[3 * f + i]])] = static_cast<int32_t>(3 * f + i);
    });
    // Threads filled the lists in any order; sorting makes them the same again.
    parallel_for(num_vertices, grain, [&](int64_t v) {
        sort_small(groups.items.data() + groups.first[v], groups.items.data() + groups.first[v + 1]);
    });
    return groups;
}

EdgeTable build_edges(const int32_t* faces, int64_t num_faces, int64_t num_vertices) {
    // Half-edges are dealt to their smaller vertex, and each vertex sorts its few.
    std::vector<int32_t> first(static_cast<size_t>(num_vertices) + 1, 0);
    parallel_for(num_faces, grain, [&](int64_t f) {
        const int32_t* t = faces + 3 * f;
        if (!is_proper(t)) return;
        for (int i = 0; i < 3; ++i) take_slot(&first[std::min(t[i], t[next_corner(i)])]);
    });
    const int32_t total = exclusive_scan(first.data(), num_vertices + 1);
    std::vector<Entry> entries(static_cast<size_t>(total));
    {
        std::vector<int32_t> cursor(first.begin(), first.end() - 1);
        parallel_for(num_faces, grain, [&](int64_t f) {
            const int32_t* t = faces + 3 * f;
            if (!is_proper(t)) return;
            for (int i = 0; i < 3; ++i) {
                const int32_t a = t[i], b = t[next_corner(i)];
                entries[take_slot(&cursor[std::min(a, b)])] = {std::max(a, b), static_cast<int32_t>(3 * f + i)};
            }
        });
    }
    std::vector<int32_t> edges_before(static_cast<size_t>(num_vertices) + 1, 0);
    parallel_for(num_vertices, grain, [&](int64_t v) {
        Entry *begin = entries.data() + first[v], *end = entries.data() + first[v + 1];
        sort_small(begin, end);
        int32_t n = 0;
        for (const Entry* e = begin; e < end; ++e) n += e == begin || e->high != e[-1].high;
        edges_before[v] = n;
    });
    const int32_t count = exclusive_scan(edges_before.data(), num_vertices + 1);

    EdgeTable table;
    table.low.resize(static_cast<size_t>(count));
    table.high.resize(static_cast<size_t>(count));
    table.halves.first.resize(static_cast<size_t>(count) + 1);
    table.halves.items.resize(static_cast<size_t>(total));
    table.halves.first[count] = total;
    table.edge_of.assign(static_cast<size_t>(num_faces) * 3, -1);
    parallel_for(num_vertices, grain, [&](int64_t v) {
        int32_t edge = edges_before[v] - 1;
        for (int32_t i = first[v]; i < first[v + 1]; ++i) {
            if (i == first[v] || entries[i].high != entries[i - 1].high) {
                ++edge;
                table.low[edge] = static_cast<int32_t>(v);
                table.high[edge] = entries[i].high;
                table.halves.first[edge] = i;
            }
            table.halves.items[i] = entries[i].half;
            table.edge_of[entries[i].half] = edge;
        }
    });
    return table;
}

DisjointSets::DisjointSets(int64_t n) : parent_(static_cast<size_t>(n)) {
    parallel_for(n, grain, [&](int64_t i) { parent_[i] = static_cast<int32_t>(i); });
}

int32_t DisjointSets::find(int32_t i) {
    for (;;) {
        int32_t up = __atomic_load_n(&parent_[i], __ATOMIC_RELAXED);
        if (up == i) return i;
        const int32_t upper = __atomic_load_n(&parent_[up], __ATOMIC_RELAXED);
        if (upper != up) __atomic_compare_exchange_n(&parent_[i], &up, upper, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
        i = upper;
    }
}

void DisjointSets::unite(int32_t a, int32_t b) {
    for (;;) {
        a = find(a);
        b = find(b);
        if (a == b) return;
        if (a > b) std::swap(a, b);
        int32_t root = b;
        if (__atomic_compare_exchange_n(&parent_[b], &root, a, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
    }
}

int64_t DisjointSets::label(int32_t* labels) {
    const int64_t n = static_cast<int64_t>(parent_.size());
    std::vector<int32_t> rank(parent_.size());
    parallel_for(n, grain, [&](int64_t i) { rank[i] = find(static_cast<int32_t>(i)) == i; });
    std::vector<int32_t> root(parent_.size());
    parallel_for(n, grain, [&](int64_t i) { root[i] = find(static_cast<int32_t>(i)); });
    const int32_t count = exclusive_scan(rank.data(), n);
    parallel_for(n, grain, [&](int64_t i) { labels[i] = rank[root[i]]; });
    return count;
}

DisjointSets fans_of_corners(const int32_t* faces, int64_t num_faces, const EdgeTable& edges) {
    DisjointSets sets(3 * num_faces);
    parallel_for(edges.count(), grain, [&](int64_t e) {
        if (edges.num_faces(e) != 2) return;
        const int32_t g = edges.halves.begin(e)[0], h = edges.halves.begin(e)[1];
        const int32_t g2 = g - g % 3 + next_corner(g % 3), h2 = h - h % 3 + next_corner(h % 3);
        const bool same_direction = faces[g] == faces[h];
        sets.unite(g, same_direction ? h : h2);
        sets.unite(g2, same_direction ? h2 : h);
    });
    return sets;
}

}  // namespace tk::mesh
