// Which triangles of a layout in the plane lie over each other.
#pragma once

#include <cstdint>
#include <vector>

#include "unwrap_chart.hpp"
#include "unwrap_tree.hpp"

namespace tk::uv {

// A tree of boxes over triangles in the order of a Morton curve.
class TriangleTree {
public:
    // Triangle t has corners corners[3t..3t+2]. Those that are no taller than `tolerance` cover nothing
    // and are left out.
    TriangleTree(const std::vector<Vec2d>& corners, double tolerance);

    // Another triangle that triangle t reaches into by more than the tolerance, or -1.
    int64_t overlapped_by(int64_t t) const;

    // The same for a triangle that is not in the tree.
    int64_t overlapped_by(const Vec2d (&triangle)[3]) const;

private:
    TreeView view() const;

    const std::vector<Vec2d>& corners_;
    double tolerance_;
    std::vector<int32_t> order_;
    std::vector<TreeBox> boxes_;
};

// The smallest height of a triangle, negative when it is turned over (clockwise).
inline double signed_height(const Vec2d& a, const Vec2d& b, const Vec2d& c) { return height_of(a, b, c); }

}  // namespace tk::uv
