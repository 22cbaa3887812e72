// The narrow band is found from the mesh: blocks of corners are halved as long as the mesh may be within reach
// of them, so that neither time nor memory is spent on the empty part of the grid.
#include "remesh_field.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"

namespace tk::mesh {
namespace {

struct Block {
    int32_t x, y, z;  // lowest corner
    int64_t slot;
};

// A cube of side^3 corners: is the mesh within `reach` cells of one of them? Leaves a close face in block.slot.
class Prober {
public:
    Prober(const BvhView& tree, const Frame& frame) : tree_(tree), frame_(frame) {}

    // The distance from the block's middle in cells; infinite where no corner of it can be within reach.
    double middle(Block& block, int side, double reach) const {
        const double half = 0.5 * (side - 1), radius = half * cell_diagonal;
        const Vec3f point = static_cast<Vec3f>(frame_.position(block.x + half, block.y + half, block.z + half));
        const Closest found = closest(tree_, point, static_cast<float>((reach + radius + rounding_slack) * frame_.cell), block.slot);
        if (found.slot < 0) return std::numeric_limits<double>::infinity();
        block.slot = found.slot;
        return found.distance / frame_.cell;
    }

    // Values of the block's corners, whose middle lies `distance` cells from the mesh.
    void descend(const Block& block, int side, double distance, double band, float* value) const {
        const int half = side / 2;
        const double reach = band + 1;
        for (int child = 0; child < 8; ++child) {
            Block part{block.x + (child & 1) * half, block.y + (child >> 1 & 1) * half, block.z + (child >> 2) * half, block.slot};
            // From the middle of the block to that of its part.
            const double step = 0.25 * side * cell_diagonal;
            const double within = std::min(reach, distance + step - 0.5 * (half - 1) * cell_diagonal);
            const double found = middle(part, half, within);
            if (std::isinf(found)) continue;
            if (half > 1)
                descend(part, half, found, band, value);
            else
                value[(part.z % brick_side * brick_side + part.y % brick_side) * brick_side + part.x % brick_side] =
                    static_cast<float>(found - band);
        }
    }

private:
    const BvhView& tree_;
    const Frame& frame_;
};

std::vector<Block> halve(const std::vector<Block>& blocks, const std::vector<uint8_t>& keep, int side, int64_t extent) {
    std::vector<Block> parts;
    for (size_t b = 0; b < blocks.size(); ++b) {
        if (!keep[b]) continue;
        for (int child = 0; child < 8; ++child) {
            const Block part{blocks[b].x + (child & 1) * side, blocks[b].y + (child >> 1 & 1) * side,
                             blocks[b].z + (child >> 2) * side, blocks[b].slot};
            if (part.x < extent && part.y < extent && part.z < extent) parts.push_back(part);
        }
    }
    return parts;
}

}  // namespace

Field sample_distance(const BvhView& tree, const Frame& frame, double band) {
    const Prober prober(tree, frame);
    // The corners of a cell that the surface crosses are at most a diagonal farther than the offset.
    const double reach = band + cell_diagonal;
    const int64_t extent = frame.bricks * brick_side;
    int side = brick_side;
    while (side < extent) side *= 2;
    std::vector<Block> blocks{{0, 0, 0, -1}};
    std::vector<uint8_t> keep;
    for (;; side /= 2) {
        keep.assign(blocks.size(), 0);
        parallel_for(static_cast<int64_t>(blocks.size()), 64,
                     [&](int64_t b) { keep[b] = !std::isinf(prober.middle(blocks[b], side, reach)); });
        if (side == brick_side) break;
        blocks = halve(blocks, keep, side / 2, extent);
    }

    Field field;
    field.frame = frame;
    field.index.assign(static_cast<size_t>(frame.bricks * frame.bricks * frame.bricks), -1);
    for (size_t b = 0; b < blocks.size(); ++b) {
        if (!keep[b]) continue;
        const Brick brick{blocks[b].x / brick_side, blocks[b].y / brick_side, blocks[b].z / brick_side, blocks[b].slot};
        field.index[field.at(brick.x, brick.y, brick.z)] = static_cast<int32_t>(field.bricks.size());
        field.bricks.push_back(brick);
    }
    const int64_t count = static_cast<int64_t>(field.bricks.size());
    field.value.resize(static_cast<size_t>(count * brick_corners));
    parallel_for(count, 4, [&](int64_t b) {
        float* value = field.value.data() + b * brick_corners;
        std::fill(value, value + brick_corners, 2.0f);
        const Brick& brick = field.bricks[b];
        Block block{brick.x * brick_side, brick.y * brick_side, brick.z * brick_side, brick.slot};
        prober.descend(block, brick_side, prober.middle(block, brick_side, reach), band, value);
    });
    return field;
}

void mark_inside(Field& field, bool fill) {
    const int64_t count = static_cast<int64_t>(field.bricks.size()), n = field.frame.bricks;
    field.hollow.assign(field.index.size(), fill ? 1 : 0);
    field.inside.assign(static_cast<size_t>(count), Bits{});
    parallel_for(count, 64, [&](int64_t b) {
        for (int corner = 0; corner < brick_corners; ++corner)
            if (field.value[b * brick_corners + corner] <= 0) field.inside[b].set(corner);
    });
    if (!fill) return;

    // Flood from the border: whole bricks where nothing is stored, corner by corner in the others. What is reached
    // in the end does not depend on the order of the queue.
    Bits everything;
    for (uint64_t& w : everything.word) w = ~uint64_t{0};
    std::vector<Bits> reached(static_cast<size_t>(count));
    std::vector<int64_t> queue{0};
    std::vector<uint8_t> queued(field.index.size(), 0);
    field.hollow[0] = 0;
    require(field.index[0] < 0, "the border of the grid is not free");
    while (!queue.empty()) {
        const int64_t at = queue.back();
        queue.pop_back();
        queued[at] = 0;
        const int32_t here = field.index[at];
        const Bits& from = here < 0 ? everything : reached[here];
        const int64_t position[3] = {at % n, at / n % n, at / (n * n)};
        for (int side = 0; side < 6; ++side) {
            const int64_t moved = position[side / 2] + (side % 2 ? 1 : -1);
            if (moved < 0 || moved >= n) continue;
            const int64_t stride = side / 2 == 0 ? 1 : side / 2 == 1 ? n : n * n;
            const int64_t next = at + (side % 2 ? stride : -stride);
            const int32_t there = field.index[next];
            if (there < 0 && !field.hollow[next]) continue;
            const Bits arriving = across(from, side);
            bool news = false;
            if (there < 0) {
                for (uint64_t w : arriving.word) news |= w != 0;
                if (news) field.hollow[next] = 0;
            } else {
                Bits free;
                for (int z = 0; z < brick_side; ++z) {
                    free.word[z] = ~field.inside[there].word[z];
                    const uint64_t fresh = arriving.word[z] & free.word[z] & ~reached[there].word[z];
                    reached[there].word[z] |= fresh;
                    news |= fresh != 0;
                }
                if (news) spread(reached[there], free);
            }
            if (news && !queued[next]) {
                queued[next] = 1;
                queue.push_back(next);
            }
        }
    }
    parallel_for(count, 1024, [&](int64_t b) {
        for (int z = 0; z < brick_side; ++z) field.inside[b].word[z] = ~reached[b].word[z];
    });
}

}  // namespace tk::mesh
