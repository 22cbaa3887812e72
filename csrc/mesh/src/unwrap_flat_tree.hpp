// Building and asking the tree of unwrap_tree.hpp, an item for each triangle or box.
#pragma once

#include "unwrap_flat.hpp"
#include "unwrap_tree.hpp"

namespace tk::uv::flat {

struct TreeKey {
    const Vec2d* corners;
    double low_x, low_y, scale;
    int64_t* keys;
    TK_BOTH void operator()(int64_t t) const { keys[t] = static_cast<int64_t>(morton_key(corners + 3 * t, low_x, low_y, scale) >> 1); }
};

struct TreeLeaf {
    const Vec2d* corners;
    const int32_t* order;
    int64_t count, leaves;
    double tolerance;
    TreeBox* boxes;
    TK_BOTH void operator()(int64_t leaf) const {
        TreeBox box = empty_box();
        for (int64_t i = leaf * tree_leaf_size; i < (leaf + 1) * tree_leaf_size && i < count; ++i) {
            const Vec2d* p = corners + 3 * int64_t{order[i]};
            if (is_tall(p, tolerance)) box = united(box, box_of(p));
        }
        boxes[leaves + leaf] = box;
    }
};

struct TreeNode {  // boxes [level, 2 * level)
    int64_t level;
    TreeBox* boxes;
    TK_BOTH void operator()(int64_t i) const { boxes[level + i] = united(boxes[2 * (level + i)], boxes[2 * (level + i) + 1]); }
};

struct TreeFind {
    TreeView tree;
    int32_t* other;
    TK_BOTH void operator()(int64_t t) const {
        const Vec2d* p = tree.corners + 3 * t;
        other[t] = is_tall(p, tree.tolerance) ? static_cast<int32_t>(tree.find(p, t)) : -1;
    }
};

}  // namespace tk::uv::flat
