#include "box_quadric.hpp"

#include <limits>

namespace tk::voxel {
namespace {

class Search {
public:
    Search(const Quadric& q, const Vec3d& size)
        : a_{{q.xx, q.xy, q.xz}, {q.xy, q.yy, q.yz}, {q.xz, q.yz, q.zz}}, q_(q), size_(size) {}

    Vec3d run() {
        if (interior() || faces() || edges()) return best_;
        corners();
        return best_;
    }

private:
    bool within(int axis, double x) const { return x >= 0 && x <= size_[axis]; }

    // Keeps p if it is the best so far. `fixed` holds for each axis -1 (at the lower bound), 1 (upper) or 0
    // (free). True when p is the minimum: the slope along no fixed axis leads into the box.
    bool offer(const Vec3d& p, const int (&fixed)[3]) {
        const Vec3d product = q_.times(p);
        const double error = dot(p, product) - 2 * dot(p, q_.b);
        if (error < least_) {
            least_ = error;
            best_ = p;
        }
        const Vec3d slope = product - q_.b;
        for (int axis = 0; axis < 3; ++axis)
            if (slope[axis] * fixed[axis] > 0) return false;
        return true;
    }

    // Cholesky's method, without square roots.
    bool interior() {
        const double l10 = q_.xy / q_.xx, l20 = q_.xz / q_.xx;
        const double d1 = q_.yy - l10 * q_.xy;
        const double m21 = q_.yz - l10 * q_.xz;
        const double l21 = m21 / d1;
        const double d2 = q_.zz - l20 * q_.xz - l21 * m21;
        if (!(q_.xx > 0 && d1 > 0 && d2 > 0)) return false;
        const double y1 = q_.b.y - l10 * q_.b.x;
        const double y2 = q_.b.z - l20 * q_.b.x - l21 * y1;
        Vec3d p;
        p.z = y2 / d2;
        p.y = y1 / d1 - l21 * p.z;
        p.x = q_.b.x / q_.xx - l10 * p.y - l20 * p.z;
        if (!(within(0, p.x) && within(1, p.y) && within(2, p.z))) return false;
        best_ = p;
        return true;
    }

    bool faces() {
        for (int axis = 0; axis < 3; ++axis) {
            const int u = (axis + 1) % 3, v = (axis + 2) % 3;
            const double determinant = a_[u][u] * a_[v][v] - a_[u][v] * a_[u][v];
            if (!(determinant > 0)) continue;
            for (int side = -1; side <= 1; side += 2) {
                Vec3d p;
                p[axis] = side < 0 ? 0 : size_[axis];
                const double bu = q_.b[u] - a_[u][axis] * p[axis], bv = q_.b[v] - a_[v][axis] * p[axis];
                p[u] = (bu * a_[v][v] - bv * a_[u][v]) / determinant;
                p[v] = (bv * a_[u][u] - bu * a_[u][v]) / determinant;
                int fixed[3] = {0, 0, 0};
                fixed[axis] = side;
                if (within(u, p[u]) && within(v, p[v]) && offer(p, fixed)) return true;
            }
        }
        return false;
    }

    bool edges() {
        for (int axis = 0; axis < 3; ++axis) {
            if (!(a_[axis][axis] > 0)) continue;
            const int u = (axis + 1) % 3, v = (axis + 2) % 3;
            for (int sides = 0; sides < 4; ++sides) {
                int fixed[3] = {0, 0, 0};
                fixed[u] = sides & 1 ? 1 : -1;
                fixed[v] = sides & 2 ? 1 : -1;
                Vec3d p;
                p[u] = fixed[u] < 0 ? 0 : size_[u];
                p[v] = fixed[v] < 0 ? 0 : size_[v];
                p[axis] = (q_.b[axis] - a_[axis][u] * p[u] - a_[axis][v] * p[v]) / a_[axis][axis];
                if (within(axis, p[axis]) && offer(p, fixed)) return true;
            }
        }
        return false;
    }

    void corners() {
        for (int sides = 0; sides < 8; ++sides) {
            int fixed[3];
            Vec3d p;
            for (int axis = 0; axis < 3; ++axis) {
                fixed[axis] = sides >> axis & 1 ? 1 : -1;
                p[axis] = fixed[axis] < 0 ? 0 : size_[axis];
            }
            if (offer(p, fixed)) return;
        }
    }

    const double a_[3][3];
    const Quadric& q_;
    const Vec3d& size_;
    double least_ = std::numeric_limits<double>::infinity();
    Vec3d best_{0, 0, 0};
};

}  // namespace

Vec3d minimum_in_box(const Quadric& q, const Vec3d& size) { return Search(q, size).run(); }

}  // namespace tk::voxel
