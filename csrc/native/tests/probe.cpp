// Exposes the shared C++ building blocks to Python, so that tests can hold them against NumPy.
#include <cstring>
#include <stdexcept>

#include "trellis/coord_map.hpp"
#include "trellis/error.hpp"
#include "trellis/sort.hpp"

TK_API const char* tk_probe_last_error(void) { return tk::last_error().c_str(); }

TK_API int tk_probe_set_num_threads(int threads) {
    return tk::guarded([&] { tk::set_num_threads(threads); });
}

TK_API int tk_probe_scan(int64_t* values, int64_t n, int64_t* total) {
    return tk::guarded([&] { *total = tk::exclusive_scan(values, n); });
}

TK_API int tk_probe_sort(uint64_t* keys, int64_t* payload, int64_t n) {
    return tk::guarded([&] {
        std::vector<uint64_t> k(keys, keys + n);
        std::vector<int64_t> p(payload, payload + n);
        tk::stable_sort_by_key(k, p);
        std::memcpy(keys, k.data(), n * sizeof *keys);
        std::memcpy(payload, p.data(), n * sizeof *payload);
    });
}

TK_API int tk_probe_sum(const float* values, int64_t n, float* sum) {
    return tk::guarded([&] { *sum = tk::parallel_sum<float>(n, 1000, [&](int64_t i) { return values[i]; }); });
}

TK_API int tk_probe_find(const uint64_t* keys, int64_t n, const uint64_t* wanted, int64_t m, int64_t* rows) {
    return tk::guarded([&] {
        tk::CoordMap map(n, [&](int64_t i) { return keys[i]; });
        tk::parallel_for(m, 100, [&](int64_t i) { rows[i] = map.find(wanted[i]); });
    });
}

/* kind 1: tk::Error, 2: bad_alloc, 3: std::runtime_error, 4: an int, each thrown on a pool thread. */
TK_API int tk_probe_throw(int kind) {
    return tk::guarded([&] {
        tk::parallel_for(1000, 1, [&](int64_t i) {
            if (i != 700) return;
            if (kind == 1) tk::require(false, tk::format("index: expected anything but %d", 700));
            if (kind == 2) throw std::bad_alloc();
            if (kind == 3) throw std::runtime_error("plain");
            if (kind == 4) throw 5;
        });
    });
}

/* Loops inside loops must neither deadlock nor lose work. */
TK_API int tk_probe_nested(int64_t n, int64_t* counts) {
    return tk::guarded([&] {
        tk::parallel_for(n, 1, [&](int64_t i) { tk::parallel_for(n, 1, [&](int64_t) { ++counts[i]; }); });
    });
}
