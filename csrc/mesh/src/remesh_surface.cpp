// Dual contouring (Ju, Losasso, Schaefer and Warren, 2002) with as many vertices a cell as the surface has
// pieces in it.
#include "remesh_surface.hpp"

#include <algorithm>

#include "remesh_cells.hpp"
#include "remesh_patch.hpp"
#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"

namespace tk::mesh {
namespace {

// The corners of a brick with one layer around it.
struct Patch : PatchCorners {
    int64_t brick[3][3][3];  // numbers of the brick and its neighbours, -1 where none is stored
    bool crossed;            // whether corners differ at all

    Patch(const Field& field, const Brick& centre) {
        const int64_t n = field.frame.bricks;
        for (int dz = 0; dz < 3; ++dz)
            for (int dy = 0; dy < 3; ++dy)
                for (int dx = 0; dx < 3; ++dx) {
                    const int64_t x = centre.x + dx - 1, y = centre.y + dy - 1, z = centre.z + dz - 1;
                    const bool exists = x >= 0 && y >= 0 && z >= 0 && x < n && y < n && z < n;
                    const int64_t at = exists ? field.at(x, y, z) : 0;
                    brick[dz][dy][dx] = exists ? field.index[at] : -1;
                    hollow_[dz][dy][dx] = exists && field.hollow[at];
                }
        // Any corner differing from the first one, over the words of bricks, before the costly part.
        uint64_t any = 0, all = ~uint64_t{0};
        for (int dz = 0; dz < 3; ++dz)
            for (int dy = 0; dy < 3; ++dy)
                for (int dx = 0; dx < 3; ++dx) {
                    const int64_t b = brick[dz][dy][dx];
                    for (int z = 0; z < brick_side; ++z) {
                        const uint64_t w = b >= 0 ? field.inside[b].word[z] : hollow_[dz][dy][dx] ? ~uint64_t{0} : 0;
                        any |= w;
                        all &= w;
                    }
                }
        crossed = any != 0 && all != ~uint64_t{0};
        if (!crossed) return;
        for (int z = 0; z < patch_side; ++z)
            for (int y = 0; y < patch_side; ++y)
                for (int x = 0; x < patch_side; ++x) {
                    const int bz = (z + brick_side - 1) / brick_side, by = (y + brick_side - 1) / brick_side,
                              bx = (x + brick_side - 1) / brick_side;
                    const int cz = (z + brick_side - 1) % brick_side, cy = (y + brick_side - 1) % brick_side,
                              cx = (x + brick_side - 1) % brick_side;
                    const int64_t b = brick[bz][by][bx];
                    inside[z][y][x] = b >= 0 ? field.inside[b].get(cx, cy, cz) : hollow_[bz][by][bx];
                    value[z][y][x] = b >= 0 ? field.value[b * brick_corners + (cz * brick_side + cy) * brick_side + cx] : 2.0f;
                }
    }

private:
    bool hollow_[3][3][3];
};

struct Cells {
    std::vector<Bits> active;            // [brick]: cells with a crossing, at their lowest corners
    std::vector<int32_t> first;          // [brick]: number of its first active cell
    std::vector<uint8_t> mask;           // [cell]
    std::vector<int32_t> vertex;         // [cell]: number of its first vertex

    int64_t number(int64_t brick, int x, int y, int z) const {
        const Bits& bits = active[brick];
        int64_t rank = first[brick];
        for (int k = 0; k < z; ++k) rank += __builtin_popcountll(bits.word[k]);
        return rank + __builtin_popcountll(bits.word[z] & ((uint64_t{1} << (x + brick_side * y)) - 1));
    }
};

}  // namespace

DualSurface extract_surface(const Field& field) {
    const int64_t count = static_cast<int64_t>(field.bricks.size());
    const CellTable& table = cell_table();
    Cells cells;
    cells.active.assign(static_cast<size_t>(count), Bits{});
    cells.first.resize(static_cast<size_t>(count));
    std::vector<int64_t> cell_start(static_cast<size_t>(count)), vertex_start(cell_start.size()), quad_start(cell_start.size());

    // Crossed edges of a patch's own corners, in a fixed order.
    auto each_quad = [](const Patch& patch, auto&& body) {
        for (int z = 1; z <= brick_side; ++z)
            for (int y = 1; y <= brick_side; ++y)
                for (int x = 1; x <= brick_side; ++x)
                    for (int axis = 0; axis < 3; ++axis)
                        if (patch.inside[z][y][x] != patch.inside[z + (axis == 2)][y + (axis == 1)][x + (axis == 0)])
                            body(x, y, z, axis);
    };

    parallel_for(count, 16, [&](int64_t b) {
        const Patch patch(field, field.bricks[b]);
        if (!patch.crossed) return;
        int64_t active = 0, vertices = 0, quads = 0;
        for (int z = 0; z < brick_side; ++z)
            for (int y = 0; y < brick_side; ++y)
                for (int x = 0; x < brick_side; ++x) {
                    const int mask = patch.mask(x + 1, y + 1, z + 1);
                    if (mask == 0 || mask == 255) continue;
                    cells.active[b].set((z * brick_side + y) * brick_side + x);
                    ++active;
                    vertices += table[mask].loops;
                }
        each_quad(patch, [&](int, int, int, int) { ++quads; });
        cell_start[b] = active;
        vertex_start[b] = vertices;
        quad_start[b] = quads;
    });
    const int64_t num_cells = exclusive_scan(cell_start.data(), count);
    const int64_t num_vertices = exclusive_scan(vertex_start.data(), count);
    const int64_t num_quads = exclusive_scan(quad_start.data(), count);
    // Room is left for the vertices of doubled joints, of which there are fewer than quads.
    require(num_vertices + num_quads < INT32_MAX && num_quads < INT32_MAX / 2,
            format("resolution: the surface would have %lld vertices and %lld faces, more than 32-bit numbers hold",
                   static_cast<long long>(num_vertices), static_cast<long long>(2 * num_quads)));

    DualSurface surface;
    surface.vertices.resize(static_cast<size_t>(num_vertices));
    surface.quads.resize(static_cast<size_t>(num_quads));
    cells.mask.resize(static_cast<size_t>(num_cells));
    cells.vertex.resize(static_cast<size_t>(num_cells));
    parallel_for(count, 16, [&](int64_t b) {
        cells.first[b] = static_cast<int32_t>(cell_start[b]);
        const Brick& brick = field.bricks[b];
        const Patch patch(field, brick);
        if (!patch.crossed) return;
        int64_t cell = cell_start[b], vertex = vertex_start[b];
        for (int corner = 0; corner < brick_corners; ++corner) {
            if (!cells.active[b].get(corner)) continue;
            const int x = corner % brick_side + 1, y = corner / brick_side % brick_side + 1, z = corner / 64 + 1;
            const int mask = patch.mask(x, y, z);
            const CellLoops& loops = table[mask];
            Vec3d sum[4] = {};
            int crossings[4] = {};
            for (int e = 0; e < 12; ++e) {
                const int loop = loops.loop[e];
                if (loop < 0) continue;
                const int axis = e / 4, start = corner_at(axis, 0, e % 2, e / 2 % 2);
                sum[loop] += crossing_point(patch, x + (start & 1), y + (start >> 1 & 1), z + (start >> 2), axis);
                ++crossings[loop];
            }
            cells.mask[cell] = static_cast<uint8_t>(mask);
            cells.vertex[cell++] = static_cast<int32_t>(vertex);
            for (int loop = 0; loop < loops.loops; ++loop)
                surface.vertices[vertex++] = patch_position(field.frame, brick.x, brick.y, brick.z, sum[loop] * (1.0 / crossings[loop]));
        }
    });

    std::vector<std::vector<Joint>> joints(static_cast<size_t>(chunk_count(count, 16)));
    parallel_chunks(count, 16, [&](int64_t chunk, int64_t begin, int64_t end) {
        for (int64_t b = begin; b < end; ++b) {
            const Brick& brick = field.bricks[b];
            const Patch patch(field, brick);
            if (!patch.crossed) continue;
            const int corner[3] = {brick.x * brick_side, brick.y * brick_side, brick.z * brick_side};
            int64_t number = quad_start[b];
            each_quad(patch, [&](int x, int y, int z, int axis) {
                const int start[3] = {x, y, z};
                const bool outward = patch.inside[z][y][x];  // else the far end of the edge is inside
                Quad quad{{}, {-1, -1, -1, -1}};
                uint8_t doubled[4];
                for (int k = 0; k < 4; ++k) {
                    int at[3];
                    const int edge = cell_around(x, y, z, axis, k, at);
                    const int64_t home = patch.brick[at[2] / brick_side][at[1] / brick_side][at[0] / brick_side];
                    if (home < 0) throw Error(TK_INTERNAL, "the surface left the band");
                    const int64_t cell = cells.number(home, at[0] % brick_side, at[1] % brick_side, at[2] % brick_side);
                    const CellLoops& loops = table[cells.mask[cell]];
                    quad.vertex[k] = cells.vertex[cell] + loops.loop[edge];
                    doubled[k] = loops.doubled;
                }
                for (int k = 0; k < 4; ++k) {
                    Joint joint;
                    if (!find_joint(patch, field.frame, corner, start, axis, k, doubled[k], doubled[(k + 1) % 4], joint)) continue;
                    joint.side = number * 4 + (outward ? k : 3 - k);
                    joints[chunk].push_back(joint);
                }
                if (!outward) std::swap(quad.vertex[1], quad.vertex[3]);
                surface.quads[number++] = quad;
            });
        }
    });

    // Both quads at a joint get the same vertex.
    std::vector<Joint> all;
    for (const auto& some : joints) all.insert(all.end(), some.begin(), some.end());
    std::stable_sort(all.begin(), all.end(), [](const Joint& a, const Joint& b) { return a.face < b.face; });
    for (size_t k = 0; k < all.size(); ++k) {
        if (k == 0 || all[k].face != all[k - 1].face) surface.vertices.push_back(all[k].point);
        surface.quads[all[k].side / 4].middle[all[k].side % 4] = static_cast<int32_t>(surface.vertices.size() - 1);
    }
    return surface;
}

}  // namespace tk::mesh
