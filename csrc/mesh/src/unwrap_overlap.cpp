#include "unwrap_overlap.hpp"

#include <algorithm>
#include <cmath>

#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"

namespace tk::uv {
namespace {

constexpr int64_t grain = 1 << 10;

}  // namespace

TriangleTree::TriangleTree(const std::vector<Vec2d>& corners, double tolerance) : corners_(corners), tolerance_(tolerance) {
    const int64_t n = static_cast<int64_t>(corners.size()) / 3;
    TreeBox all = empty_box();
    for (int64_t t = 0; t < n; ++t) {
        if (!is_tall(&corners[3 * t], tolerance)) continue;
        order_.push_back(static_cast<int32_t>(t));
        all = united(all, box_of(&corners[3 * t]));
    }
    const int64_t m = static_cast<int64_t>(order_.size());
    const double scale = 4294967295.0 / std::max({all.high_x - all.low_x, all.high_y - all.low_y, 1e-300});
    std::vector<uint64_t> keys(m);
    parallel_for(m, grain, [&](int64_t i) { keys[i] = morton_key(&corners[3 * int64_t{order_[i]}], all.low_x, all.low_y, scale); });
    if (m < 2048) {  // the sort below has tables to clear
        std::vector<int32_t> index(m);
        for (int64_t i = 0; i < m; ++i) index[i] = static_cast<int32_t>(i);
        std::stable_sort(index.begin(), index.end(), [&](int32_t a, int32_t b) { return keys[a] < keys[b]; });
        std::vector<int32_t> sorted(m);
        for (int64_t i = 0; i < m; ++i) sorted[i] = order_[index[i]];
        order_.swap(sorted);
    } else {
        stable_sort_by_key(keys, order_);
    }
    const int64_t leaves = tree_leaves(m);
    boxes_.assign(2 * leaves, empty_box());
    for (int64_t i = 0; i < m; ++i) {
        TreeBox& box = boxes_[leaves + i / tree_leaf_size];
        box = united(box, box_of(&corners[3 * int64_t{order_[i]}]));
    }
    for (int64_t i = leaves - 1; i > 0; --i) boxes_[i] = united(boxes_[2 * i], boxes_[2 * i + 1]);
}

TreeView TriangleTree::view() const {
    return {corners_.data(), order_.data(), static_cast<int64_t>(order_.size()), boxes_.data(), static_cast<int64_t>(boxes_.size()) / 2, tolerance_};
}

int64_t TriangleTree::overlapped_by(int64_t t) const { return is_tall(&corners_[3 * t], tolerance_) ? view().find(&corners_[3 * t], t) : -1; }

int64_t TriangleTree::overlapped_by(const Vec2d (&p)[3]) const { return is_tall(p, tolerance_) ? view().find(p, -1) : -1; }

}  // namespace tk::uv
