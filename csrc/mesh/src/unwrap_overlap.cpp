// Separating-axis test of triangle pairs found with a bounding volume hierarchy. In two dimensions two
// triangles have disjoint interiors exactly when a line through an edge of one of them has the other on its
// outer side, so six lines decide. Corners on the grid of 2^-24 make every product here exact.
#include "unwrap_overlap.hpp"

#include <algorithm>
#include <cmath>

#include "trellis/parallel.hpp"
#include "trellis/sort.hpp"

namespace tk::uv {
namespace {

constexpr int64_t leaf_size = 4, grain = 1 << 10;

uint64_t spread_bits(uint64_t x) {
    x &= 0xffffffffULL;
    x = (x | x << 16) & 0x0000ffff0000ffffULL;
    x = (x | x << 8) & 0x00ff00ff00ff00ffULL;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fULL;
    x = (x | x << 2) & 0x3333333333333333ULL;
    return (x | x << 1) & 0x5555555555555555ULL;
}

// False when a line through an edge of one triangle has the other on its outer side, but for the tolerance.
bool reach_into(const Vec2d* a, const Vec2d* b, double tolerance) {
    const Vec2d* triangles[2] = {a, b};
    for (int side = 0; side < 2; ++side) {
        const Vec2d *p = triangles[side], *q = triangles[1 - side];
        const double turn = cross(p[1] - p[0], p[2] - p[0]) > 0 ? 1 : -1;
        for (int k = 0; k < 3; ++k) {
            const Vec2d from = p[k], along = p[(k + 1) % 3] - from;
            double deepest = -INFINITY;
            for (int j = 0; j < 3; ++j) deepest = std::max(deepest, turn * cross(along, q[j] - from));
            if (deepest <= tolerance * std::sqrt(dot(along, along))) return false;
        }
    }
    return true;
}

}  // namespace

double signed_height(const Vec2d& a, const Vec2d& b, const Vec2d& c) {
    const Vec2d u = b - a, v = c - a, w = c - b;
    const double longest = std::sqrt(std::max({dot(u, u), dot(v, v), dot(w, w)}));
    return longest > 0 ? cross(u, v) / longest : 0.0;
}

TriangleTree::TriangleTree(const std::vector<Vec2d>& corners, double tolerance) : corners_(corners), tolerance_(tolerance) {
    const int64_t n = static_cast<int64_t>(corners.size()) / 3;
    tall_.assign(n, 0);
    double low_x = INFINITY, low_y = INFINITY, high_x = -INFINITY, high_y = -INFINITY;
    for (int64_t t = 0; t < n; ++t) {
        const Vec2d* p = &corners[3 * t];
        tall_[t] = std::abs(signed_height(p[0], p[1], p[2])) > tolerance;
        if (!tall_[t]) continue;
        order_.push_back(static_cast<int32_t>(t));
        for (int k = 0; k < 3; ++k) {
            low_x = std::min(low_x, p[k].x);
            low_y = std::min(low_y, p[k].y);
            high_x = std::max(high_x, p[k].x);
            high_y = std::max(high_y, p[k].y);
        }
    }
    const int64_t m = static_cast<int64_t>(order_.size());
    const double scale = 4294967295.0 / std::max({high_x - low_x, high_y - low_y, 1e-300});
    std::vector<uint64_t> keys(m);
    parallel_for(m, grain, [&](int64_t i) {
        const Vec2d* p = &corners[3 * int64_t{order_[i]}];
        const double x = (p[0].x + p[1].x + p[2].x) / 3 - low_x, y = (p[0].y + p[1].y + p[2].y) / 3 - low_y;
        auto cell = [&](double d) { return static_cast<uint64_t>(std::clamp(d * scale, 0.0, 4294967295.0)); };
        keys[i] = spread_bits(cell(x)) | spread_bits(cell(y)) << 1;
    });
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
    const int64_t groups = (m + leaf_size - 1) / leaf_size;
    leaves_ = 1;
    while (leaves_ < groups) leaves_ *= 2;
    boxes_.assign(2 * leaves_, Box{INFINITY, INFINITY, -INFINITY, -INFINITY});
    for (int64_t i = 0; i < m; ++i) {
        Box& box = boxes_[leaves_ + i / leaf_size];
        for (int k = 0; k < 3; ++k) {
            const Vec2d& p = corners[3 * int64_t{order_[i]} + k];
            box = {std::min(box.low_x, p.x), std::min(box.low_y, p.y), std::max(box.high_x, p.x), std::max(box.high_y, p.y)};
        }
    }
    for (int64_t i = leaves_ - 1; i > 0; --i) {
        const Box &a = boxes_[2 * i], &b = boxes_[2 * i + 1];
        boxes_[i] = {std::min(a.low_x, b.low_x), std::min(a.low_y, b.low_y), std::max(a.high_x, b.high_x), std::max(a.high_y, b.high_y)};
    }
}

int64_t TriangleTree::find(const Vec2d* p, int64_t except) const {
    const Box own{std::min({p[0].x, p[1].x, p[2].x}), std::min({p[0].y, p[1].y, p[2].y}), std::max({p[0].x, p[1].x, p[2].x}),
                  std::max({p[0].y, p[1].y, p[2].y})};
    auto apart = [&](const Box& b) {
        return b.low_x >= own.high_x || b.high_x <= own.low_x || b.low_y >= own.high_y || b.high_y <= own.low_y;
    };
    const int64_t m = static_cast<int64_t>(order_.size());
    int64_t stack[96], depth = 0;
    if (m > 0) stack[depth++] = 1;
    while (depth > 0) {
        const int64_t i = stack[--depth];
        if (apart(boxes_[i])) continue;
        if (i < leaves_) {
            stack[depth++] = 2 * i + 1;
            stack[depth++] = 2 * i;
            continue;
        }
        const int64_t begin = (i - leaves_) * leaf_size, end = std::min(m, begin + leaf_size);
        for (int64_t j = begin; j < end; ++j)
            if (order_[j] != except && reach_into(p, &corners_[3 * int64_t{order_[j]}], tolerance_)) return order_[j];
    }
    return -1;
}

int64_t TriangleTree::overlapped_by(int64_t t) const { return tall_[t] ? find(&corners_[3 * t], t) : -1; }

int64_t TriangleTree::overlapped_by(const Vec2d (&p)[3]) const {
    return std::abs(signed_height(p[0], p[1], p[2])) > tolerance_ ? find(p, -1) : -1;
}

}  // namespace tk::uv
