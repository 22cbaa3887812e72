#include "tiles.hpp"

#include "trellis/sort.hpp"

namespace tk::voxel {

TileLists list_triangles(const Mesh& mesh, const Lattice& lattice, const Tiling& tiling, bool with_overlaps) {
    constexpr int64_t grain = 1 << 10;
    const int64_t n = mesh.face_count;
    std::vector<TileRange> ranges(static_cast<size_t>(n));
    std::vector<int64_t> begins(static_cast<size_t>(n));
    parallel_for(n, grain, [&](int64_t f) {
        const Triangle t = mesh.triangle(f);
        const TileRange range = ranges[static_cast<size_t>(f)] = tile_range(t, lattice, with_overlaps);
        int64_t count = 0;
        for_each_tile(range, t, lattice, [&](const Vec3i&) { ++count; });
        begins[static_cast<size_t>(f)] = count;
    });

    TileLists lists;
    const int64_t total = exclusive_scan(begins.data(), n);
    std::vector<uint64_t> keys(static_cast<size_t>(total));
    lists.triangles.resize(static_cast<size_t>(total));
    parallel_for(n, grain, [&](int64_t f) {
        size_t at = static_cast<size_t>(begins[static_cast<size_t>(f)]);
        for_each_tile(ranges[static_cast<size_t>(f)], mesh.triangle(f), lattice, [&](const Vec3i& tile) {
            keys[at] = tiling.key(tile);
            lists.triangles[at++] = static_cast<uint32_t>(f);
        });
    });
    stable_sort_by_key(keys, lists.triangles);
    lists.begins = run_starts(keys);
    for (size_t t = 0; t + 1 < lists.begins.size(); ++t) lists.keys.push_back(keys[static_cast<size_t>(lists.begins[t])]);
    return lists;
}

}  // namespace tk::voxel
