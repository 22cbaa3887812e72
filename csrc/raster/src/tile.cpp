// One tile of the image: depth and face of each pixel in a small local buffer, then the weights of what is seen.
#include "tile.hpp"

#include <limits>

#include "weights.hpp"

namespace tk::raster {
namespace {

constexpr int block = 8;  // pixels a step of the innermost loop
constexpr float infinity = std::numeric_limits<float>::infinity();

struct TileBuffer {
    int32_t x, y, width, height;  // position and size within the image
    float depth[tile_side * tile_side];
    int32_t face[tile_side * tile_side];  // face + 1, or 0
    // Of the layer to peel, +infinity where it is empty: nothing is behind that.
    float last_depth[tile_side * tile_side];
    int32_t last_face[tile_side * tile_side];
};

// Int is the type of the edge functions: 32 bits serve all but the largest triangles.
template <class Int, bool peel>
void fill(const Triangle& t, int bits, const Box& box, int32_t number, TileBuffer& tile) {
    const int32_t half = 1 << (bits - 1);
    const int32_t left = box.x0 & ~(block - 1);
    Int row[3], step_x[3], step_y[3];
    for (int e = 0; e < 3; ++e) {
        row[e] = static_cast<Int>(t.edges[e].at((int64_t{tile.x + left} << bits) + half,
                                                (int64_t{tile.y + box.y0} << bits) + half));
        step_x[e] = -static_cast<Int>(t.edges[e].dy) * (Int{1} << bits);
        step_y[e] = static_cast<Int>(t.edges[e].dx) * (Int{1} << bits);
    }
    const float z_min = static_cast<float>(t.z_min), z_max = static_cast<float>(t.z_max);
    for (int32_t y = box.y0; y <= box.y1; ++y) {
        const double z_row = t.z0 + t.gy * (tile.y + y + 0.5 - t.y0);
        Int e0 = row[0], e1 = row[1], e2 = row[2];
        for (int32_t x = left; x <= box.x1; x += block) {
            Int inside[block];
            Int any = -1;
            for (int k = 0; k < block; ++k) {
                inside[k] = (e0 + step_x[0] * k) | (e1 + step_x[1] * k) | (e2 + step_x[2] * k);
                any &= inside[k];
            }
            e0 += step_x[0] * block;
            e1 += step_x[1] * block;
            e2 += step_x[2] * block;
            if (any < 0) continue;
            const int at = y * tile_side + x;
            float* depth = tile.depth + at;
            int32_t* face = tile.face + at;
            const double z_block = z_row + t.gx * (tile.x + x + 0.5 - t.x0);
            for (int k = 0; k < block; ++k) {
                float z = static_cast<float>(z_block + t.gx * k);
                z = z < z_min ? z_min : z;
                z = z > z_max ? z_max : z;
                bool take = inside[k] >= 0 && z < depth[k];
                if (peel)
                    take = take && (z > tile.last_depth[at + k] ||
                                    (z == tile.last_depth[at + k] && number > tile.last_face[at + k]));
                depth[k] = take ? z : depth[k];
                face[k] = take ? number : face[k];
            }
        }
        for (int e = 0; e < 3; ++e) row[e] += step_y[e];
    }
}

// Whether an edge leaves the whole box outside.
bool misses(const Triangle& t, int bits, const TileBuffer& tile, const Box& box) {
    const int32_t half = 1 << (bits - 1);
    for (const Edge& e : t.edges) {
        const int64_t x = tile.x + (e.dy > 0 ? box.x0 : box.x1), y = tile.y + (e.dx > 0 ? box.y1 : box.y0);
        if (e.at((x << bits) + half, (y << bits) + half) < 0) return true;
    }
    return false;
}

template <bool peel>
void draw(const Scene& scene, int32_t f, TileBuffer& tile) {
    for_each_part(scene, f, [&](const Projected& a, const Projected& b, const Projected& c) {
        Triangle t;
        if (!make_triangle(scene.view, a, b, c, &t)) return;
        const Box box{std::max(t.box.x0 - tile.x, 0), std::max(t.box.y0 - tile.y, 0),
                      std::min(t.box.x1 - tile.x, tile.width - 1), std::min(t.box.y1 - tile.y, tile.height - 1)};
        if (box.empty()) return;
        if (t.extent > 4 << scene.view.bits && misses(t, scene.view.bits, tile, box)) return;
        // Edge functions are evaluated up to a block beyond the box: 2 (30000 + 8 * 256)^2 < 2^31.
        if (t.extent < 30000)
            fill<int32_t, peel>(t, scene.view.bits, box, f + 1, tile);
        else
            fill<int64_t, peel>(t, scene.view.bits, box, f + 1, tile);
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
        const double py = (2.0 * (tile.y + y) + 1.0) / scene.view.height - 1.0;
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
            const double px = (2.0 * (tile.x + x) + 1.0) / scene.view.width - 1.0;
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
