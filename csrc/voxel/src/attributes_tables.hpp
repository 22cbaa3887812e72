// Reads and checks the tables and numbers that the caller passes, on the host.
#pragma once

#include <vector>

#include "attributes_scene.hpp"
#include "trellis/error.hpp"

namespace tk::voxel {

// The textures of a table of texture_columns numbers each, without their levels; throws where a row is no texture.
inline std::vector<Texture> read_textures(const uint8_t* texels, int64_t texel_bytes, const int64_t* table, int64_t count) {
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

// Throws where a material names a texture that does not exist or has the wrong channels.
inline void check_materials(const int32_t* indices, int64_t material_count, const std::vector<Texture>& textures) {
    constexpr int slot_channels[4] = {4, 2, 3, 3};
    for (int64_t m = 0; m < material_count; ++m) {
        const int32_t* row = indices + m * material_indices;
        for (int slot = 0; slot < 4; ++slot) {
            const bool exists = row[slot] >= -1 && row[slot] < static_cast<int64_t>(textures.size());
            require(exists, format("material_indices: material %lld names texture %d of %zu", (long long)m, row[slot], textures.size()));
            require(row[slot] < 0 || textures[row[slot]].channels == slot_channels[slot],
                    format("material_indices: material %lld: expected a texture of %d channels in slot %d", (long long)m, slot_channels[slot], slot));
        }
        require(row[4] >= 0 && row[4] <= 2, format("material_indices: material %lld: expected an alpha mode in [0, 2], got %d", (long long)m, row[4]));
    }
}

// `scene` with the grid in it; throws where a number is out of range.
inline Scene make_scene(Scene scene, const double* voxel_size, const int32_t* grid_size, int average) {
    require(scene.face_count >= 0 && scene.face_count <= INT32_MAX,
            format("face_count: expected at most 2^31 - 1, got %lld", (long long)scene.face_count));
    for (int axis = 0; axis < 3; ++axis) {
        require(grid_size[axis] >= 1 && grid_size[axis] <= 65536, format("grid_size: expected sizes in [1, 65536], got %d", grid_size[axis]));
        require(voxel_size[axis] > 0.0 && std::isfinite(voxel_size[axis]), format("voxel_size: expected positive sizes, got %g", voxel_size[axis]));
        scene.grid[axis] = grid_size[axis];
        scene.voxel_size[axis] = voxel_size[axis];
    }
    require(average == 0 || average == 1, format("average: expected 0 or 1, got %d", average));
    scene.average = static_cast<Average>(average);
    return scene;
}

}  // namespace tk::voxel
