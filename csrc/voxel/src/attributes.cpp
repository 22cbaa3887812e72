// Material attributes of the voxels that a textured mesh occupies.
//
// A voxel is occupied when a triangle crosses one of the lattice edges around it (the rule of the flexible dual
// grid). Its attributes are a mean, in one of two ways:
// - crossing: over the triangles that cross there, each sampled once where the voxel's centre drops onto its plane,
//   over a footprint of the voxel's size. Fast, but where that point is off the triangle it reads texels that may
//   belong to another part of the surface.
// - area: over the surface inside the voxel. Each triangle is cut along the lattice planes, and each piece counts by
//   its area and is sampled at its centroid over a footprint of its own size.
//
// The grid is cut into bricks; one thread does all of a brick, its triangles in order, so sums do not depend on
// the number of threads.
#include <memory>

#include "attributes_crossings.hpp"
#include "attributes_polygon.hpp"
#include "attributes_scene.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"
#include "trellis_voxel.h"

namespace tk::voxel {
namespace {

constexpr int brick_voxels = brick_side * brick_side * brick_side;

uint64_t pack(int64_t x, int64_t y, int64_t z) {
    return (static_cast<uint64_t>(x) << 42) | (static_cast<uint64_t>(y) << 21) | static_cast<uint64_t>(z);
}

Vec3i unpack(uint64_t key) {
    constexpr uint64_t mask = (1 << 21) - 1;
    return {static_cast<int>(key >> 42), static_cast<int>((key >> 21) & mask), static_cast<int>(key & mask)};
}

struct Mean {
    Attributes sum{};
    double weight = 0.0;

    void add(const Attributes& value, double w) {
        for (int c = 0; c < out_size; ++c) sum[c] += value[c] * static_cast<float>(w);
        weight += w;
    }
};

using Bytes = std::array<uint8_t, out_size>;

Bytes quantised(const Mean& mean) {
    Attributes value;
    for (int c = 0; c < out_size; ++c) value[c] = mean.sum[c] / static_cast<float>(mean.weight);
    float* n = value.data() + out_normal;
    // Opposite sides of a thin sheet may cancel: then the mean has no direction and stays as short as it is.
    const float size = std::sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
    const float scale = size > 1e-3f ? 0.5f / size : 0.5f;
    for (int c = 0; c < 3; ++c) n[c] = n[c] * scale + 0.5f;
    Bytes bytes;
    for (int c = 0; c < out_size; ++c) {
        const float x = value[c] > 0.0f ? std::min(value[c], 1.0f) : 0.0f;
        bytes[c] = static_cast<uint8_t>(x * 255.0f + 0.5f);
    }
    return bytes;
}

// Adds the part of `triangle` that `polygon` is, finely when its footprint is several texels wide.
void add_piece(const Triangle& triangle, const Polygon& polygon, double uv_area, double finest, Mean& mean) {
    const Moments m = moments(polygon);
    if (!(m.area > 0.0)) return;
    const double weight = m.area * triangle.area, log2_side = 0.5 * std::log2(uv_area * m.area);
    if (!(log2_side + finest > 1.0)) return mean.add(triangle.evaluate(m.b1, m.b2, log2_side), weight);
    for (int i = 0; i < polygon.size; ++i) {
        const Corner &a = polygon.corner[i], &b = polygon.corner[i + 1 == polygon.size ? 0 : i + 1];
        const double area = std::abs((a.b1 - m.b1) * (b.b2 - m.b2) - (a.b2 - m.b2) * (b.b1 - m.b1));
        if (!(area > 0.0)) continue;
        const Attributes value = triangle.evaluate((a.b1 + b.b1 + m.b1) / 3.0, (a.b2 + b.b2 + m.b2) / 3.0, 0.5 * std::log2(uv_area * area));
        mean.add(value, area * triangle.area);
    }
}

struct Occupied {
    std::vector<uint64_t> keys;
    std::vector<Bytes> bytes;
};

// The voxels of one brick: which are occupied, and the running mean of each.
class Brick {
public:
    Brick(const Scene& scene, const Vec3i& index, const int32_t* triangles, int64_t count)
        : scene_(scene), triangles_(triangles), count_(count), row_(brick_voxels, -1) {
        for (int axis = 0; axis < 3; ++axis) {
            low_[axis] = index[axis] * brick_side;
            high_[axis] = std::min(low_[axis] + brick_side, scene.grid[axis]);
        }
    }

    Occupied voxelize() {
        add_crossings();
        if (scene_.average == Average::area) add_pieces();
        Occupied out;
        for (int i = 0; i < brick_voxels; ++i) {
            if (row_[i] < 0) continue;
            const Vec3i voxel{low_.x + i / (brick_side * brick_side), low_.y + i / brick_side % brick_side, low_.z + i % brick_side};
            Mean& mean = means_[row_[i]];
            if (!(mean.weight > 0.0)) {
                // Crossed exactly at a triangle's rim: no area of it lies inside. Take its point nearest the centre.
                const Triangle triangle(scene_, crossed_by_[row_[i]]);
                const auto [b1, b2] = triangle.closest(scene_.centre(voxel));
                mean.add(triangle.evaluate(b1, b2, -HUGE_VAL), 1.0);
            }
            out.keys.push_back(pack(voxel.x, voxel.y, voxel.z));
            out.bytes.push_back(quantised(mean));
        }
        return out;
    }

private:
    int local(const Vec3i& v) const { return ((v.x - low_.x) * brick_side + v.y - low_.y) * brick_side + v.z - low_.z; }

    // Marks the occupied voxels and, when averaging over crossings, samples each triangle once in each.
    void add_crossings() {
        const double side = std::max({scene_.voxel_size.x, scene_.voxel_size.y, scene_.voxel_size.z});
        for (int64_t i = 0; i < count_; ++i) {
            const Triangle triangle(scene_, triangles_[i]);
            const double log2_side = std::log2(side) + 0.5 * std::log2(triangle.uv_area() / triangle.area);
            for_each_crossing(triangle.position, scene_.grid, low_, high_, [&](const Vec3i& voxel) {
                int32_t& row = row_[local(voxel)];
                if (row < 0) {
                    row = static_cast<int32_t>(means_.size());
                    means_.emplace_back();
                    crossed_by_.push_back(-1);
                }
                if (crossed_by_[row] == triangles_[i]) return;
                crossed_by_[row] = triangles_[i];
                if (scene_.average == Average::area) return;
                const auto [b1, b2] = triangle.projected(scene_.centre(voxel));
                means_[row].add(triangle.evaluate(b1, b2, log2_side), 1.0);
            });
        }
    }

    // Samples each piece of surface in each occupied voxel.
    void add_pieces() {
        if (means_.empty()) return;
        for (int64_t i = 0; i < count_; ++i) {
            const Triangle triangle(scene_, triangles_[i]);
            const double uv_area = triangle.uv_area(), finest = triangle.finest_texture();
            Polygon whole;
            for (int k = 0; k < 3; ++k) whole.add({triangle.position[k], k == 1 ? 1.0 : 0.0, k == 2 ? 1.0 : 0.0});
            for_each_slab(whole, 0, low_.x, high_.x, [&](int x, const Polygon& slab) {
                for_each_slab(slab, 1, low_.y, high_.y, [&](int y, const Polygon& column) {
                    for_each_slab(column, 2, low_.z, high_.z, [&](int z, const Polygon& piece) {
                        const int32_t row = row_[local({x, y, z})];
                        if (row >= 0) add_piece(triangle, piece, uv_area, finest, means_[row]);
                    });
                });
            });
        }
    }

    const Scene& scene_;
    const int32_t* triangles_;
    int64_t count_;
    Vec3i low_, high_;
    std::vector<int32_t> row_;  // of each voxel of the brick, -1 where it is not occupied
    std::vector<Mean> means_;
    std::vector<int32_t> crossed_by_;  // the latest triangle
};

struct Result {
    std::vector<uint64_t> keys;
    std::vector<Bytes> bytes;
    std::vector<int64_t> source;  // row of `bytes` for each key
};

void gather(const Scene& scene, Result& result) {
    // Which triangles touch which brick: count, then fill, in triangle order.
    std::vector<int64_t> offset(static_cast<size_t>(scene.face_count));
    const auto bricks_of = [&](int64_t id, auto&& touch) {
        const Triangle triangle(scene, id);
        if (triangle.area > 0.0) for_each_brick(triangle.position, scene.grid, touch);
    };
    parallel_for(scene.face_count, 512, [&](int64_t id) {
        int64_t n = 0;
        bricks_of(id, [&](const Vec3i&) { ++n; });
        offset[id] = n;
    });
    const int64_t pairs = exclusive_scan(offset.data(), scene.face_count);
    std::vector<uint64_t> brick(static_cast<size_t>(pairs));
    std::vector<int32_t> triangle(static_cast<size_t>(pairs));
    parallel_for(scene.face_count, 512, [&](int64_t id) {
        int64_t at = offset[id];
        bricks_of(id, [&](const Vec3i& b) {
            brick[at] = pack(b.x, b.y, b.z);
            triangle[at++] = static_cast<int32_t>(id);
        });
    });
    stable_sort_by_key(brick, triangle);
    const std::vector<int64_t> starts = run_starts(brick);

    const int64_t bricks = static_cast<int64_t>(starts.size()) - 1;
    std::vector<Occupied> parts(static_cast<size_t>(std::max<int64_t>(bricks, 0)));
    parallel_for(bricks, 1, [&](int64_t i) {
        parts[i] = Brick(scene, unpack(brick[starts[i]]), triangle.data() + starts[i], starts[i + 1] - starts[i]).voxelize();
    });
    size_t total = 0;
    for (const Occupied& part : parts) total += part.keys.size();
    result.keys.reserve(total);
    result.bytes.reserve(total);
    for (const Occupied& part : parts) {
        result.keys.insert(result.keys.end(), part.keys.begin(), part.keys.end());
        result.bytes.insert(result.bytes.end(), part.bytes.begin(), part.bytes.end());
    }
    result.source.resize(total);
    for (size_t i = 0; i < total; ++i) result.source[i] = static_cast<int64_t>(i);
    stable_sort_by_key(result.keys, result.source);
}

std::vector<Texture> build_textures(const uint8_t* texels, int64_t texel_bytes, const int64_t* table, int64_t count) {
    std::vector<Texture> textures;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t* t = table + i * texture_columns;
        const int64_t offset = t[0], height = t[1], width = t[2], channels = t[3];
        require(height >= 1 && height <= 65536 && width >= 1 && width <= 65536 && channels >= 1 && channels <= max_channels,
                format("textures: row %lld: expected sizes in [1, 65536] and 1 to 4 channels, got %lld x %lld x %lld", (long long)i,
                       (long long)height, (long long)width, (long long)channels));
        require(offset >= 0 && height * width * channels <= texel_bytes - offset,
                format("textures: row %lld reaches beyond the %lld bytes of texels", (long long)i, (long long)texel_bytes));
        require(t[4] >= 0 && t[4] <= 2 && t[5] >= 0 && t[5] <= 2 && (t[6] == 0 || t[6] == 1),
                format("textures: row %lld: expected wrap modes in [0, 2] and filter 0 or 1", (long long)i));
        textures.emplace_back(texels + offset, static_cast<int>(height), static_cast<int>(width), static_cast<int>(channels),
                              static_cast<Wrap>(t[4]), static_cast<Wrap>(t[5]), t[6] == 1);
    }
    return textures;
}

void check_materials(const Scene& scene, int64_t material_count) {
    constexpr int slot_channels[4] = {4, 2, 3, 3};
    for (int64_t m = 0; m < material_count; ++m) {
        const int32_t* row = scene.indices + m * material_indices;
        for (int slot = 0; slot < 4; ++slot) {
            const bool exists = row[slot] >= -1 && row[slot] < static_cast<int64_t>(scene.textures.size());
            require(exists, format("material_indices: material %lld names texture %d of %zu", (long long)m, row[slot], scene.textures.size()));
            require(row[slot] < 0 || scene.textures[row[slot]].channels() == slot_channels[slot],
                    format("material_indices: material %lld: expected a texture of %d channels in slot %d", (long long)m, slot_channels[slot], slot));
        }
        require(row[4] >= 0 && row[4] <= 2, format("material_indices: material %lld: expected an alpha mode in [0, 2], got %d", (long long)m, row[4]));
    }
}

}  // namespace
}  // namespace tk::voxel

using namespace tk::voxel;

TK_API int tk_voxel_attributes_begin(const float* vertices, const int32_t* faces, int64_t face_count, const float* normals, const float* uvs,
                                     const float* colors, const int32_t* face_materials, const float* material_factors_,
                                     const int32_t* material_indices_, int64_t material_count, const uint8_t* texels, int64_t texel_bytes,
                                     const int64_t* textures, int64_t texture_count, const double* voxel_size, const int32_t* grid_size,
                                     double mip_bias, int average, void** state, int64_t* count, int, void*) {
    return tk::guarded([&] {
        Scene scene{vertices, faces, face_count, normals, uvs, colors, face_materials, material_factors_, material_indices_, {}, {}, {}, mip_bias, static_cast<Average>(average)};
        tk::require(face_count >= 0 && face_count <= INT32_MAX, tk::format("face_count: expected at most 2^31 - 1, got %lld", (long long)face_count));
        for (int axis = 0; axis < 3; ++axis) {
            tk::require(grid_size[axis] >= 1 && grid_size[axis] <= 65536, tk::format("grid_size: expected sizes in [1, 65536], got %d", grid_size[axis]));
            tk::require(voxel_size[axis] > 0.0 && std::isfinite(voxel_size[axis]), tk::format("voxel_size: expected positive sizes, got %g", voxel_size[axis]));
            scene.grid[axis] = grid_size[axis];
            scene.voxel_size[axis] = voxel_size[axis];
        }
        tk::require(average == 0 || average == 1, tk::format("average: expected 0 or 1, got %d", average));
        scene.textures = build_textures(texels, texel_bytes, textures, texture_count);
        check_materials(scene, material_count);
        auto result = std::make_unique<Result>();
        gather(scene, *result);
        *count = static_cast<int64_t>(result->keys.size());
        *state = result.release();
    });
}

TK_API int tk_voxel_attributes_fill(const void* state, int32_t* coords, uint8_t* attributes, int, void*) {
    return tk::guarded([&] {
        const auto& result = *static_cast<const Result*>(state);
        tk::parallel_for(static_cast<int64_t>(result.keys.size()), 1 << 14, [&](int64_t i) {
            const tk::Vec3i voxel = unpack(result.keys[i]);
            for (int axis = 0; axis < 3; ++axis) coords[3 * i + axis] = voxel[axis];
            const Bytes& bytes = result.bytes[result.source[i]];
            std::copy(bytes.begin(), bytes.end(), attributes + out_size * i);
        });
    });
}

TK_API int tk_voxel_attributes_end(void* state, int, void*) {
    return tk::guarded([&] { delete static_cast<Result*>(state); });
}
