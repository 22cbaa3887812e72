// One tile of the image: depth and face of each pixel in a small local buffer, then the weights of what is seen.
#include "tile.hpp"

#include <algorithm>
#include <limits>

#include "weights.hpp"

namespace tk::raster {
namespace {

constexpr int block = depth_step;  // pixels a step of the innermost loop
// Vectors of the compiler (GCC and clang), because it does not find these by itself. Comparisons give 0 or -1.
typedef int32_t Ints __attribute__((vector_size(16), aligned(4), may_alias));
typedef float Floats __attribute__((vector_size(16), aligned(4), may_alias));
constexpr Ints iota{0, 1, 2, 3};
constexpr float infinity = std::numeric_limits<float>::infinity();

struct TileBuffer {
    int32_t x, y, width, height;  // position and size within the image
    float depth[tile_side * tile_side];
    int32_t face[tile_side * tile_side];  // face + 1, or 0
    // Of the layer to peel, +infinity where it is empty: nothing is behind that.
    float last_depth[tile_side * tile_side];
    int32_t last_face[tile_side * tile_side];
};

// How a triangle lies to a box of a tile, and its edge functions there: their values at the first centre (of the
// block that holds the box's first column) and their steps. An edge that has the whole box inside is all zeros.
struct Setup {
    bool empty = true;
    bool wide = false;  // an edge function needs more than 32 bits
    int64_t start[3], x[3], y[3];
};

Setup set_up(const Triangle& t, int bits, const TileBuffer& tile, const Box& box) {
    Setup s;
    const int64_t half = int64_t{1} << (bits - 1), pixel = int64_t{1} << bits;
    const int64_t first = box.x0 & ~(block - 1);
    const int64_t left = ((tile.x + first) << bits) + half, top = (int64_t{tile.y + box.y0} << bits) + half;
    const int64_t columns = ((box.x1 | (block - 1)) - first) * pixel, rows = (box.y1 - box.y0) * pixel;
    for (int i = 0; i < 3; ++i) {
        const Edge& e = t.edges[i];
        const int64_t start = e.at(left, top), across = -e.dy * columns, along = e.dx * rows;
        const int64_t lowest = start + std::min<int64_t>(across, 0) + std::min<int64_t>(along, 0);
        const int64_t highest = start + std::max<int64_t>(across, 0) + std::max<int64_t>(along, 0);
        if (highest < 0) return s;
        const bool inside = lowest >= 0;
        // The loop steps one block too far, by no more than 4/3 of `across`.
        constexpr int64_t limit = 1 << 29;
        s.wide |= !inside && (lowest < -limit || highest > limit);
        s.start[i] = inside ? 0 : start;
        s.x[i] = inside ? 0 : -e.dy * pixel;
        s.y[i] = inside ? 0 : e.dx * pixel;
    }
    s.empty = false;
    return s;
}

template <bool wide, bool peel>
void fill(const Triangle& t, const Setup& s, const Box& box, int32_t number, TileBuffer& tile) {
    const int32_t left = box.x0 & ~(block - 1);
    const Floats z_min = static_cast<float>(t.z_min) - Floats{}, z_max = static_cast<float>(t.z_max) - Floats{};
    const Floats slope = static_cast<float>(t.gx) * __builtin_convertvector(iota, Floats);
    const Ints numbers = number + Ints{};
    Ints step[3], ramp[3];
    if (!wide)
        for (int i = 0; i < 3; ++i) {
            step[i] = static_cast<int32_t>(s.x[i]) * block + Ints{};
            ramp[i] = static_cast<int32_t>(s.x[i]) * iota;
        }
    for (int32_t y = box.y0; y <= box.y1; ++y) {
        const double z_row = t.z0 + t.gy * (tile.y + y + 0.5 - t.y0);
        int64_t start[3];
        for (int i = 0; i < 3; ++i) start[i] = s.start[i] + s.y[i] * (y - box.y0);
        Ints e0, e1, e2;
        if (!wide) {
            e0 = static_cast<int32_t>(start[0]) + ramp[0];
            e1 = static_cast<int32_t>(start[1]) + ramp[1];
            e2 = static_cast<int32_t>(start[2]) + ramp[2];
        }
        for (int32_t x = left; x <= box.x1; x += block) {
            Ints inside;
            if (wide) {
                for (int k = 0; k < block; ++k) {
                    const int64_t at = x - left + k;
                    inside[k] = ((start[0] + s.x[0] * at) | (start[1] + s.x[1] * at) | (start[2] + s.x[2] * at)) >= 0 ? -1 : 0;
                }
            } else {
                inside = (e0 | e1 | e2) >= 0;
                e0 += step[0];
                e1 += step[1];
                e2 += step[2];
            }
            int64_t any[2];
            __builtin_memcpy(any, &inside, sizeof any);
            if ((any[0] | any[1]) == 0) continue;
            const int at = y * tile_side + x;
            Floats& depth = *reinterpret_cast<Floats*>(tile.depth + at);
            Ints& face = *reinterpret_cast<Ints*>(tile.face + at);
            Floats z = static_cast<float>(z_row + t.gx * (tile.x + x + 0.5 - t.x0)) + slope;
            z = z < z_min ? z_min : z;
            z = z > z_max ? z_max : z;
            Ints take = inside & (z < depth);
            if (peel) {
                const Floats last = *reinterpret_cast<const Floats*>(tile.last_depth + at);
                take &= (z > last) | ((z == last) & (numbers > *reinterpret_cast<const Ints*>(tile.last_face + at)));
            }
            depth = take ? z : depth;
            face = take ? numbers : face;
        }
    }
}

template <bool peel>
void draw(const Scene& scene, int32_t f, TileBuffer& tile) {
    for_each_part(scene, f, [&](const Projected& a, const Projected& b, const Projected& c) {
        Triangle t;
        if (!make_triangle(scene.view, a, b, c, &t)) return;
        const Box box{std::max(t.box.x0 - tile.x, 0), std::max(t.box.y0 - tile.y, 0),
                      std::min(t.box.x1 - tile.x, tile.width - 1), std::min(t.box.y1 - tile.y, tile.height - 1)};
        if (box.empty()) return;
        const Setup s = set_up(t, scene.view.bits, tile, box);
        if (s.empty) return;
        if (s.wide)
            fill<true, peel>(t, s, box, f + 1, tile);
        else
            fill<false, peel>(t, s, box, f + 1, tile);
    });
}

template <bool peel>
void draw_all(const Scene& scene, const Bins& bins, int64_t number, TileBuffer& tile) {
    const int32_t tx = static_cast<int32_t>(number % bins.tiles_x), ty = static_cast<int32_t>(number / bins.tiles_x);
    size_t large = 0;
    auto draw_large_before = [&](int32_t face) {
        for (; large < bins.large.size() && bins.large[large].face < face; ++large) {
            const Box& t = bins.large[large].tiles;
            if (tx >= t.x0 && tx <= t.x1 && ty >= t.y0 && ty <= t.y1) draw<peel>(scene, bins.large[large].face, tile);
        }
    };
    for (int64_t i = bins.begin[number]; i < bins.begin[number + 1]; ++i) {
        draw_large_before(bins.faces[i]);
        draw<peel>(scene, bins.faces[i], tile);
    }
    draw_large_before(INT32_MAX);
}

void write(const Scene& scene, const TileBuffer& tile, float* rast) {
    int32_t seen = 0;
    const float* v[3] = {nullptr, nullptr, nullptr};
    for (int32_t y = 0; y < tile.height; ++y) {
        const double py = pixel_centre(tile.y + y, scene.view.height);
        float* out = rast + (int64_t{tile.y + y} * scene.view.width + tile.x) * 4;
        for (int32_t x = 0; x < tile.width; ++x, out += 4) {
            const int at = y * tile_side + x;
            const int32_t number = tile.face[at];
            if (number == 0) {
                out[0] = out[1] = out[2] = out[3] = 0;
                continue;
            }
            if (number != seen) {
                const int32_t* face = scene.faces + (int64_t{number} - 1) * 3;
                for (int i = 0; i < 3; ++i) v[i] = scene.clip + int64_t{face[i]} * 4;
                seen = number;
            }
            const double px = pixel_centre(tile.x + x, scene.view.width);
            pixel_weights(v[0], v[1], v[2], px, py, out, out + 1);
            out[2] = tile.depth[at];
            out[3] = static_cast<float>(number);
        }
    }
}

}  // namespace

void rasterize_tile(const Scene& scene, const Bins& bins, int64_t number, const float* previous, float* rast) {
    TileBuffer tile;
    tile.x = static_cast<int32_t>(number % bins.tiles_x) << tile_bits;
    tile.y = static_cast<int32_t>(number / bins.tiles_x) << tile_bits;
    tile.width = std::min(tile_side, scene.view.width - tile.x);
    tile.height = std::min(tile_side, scene.view.height - tile.y);
    std::fill(std::begin(tile.depth), std::end(tile.depth), infinity);
    std::fill(std::begin(tile.face), std::end(tile.face), 0);
    if (!previous) {
        draw_all<false>(scene, bins, number, tile);
    } else {
        std::fill(std::begin(tile.last_depth), std::end(tile.last_depth), infinity);
        std::fill(std::begin(tile.last_face), std::end(tile.last_face), 0);
        for (int32_t y = 0; y < tile.height; ++y)
            for (int32_t x = 0; x < tile.width; ++x) {
                const float* p = previous + (int64_t{tile.y + y} * scene.view.width + tile.x + x) * 4;
                if (!(p[3] >= 1)) continue;
                tile.last_depth[y * tile_side + x] = p[2];
                tile.last_face[y * tile_side + x] = static_cast<int32_t>(std::min(p[3], 2147483520.0f));
            }
        draw_all<true>(scene, bins, number, tile);
    }
    write(scene, tile, rast);
}

}  // namespace tk::raster
