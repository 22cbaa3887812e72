// Interpolation and its gradient. The gradient gathers, vertex by vertex, from the pixels of the faces around it in
// ascending order, so its sums do not depend on threads.
#include "interpolate.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"
#include "trellis_raster.h"

using namespace tk::raster;

namespace {

// Sorted lists as one array: those of key k are items[begin[k]] to items[begin[k + 1]].
struct Lists {
    std::vector<int64_t> begin;
    std::vector<int64_t> items;
};

Lists group(std::vector<uint64_t> keys, std::vector<int64_t> items, int64_t num_keys) {
    Lists lists;
    tk::stable_sort_by_key(keys, items);
    const int64_t n = static_cast<int64_t>(keys.size());
    lists.begin.assign(num_keys + 1, n);
    tk::parallel_for(n, 1 << 14, [&](int64_t i) {
        const int64_t first = i == 0 ? 0 : static_cast<int64_t>(keys[i - 1]) + 1;
        for (int64_t k = first; k <= static_cast<int64_t>(keys[i]); ++k) lists.begin[k] = i;
    });
    lists.items = std::move(items);
    return lists;
}

Lists pixels_of_faces(const float* rast, int64_t pixels, int64_t num_faces) {
    constexpr int64_t grain = 1 << 14;
    std::vector<int64_t> at(tk::chunk_count(pixels, grain) + 1);
    tk::parallel_chunks(pixels, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t f = face_of(rast[i * 4 + 3], num_faces);
            tk::require(f != -2, tk::format("rast: pixel %lld names face %g, expected 0 to %lld", (long long)i,
                                            rast[i * 4 + 3], (long long)num_faces));
            at[chunk] += f >= 0;
        }
    });
    const int64_t total = tk::exclusive_scan(at.data(), static_cast<int64_t>(at.size()));
    std::vector<uint64_t> keys(total);
    std::vector<int64_t> items(total);
    tk::parallel_chunks(pixels, grain, [&](int64_t chunk, int64_t begin, int64_t end) {
        int64_t to = at[chunk];
        for (int64_t i = begin; i < end; ++i) {
            const int64_t f = face_of(rast[i * 4 + 3], num_faces);
            if (f < 0) continue;
            keys[to] = static_cast<uint64_t>(f);
            items[to++] = i;
        }
    });
    return group(std::move(keys), std::move(items), num_faces);
}

Lists corners_of_vertices(const int32_t* faces, int64_t num_faces, int64_t num_vertices) {
    std::vector<uint64_t> keys(num_faces * 3);
    std::vector<int64_t> items(num_faces * 3);
    tk::parallel_for(num_faces * 3, 1 << 14, [&](int64_t i) {
        keys[i] = static_cast<uint64_t>(faces[i]);
        items[i] = i;
    });
    return group(std::move(keys), std::move(items), num_vertices);
}

}  // namespace

TK_API int tk_raster_interpolate(const float* attrs, const float* rast, const int32_t* faces, int64_t attr_batch,
                                 int64_t batch, int64_t pixels, int64_t num_vertices, int64_t num_faces,
                                 int64_t channels, float* out, int, void*) {
    return tk::guarded([&] {
        const Interpolate one{attrs, rast, faces, pixels, num_vertices, num_faces, channels,
                              attr_batch == 1 ? 0 : num_vertices * channels, out};
        std::atomic<int64_t> bad{std::numeric_limits<int64_t>::max()};
        tk::parallel_for(batch * pixels, 1 << 13, [&](int64_t i) {
            if (one(i)) return;
            int64_t seen = bad.load();
            while (i < seen && !bad.compare_exchange_weak(seen, i)) {}
        });
        const int64_t i = bad.load();
        if (i == std::numeric_limits<int64_t>::max()) return;
        tk::require(false, tk::format("rast: pixel %lld of image %lld names face %g, expected 0 to %lld",
                                      (long long)(i % pixels), (long long)(i / pixels), rast[i * 4 + 3],
                                      (long long)num_faces));
    });
}

TK_API int tk_raster_interpolate_backward(const float* grad_out, const float* rast, const int32_t* faces,
                                          const int64_t*, const int64_t*, const int64_t*, const int64_t*,
                                          int64_t attr_batch, int64_t batch, int64_t pixels, int64_t num_vertices,
                                          int64_t num_faces, int64_t channels, float* grad_attrs, int, void*) {
    return tk::guarded([&] {
        std::fill(grad_attrs, grad_attrs + attr_batch * num_vertices * channels, 0.0f);
        const Lists corners = corners_of_vertices(faces, num_faces, num_vertices);
        for (int64_t b = 0; b < batch; ++b) {
            const float* image = rast + b * pixels * 4;
            float* out = grad_attrs + (attr_batch == 1 ? 0 : b) * num_vertices * channels;
            const Lists seen = pixels_of_faces(image, pixels, num_faces);
            const InterpolateBackward sum{grad_out + b * pixels * channels, image,                seen.items.data(),
                                          seen.begin.data(),                corners.items.data(), corners.begin.data()};
            tk::parallel_for(num_vertices, 256, [&](int64_t v) {
                for (int64_t c = 0; c < channels; ++c) out[v * channels + c] += static_cast<float>(sum(v, c, channels));
            });
        }
    });
}
