// Material attributes of the voxels that a textured mesh occupies.
//
// A voxel is occupied when a triangle crosses one of the lattice edges around it (the rule of the flexible dual
// grid). Its attributes are a mean, in one of two ways:
// - crossing: over the triangles that cross there, each sampled once where the voxel's centre drops onto its plane,
//   over a footprint of the voxel's size. Fast, but where that point is off the triangle it reads texels that may
//   belong to another part of the surface.
// - area: over the surface inside the voxel. Each triangle is cut along the lattice planes, and each piece counts by
//   its area and its alpha, and is sampled at its centroid over a footprint of its own size.
//
// The grid is cut into bricks; one thread does all of a brick, its triangles in order, so sums do not depend on
// the number of threads.
#include <array>
#include <memory>
#include <vector>

#include "attributes_crossings.hpp"
#include "attributes_mean.hpp"
#include "attributes_tables.hpp"
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

using Bytes = std::array<uint8_t, out_size>;

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
                const TexturedTriangle triangle(scene_, crossed_by_[row_[i]]);
                const auto [b1, b2] = triangle.closest(scene_.centre(voxel));
                mean.add(triangle.evaluate(b1, b2, -HUGE_VAL), 1.0);
            }
            out.keys.push_back(pack(voxel.x, voxel.y, voxel.z));
            mean.quantise(out.bytes.emplace_back().data(), scene_.average == Average::area);
        }
        return out;
    }

private:
    int local(const Vec3i& v) const { return ((v.x - low_.x) * brick_side + v.y - low_.y) * brick_side + v.z - low_.z; }

    // Marks the occupied voxels and, when averaging over crossings, samples each triangle once in each.
    void add_crossings() {
        const double side = std::max({scene_.voxel_size.x, scene_.voxel_size.y, scene_.voxel_size.z});
        for (int64_t i = 0; i < count_; ++i) {
            const TexturedTriangle triangle(scene_, triangles_[i]);
            const double log2_side = log2_of(side) + triangle.log2_uv_density();
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
            const TexturedTriangle triangle(scene_, triangles_[i]);
            const double uv_area = triangle.uv_area(), finest = triangle.finest_texture();
            for_each_piece(triangle, low_, high_, [&](const Vec3i& voxel, const Polygon& piece) {
                const int32_t row = row_[local(voxel)];
                if (row < 0) return;
                for_each_sample(triangle, piece, uv_area, finest, [&](const Sample& sample) {
                    means_[row].add_piece(triangle.evaluate(sample.b1, sample.b2, sample.log2_side), sample.weight, triangle.material());
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
        const TexturedTriangle triangle(scene, id);
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

// The levels of all textures, made here.
std::vector<std::vector<uint16_t>> build_levels(std::vector<Texture>& textures) {
    std::vector<std::vector<uint16_t>> levels;
    for (Texture& texture : textures) {
        uint16_t* values = levels.emplace_back(static_cast<size_t>(texture.level_values())).data();
        texture.levels = values;
        for (int level = 1; level <= texture.last_level; ++level) {
            const int width = texture.width_of(level);
            uint16_t* out = values + texture.begins[level];
            parallel_for(texture.height_of(level), 1 + 8192 / width, [&](int64_t y) {
                for (int x = 0; x < width; ++x) texture.halve(level, x, static_cast<int>(y), out + (y * width + x) * texture.channels);
            });
        }
    }
    return levels;
}

}  // namespace
}  // namespace tk::voxel

using namespace tk::voxel;

TK_API int tk_voxel_attributes_begin(const float* vertices, const int32_t* faces, int64_t face_count, const float* normals, const float* uvs,
                                     const float* colors, const int32_t* face_materials, const float* material_factors_,
                                     const int32_t* material_indices_, int64_t material_count, const uint8_t* texels, int64_t texel_bytes,
                                     const int64_t* textures, int64_t texture_count, const double* voxel_size, const int32_t* grid_size,
                                     double mip_bias, int average, void*, void** state, int64_t* count, int, void*) {
    return tk::guarded([&] {
        std::vector<Texture> table = read_textures(texels, texel_bytes, textures, texture_count);
        check_materials(material_indices_, material_count, table);
        const std::vector<std::vector<uint16_t>> levels = build_levels(table);
        const Scene scene = make_scene({vertices, faces, face_count, normals, uvs, colors, face_materials, material_factors_, material_indices_,
                                        table.data(), {}, {}, mip_bias, {}}, voxel_size, grid_size, average);
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
