#include "boundary.hpp"

#include <utility>

#include "trellis/sort.hpp"

namespace tk::voxel {

std::vector<std::pair<int32_t, int32_t>> boundary_edges(const int32_t* faces, int64_t face_count, int64_t vertex_count) {
    const uint64_t base = static_cast<uint64_t>(vertex_count);
    std::vector<uint64_t> keys(static_cast<size_t>(face_count) * 3);
    parallel_for(face_count, 1 << 14, [&](int64_t f) {
        for (int k = 0; k < 3; ++k) {
            const auto [low, high] = std::minmax(faces[f * 3 + k], faces[f * 3 + (k + 1) % 3]);
            keys[static_cast<size_t>(f * 3 + k)] = static_cast<uint64_t>(low) * base + static_cast<uint64_t>(high);
        }
    });
    std::vector<uint8_t> nothing(keys.size());
    stable_sort_by_key(keys, nothing);
    std::vector<std::pair<int32_t, int32_t>> edges;
    for (size_t i = 0, end; i < keys.size(); i = end) {
        for (end = i + 1; end < keys.size() && keys[end] == keys[i];) ++end;
        if (end == i + 1) edges.emplace_back(static_cast<int32_t>(keys[i] / base), static_cast<int32_t>(keys[i] % base));
    }
    return edges;
}

}  // namespace tk::voxel
