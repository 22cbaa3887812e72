// Octrees of .vxz chunks: voxels put in order, octrees written and read.
#include "vxz_octree.hpp"

#include <algorithm>
#include <vector>

#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"
#include "trellis_voxel.h"

namespace {

constexpr int32_t coord_limit = 1 << 20;

// The box of chunks that hold voxels. Numbering chunks within it leaves few bits to sort by.
struct Chunks {
    int32_t low[3] = {INT32_MAX, INT32_MAX, INT32_MAX}, high[3] = {INT32_MIN, INT32_MIN, INT32_MIN};

    // In ascending order of x, y, z; below 2^(63 - 3 depth), since an axis has at most 2^(21 - depth) chunks.
    uint64_t number(const int32_t* coord, int depth) const {
        uint64_t result = 0;
        for (int axis = 0; axis < 3; ++axis)
            result = result * (static_cast<uint64_t>(high[axis] - low[axis]) + 1) + static_cast<uint64_t>((coord[axis] >> depth) - low[axis]);
        return result;
    }
};

Chunks occupied_chunks(const int32_t* coords, int64_t count, int depth) {
    constexpr int64_t grain = 1 << 16;
    std::vector<Chunks> partial(static_cast<size_t>(tk::chunk_count(count, grain)));
    tk::parallel_chunks(count, grain, [&](int64_t part, int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i)
            for (int axis = 0; axis < 3; ++axis) {
                const int32_t c = coords[3 * i + axis];
                if (c < -coord_limit || c >= coord_limit)
                    tk::voxel::refuse(tk::format("coords: expected values in [%d, %d), got %d in row %lld", -coord_limit, coord_limit, c, (long long)i));
                partial[part].low[axis] = std::min(partial[part].low[axis], c >> depth);
                partial[part].high[axis] = std::max(partial[part].high[axis], c >> depth);
            }
    });
    Chunks all;
    for (const Chunks& part : partial)
        for (int axis = 0; axis < 3; ++axis) {
            all.low[axis] = std::min(all.low[axis], part.low[axis]);
            all.high[axis] = std::max(all.high[axis], part.high[axis]);
        }
    return all;
}

}  // namespace

TK_API int tk_voxel_vxz_order(const int32_t* coords, int64_t count, int depth, int64_t* order, int64_t* keys, int, void*) {
    return tk::guarded([&] {
        tk::voxel::check_depth(depth);
        const Chunks chunks = occupied_chunks(coords, count, depth);
        std::vector<uint64_t> key(static_cast<size_t>(count));
        std::vector<int64_t> row(static_cast<size_t>(count));
        tk::parallel_for(count, 1 << 14, [&](int64_t i) {
            const int32_t* c = coords + 3 * i;
            const int mask = (1 << depth) - 1;
            key[i] = chunks.number(c, depth) << (3 * depth) | tk::voxel::morton(c[0] & mask, c[1] & mask, c[2] & mask);
            row[i] = i;
        });
        tk::stable_sort_by_key(key, row);
        tk::parallel_for(count, 1 << 14, [&](int64_t i) {
            if (i > 0 && key[i] == key[i - 1]) {
                const int32_t* c = coords + 3 * row[i];
                tk::voxel::refuse(tk::format("coords: expected each voxel once, got (%d, %d, %d) in rows %lld and %lld", c[0], c[1], c[2],
                                             (long long)row[i - 1], (long long)row[i]));
            }
            order[i] = row[i];
            keys[i] = static_cast<int64_t>(key[i]);
        });
    });
}

TK_API int tk_voxel_vxz_octree_encode(const int64_t* keys, int64_t count, int depth, uint8_t* octree, int64_t* size, int, void*) {
    return tk::guarded([&] {
        tk::voxel::check_depth(depth);
        const uint64_t mask = (uint64_t{1} << (3 * depth)) - 1;
        int64_t node[tk::voxel::max_depth], used = 0;
        for (int64_t i = 0; i < count; ++i) {
            const uint64_t code = static_cast<uint64_t>(keys[i]) & mask;
            // The nodes below the deepest one shared with the voxel before are new.
            int shared = -1;
            if (i > 0) {
                const uint64_t differs = code ^ (static_cast<uint64_t>(keys[i - 1]) & mask);
                if (code <= (static_cast<uint64_t>(keys[i - 1]) & mask)) tk::voxel::refuse("keys: expected ascending order");
                shared = depth - 1 - (63 - __builtin_clzll(differs)) / 3;
            }
            for (int level = shared + 1; level < depth; ++level) {
                node[level] = used;
                octree[used++] = 0;
            }
            for (int level = std::max(shared, 0); level < depth; ++level)
                octree[node[level]] |= static_cast<uint8_t>(1 << ((code >> (3 * (depth - 1 - level))) & 7));
        }
        *size = used;
    });
}

TK_API int tk_voxel_vxz_octree_count(const uint8_t* octree, int64_t size, int depth, int64_t* count, int, void*) {
    return tk::guarded([&] {
        tk::voxel::check_depth(depth);
        *count = tk::voxel::walk(octree, size, depth, [](int64_t, uint64_t) {}, [](int64_t, int64_t, int64_t) {});
    });
}

TK_API int tk_voxel_vxz_octree_decode(const uint8_t* octree, int64_t size, int depth, const int32_t* origin, int64_t count, int32_t* coords, int, void*) {
    return tk::guarded([&] {
        tk::voxel::check_depth(depth);
        const auto leaf = [&](int64_t i, uint64_t code) {
            if (i >= count) tk::voxel::refuse(tk::format("octree: holds more than the expected %lld voxels", (long long)count));
            for (int axis = 0; axis < 3; ++axis)
                coords[3 * i + axis] = origin[axis] + static_cast<int32_t>(tk::voxel::gather(code >> (2 - axis)));
        };
        const int64_t leaves = tk::voxel::walk(octree, size, depth, leaf, [](int64_t, int64_t, int64_t) {});
        tk::require(leaves == count, tk::format("octree: expected %lld voxels, got %lld", (long long)count, (long long)leaves));
    });
}
