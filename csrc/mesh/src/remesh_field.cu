// The distance in a narrow band, on the device: blocks of corners are halved as long as the mesh may be within reach.
#include "disjoint_sets.cuh"
#include "remesh_device.cuh"

namespace tk::mesh {
namespace {

struct Block {
    int32_t x, y, z;  // lowest corner
    int32_t slot;     // of a face near its middle, -1 where none is known
};

// As Prober::middle of remesh_field.cpp.
__device__ double middle(const BvhView& tree, const Frame& frame, Block& block, int side, double reach) {
    const double half = 0.5 * (side - 1), radius = half * cell_diagonal;
    const Vec3f point = static_cast<Vec3f>(frame.position(block.x + half, block.y + half, block.z + half));
    const double limit = times(plus(plus(reach, radius), double{rounding_slack}), frame.cell);
    const DeviceClosest found = closest_on_device(tree, point, static_cast<float>(limit), block.slot);
    if (found.slot < 0) return __builtin_inf();
    block.slot = static_cast<int32_t>(found.slot);
    return found.distance / frame.cell;
}

__device__ Block part_of(const Block& block, int child, int side) {
    return {block.x + (child & 1) * side, block.y + (child >> 1 & 1) * side, block.z + (child >> 2) * side, block.slot};
}

__device__ bool within(const Block& block, int64_t extent) { return block.x < extent && block.y < extent && block.z < extent; }

// Blocks along a Z-order curve, as repeated halving of one block gives them.
__global__ void first_blocks_kernel(Block* blocks, int64_t count, int side) {
    TK_GRID_STRIDE(b, count) {
        Block block{0, 0, 0, -1};
        for (int level = 0; b >> 3 * level; ++level) block = part_of(block, static_cast<int>(b >> 3 * level & 7), side << level);
        blocks[b] = block;
    }
}

// parts: for each block how many of its halves are in the grid, 0 where the mesh is out of reach; or, with side ==
// brick_side, 1 where it is within.
__global__ void probe_kernel(BvhView tree, Frame frame, Block* blocks, int64_t count, int side, double reach, int64_t extent,
                             int32_t* parts) {
    TK_GRID_STRIDE(b, count + 1) {
        int32_t n = 0;
        if (b < count && within(blocks[b], extent) && !isinf(middle(tree, frame, blocks[b], side, reach))) {
            for (int child = 0; child < 8; ++child) n += within(part_of(blocks[b], child, side / 2), extent);
            if (side == brick_side) n = 1;
        }
        parts[b] = n;
    }
}

__global__ void halve_kernel(const Block* blocks, const int32_t* start, int64_t count, int side, int64_t extent, Block* parts) {
    TK_GRID_STRIDE(b, count) {
        if (start[b] == start[b + 1]) continue;
        int32_t at = start[b];
        for (int child = 0; child < 8; ++child) {
            const Block part = part_of(blocks[b], child, side);
            if (within(part, extent)) parts[at++] = part;
        }
    }
}

__global__ void bricks_kernel(const Block* blocks, const int32_t* start, int64_t count, Frame frame, DeviceBrick* bricks, int32_t* index) {
    TK_GRID_STRIDE(b, count) {
        if (start[b] == start[b + 1]) continue;
        const DeviceBrick brick{blocks[b].x / brick_side, blocks[b].y / brick_side, blocks[b].z / brick_side, blocks[b].slot};
        bricks[start[b]] = brick;
        index[frame.at(brick.x, brick.y, brick.z)] = start[b];
    }
}

constexpr int pairs_of_brick = brick_corners / 8;  // blocks of 2^3 corners, in Z-order of their places in the brick

__device__ Block pair_block(const DeviceBrick& brick, int pair) {
    return {brick.x * brick_side + pair % 4 * 2, brick.y * brick_side + pair / 4 % 4 * 2, brick.z * brick_side + pair / 16 * 2, brick.slot};
}

struct Near {
    int32_t slot;
    float distance;  // in cells
};

__global__ void pairs_kernel(BvhView tree, Frame frame, const DeviceBrick* bricks, int64_t count, double reach, Near* near, int32_t* kept) {
    TK_GRID_STRIDE(i, count + 1) {
        kept[i] = 0;
        if (i == count) continue;
        Block block = pair_block(bricks[i / pairs_of_brick], static_cast<int>(i % pairs_of_brick));
        const double found = middle(tree, frame, block, 2, reach);
        if (isinf(found)) continue;
        kept[i] = 1;
        near[i] = {block.slot, static_cast<float>(found)};
    }
}

__global__ void kept_kernel(const int32_t* start, int64_t count, int32_t* list) {
    TK_GRID_STRIDE(i, count) {
        if (start[i + 1] != start[i]) list[start[i]] = static_cast<int32_t>(i);
    }
}

__global__ void far_kernel(float* value, int64_t count) {
    TK_GRID_STRIDE(i, count) value[i] = 2.0f;
}

__global__ void corners_kernel(BvhView tree, Frame frame, const DeviceBrick* bricks, const int32_t* list, int64_t count, const Near* near,
                               double band, float* value) {
    TK_GRID_STRIDE(i, 8 * count) {
        const int32_t pair = list[i / 8];
        const int64_t b = pair / pairs_of_brick;
        Block block = pair_block(bricks[b], pair % pairs_of_brick);
        block.slot = near[pair].slot;
        Block corner = part_of(block, static_cast<int>(i % 8), 1);
        // A corner is not farther than its block's middle and the way there, and a little for rounding that to float.
        const double reach = fmin(band + 1, near[pair].distance + 0.5 * cell_diagonal + 1e-5);
        const double found = middle(tree, frame, corner, 1, reach);
        if (isinf(found)) continue;
        const int at = (corner.z % brick_side * brick_side + corner.y % brick_side) * brick_side + corner.x % brick_side;
        value[b * brick_corners + at] = static_cast<float>(found - band);
    }
}

}  // namespace

DeviceField sample_distance(const Arena& arena, const BvhView& tree, const Frame& frame, double band, cudaStream_t stream) {
    require(tree.shape.count[0] <= INT32_MAX / bvh_width, "num_faces: too many faces for the slots of 32 bits");
    const double reach = band + cell_diagonal;
    const int64_t extent = frame.bricks * brick_side;
    int side = brick_side;
    while (side < extent) side *= 2;

    // The CPU halves one block down to bricks. Blocks of this size are few enough to be tested all, in the same order;
    // whatever is in reach of a block is in reach of those that hold it.
    constexpr int first_side = 64;
    int64_t across = 1;
    for (; side > first_side; side /= 2) across *= 2;
    int64_t count = across * across * across;
    Block* blocks = arena.take<Block>(count);
    TK_LAUNCH(first_blocks_kernel, count, stream, blocks, count, side);
    int32_t* start = nullptr;
    int32_t next = 0;
    for (;; side /= 2) {
        start = arena.take<int32_t>(count + 1);
        TK_LAUNCH(probe_kernel, count + 1, stream, tree, frame, blocks, count, side, reach, extent, start);
        next = arena.scan(start, count + 1, stream);
        if (side == brick_side) break;
        Block* parts = arena.take<Block>(next);
        TK_LAUNCH(halve_kernel, count, stream, blocks, start, count, side / 2, extent, parts);
        blocks = parts;
        count = next;
    }

    const int64_t positions = frame.bricks * frame.bricks * frame.bricks;
    DeviceBrick* bricks = arena.take<DeviceBrick>(next);
    int32_t* index = arena.take<int32_t>(positions);
    TK_CUDA(cudaMemsetAsync(index, 0xff, static_cast<size_t>(positions) * sizeof(int32_t), stream));
    TK_LAUNCH(bricks_kernel, count, stream, blocks, start, count, frame, bricks, index);

    const int64_t corners = int64_t{next} * brick_corners, pairs = int64_t{next} * pairs_of_brick;
    require(pairs < INT32_MAX, "resolution: the band has more blocks than 32 bits can number");
    float* value = arena.take<float>(corners);
    Near* near = arena.take<Near>(pairs);
    int32_t* kept = arena.take<int32_t>(pairs + 1);
    TK_LAUNCH(far_kernel, corners, stream, value, corners);
    TK_LAUNCH(pairs_kernel, pairs + 1, stream, tree, frame, bricks, pairs, band + 1, near, kept);
    const int32_t num_kept = arena.scan(kept, pairs + 1, stream);
    int32_t* list = arena.take<int32_t>(num_kept);
    TK_LAUNCH(kept_kernel, pairs, stream, kept, pairs, list);
    TK_LAUNCH(corners_kernel, 8 * int64_t{num_kept}, stream, tree, frame, bricks, list, int64_t{num_kept}, near, band, value);
    return {frame, next, bricks, index, value, nullptr, nullptr};
}

// ---- Inside and outside ----

namespace {

__global__ void within_band_kernel(const float* value, int64_t count, Bits* inside) {
    TK_GRID_STRIDE(i, count * brick_side) {
        uint64_t word = 0;
        for (int c = 0; c < 64; ++c) word |= static_cast<uint64_t>(value[i * 64 + c] <= 0) << c;
        inside[i / brick_side].word[i % brick_side] = word;
    }
}

// Calls body(piece) for the pieces of what is not inside a brick.
template <class Body>
__device__ void each_piece(const Bits& inside, const Body& body) {
    Bits left;
    for (int z = 0; z < brick_side; ++z) left.word[z] = ~inside.word[z];
    for (int z = 0; z < brick_side; ++z)
        while (left.word[z]) {
            Bits piece;
            piece.word[z] = left.word[z] & (0 - left.word[z]);
            spread(piece, left);
            body(piece);
            for (int k = 0; k < brick_side; ++k) left.word[k] &= ~piece.word[k];
        }
}

__global__ void count_pieces_kernel(const Bits* inside, int64_t count, int32_t* pieces) {
    TK_GRID_STRIDE(b, count + 1) {
        int32_t n = 0;
        if (b < count) each_piece(inside[b], [&](const Bits&) { ++n; });
        pieces[b] = n;
    }
}

__global__ void list_pieces_kernel(const Bits* inside, int64_t count, const int32_t* first, Bits* pieces) {
    TK_GRID_STRIDE(b, count) {
        int32_t at = first[b];
        each_piece(inside[b], [&](const Bits& piece) { pieces[at++] = piece; });
    }
}

// The nodes of the flood: brick positions, for those that are not stored, then the pieces of stored bricks.
struct Flood {
    int64_t bricks;        // an axis
    const int32_t* index;  // [position]
    const int32_t* first;  // [brick]: its first piece
    const Bits* pieces;
    int32_t* parent;

    __device__ int64_t positions() const { return bricks * bricks * bricks; }
    __device__ int32_t node(int64_t piece) const { return static_cast<int32_t>(positions() + piece); }
};

__global__ void apart_kernel(int32_t* parent, int64_t n) {
    TK_GRID_STRIDE(i, n) parent[i] = static_cast<int32_t>(i);
}

__device__ bool any(const Bits& bits) {
    uint64_t all = 0;
    for (uint64_t w : bits.word) all |= w;
    return all != 0;
}

// Joins what touches across the faces between a brick position and the next ones along the axes.
__global__ void flood_kernel(Flood flood) {
    const int64_t n = flood.bricks;
    TK_GRID_STRIDE(i, 3 * flood.positions()) {
        const int64_t at = i / 3;
        const int axis = static_cast<int>(i % 3);
        const int64_t place = axis == 0 ? at % n : axis == 1 ? at / n % n : at / (n * n);
        if (place + 1 == n) continue;
        const int64_t next = at + (axis == 0 ? 1 : axis == 1 ? n : n * n);
        const int32_t here = flood.index[at], there = flood.index[next];
        if (here < 0 && there < 0) {
            unite<ScatteredFirst>(flood.parent, static_cast<int32_t>(at), static_cast<int32_t>(next));
        } else if (here < 0 || there < 0) {
            const int32_t stored = here < 0 ? there : here, open = static_cast<int32_t>(here < 0 ? at : next);
            // Towards the position that is not stored.
            const int side = 2 * axis + (here < 0 ? 0 : 1);
            for (int32_t p = flood.first[stored]; p < flood.first[stored + 1]; ++p)
                if (any(across(flood.pieces[p], side))) unite<ScatteredFirst>(flood.parent, open, flood.node(p));
        } else {
            for (int32_t p = flood.first[here]; p < flood.first[here + 1]; ++p) {
                const Bits arriving = across(flood.pieces[p], 2 * axis + 1);
                if (!any(arriving)) continue;
                for (int32_t q = flood.first[there]; q < flood.first[there + 1]; ++q) {
                    uint64_t common = 0;
                    for (int z = 0; z < brick_side; ++z) common |= arriving.word[z] & flood.pieces[q].word[z];
                    if (common) unite<ScatteredFirst>(flood.parent, flood.node(p), flood.node(q));
                }
            }
        }
    }
}

__global__ void hollow_kernel(Flood flood, uint8_t* hollow) {
    const int32_t outside = find_root(flood.parent, 0);
    TK_GRID_STRIDE(at, flood.positions()) hollow[at] = find_root(flood.parent, static_cast<int32_t>(at)) != outside;
}

__global__ void unreached_kernel(Flood flood, int64_t count, Bits* inside) {
    const int32_t outside = find_root(flood.parent, 0);
    TK_GRID_STRIDE(b, count) {
        Bits reached;
        for (int32_t p = flood.first[b]; p < flood.first[b + 1]; ++p) {
            if (find_root(flood.parent, flood.node(p)) != outside) continue;
            for (int z = 0; z < brick_side; ++z) reached.word[z] |= flood.pieces[p].word[z];
        }
        for (int z = 0; z < brick_side; ++z) inside[b].word[z] = ~reached.word[z];
    }
}

}  // namespace

void mark_inside(const Arena& arena, DeviceField& field, bool fill, cudaStream_t stream) {
    const int64_t n = field.frame.bricks, positions = n * n * n, count = field.count;
    Bits* inside = arena.take<Bits>(count);
    uint8_t* hollow = arena.take<uint8_t>(positions);
    field.inside = inside;
    field.hollow = hollow;
    TK_LAUNCH(within_band_kernel, count * brick_side, stream, field.value, count, inside);
    TK_CUDA(cudaMemsetAsync(hollow, 0, static_cast<size_t>(positions), stream));
    if (!fill) return;
    require(read_back(field.index, stream) < 0, "the border of the grid is not free");

    int32_t* first = arena.take<int32_t>(count + 1);
    TK_LAUNCH(count_pieces_kernel, count + 1, stream, inside, count, first);
    const int32_t num_pieces = arena.scan(first, count + 1, stream);
    require(positions + num_pieces < INT32_MAX, "resolution: the grid has more pieces than 32 bits can number");
    Bits* pieces = arena.take<Bits>(num_pieces);
    TK_LAUNCH(list_pieces_kernel, count, stream, inside, count, first, pieces);
    int32_t* parent = arena.take<int32_t>(positions + num_pieces);
    TK_LAUNCH(apart_kernel, positions + num_pieces, stream, parent, positions + num_pieces);
    const Flood flood{n, field.index, first, pieces, parent};
    TK_LAUNCH(flood_kernel, 3 * positions, stream, flood);
    TK_LAUNCH(hollow_kernel, positions, stream, flood, hollow);
    TK_LAUNCH(unreached_kernel, count, stream, flood, count, inside);
}

}  // namespace tk::mesh
