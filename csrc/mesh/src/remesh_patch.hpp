// What the surface between inside and outside corners looks like in a brick, for host and device.
#pragma once

#include "remesh_grid.hpp"

namespace tk::mesh {

constexpr int patch_side = brick_side + 2;  // a brick's corners and their neighbours on both sides

// The corners of a brick with one layer around it: [z][y][x].
struct PatchCorners {
    uint8_t inside[patch_side][patch_side][patch_side];
    float value[patch_side][patch_side][patch_side];

    // Signs of the cell whose lowest corner has these coordinates in the patch.
    TK_BOTH int mask(int x, int y, int z) const {
        int m = 0;
        for (int c = 0; c < 8; ++c) m |= inside[z + (c >> 2)][y + (c >> 1 & 1)][x + (c & 1)] << c;
        return m;
    }
};

// A point in corners from the start of the patch of brick (x, y, z), in space.
TK_BOTH inline Vec3d patch_position(const Frame& frame, int x, int y, int z, const Vec3d& p) {
    // Not p.x + ..., which the device would fuse with the product that p comes from.
    const auto moved = [](double at, int brick) { return plus(at, static_cast<double>(brick * brick_side - 1)); };
    return frame.position(moved(p.x, x), moved(p.y, y), moved(p.z, z));
}

// The k-th of the cells around the edge from patch corner (x, y, z) along `axis`: (0, 0), (-1, 0), (-1, -1), (0, -1) on the
// next two axes, counter-clockwise from the far end. Sets its lowest corner, counted from the brick before the patch's
// own, and returns the number of the edge in the cell.
TK_BOTH inline int cell_around(int x, int y, int z, int axis, int k, int (&at)[3]) {
    const int su = k == 1 || k == 2, sv = k >= 2;
    at[0] = x + brick_side - 1, at[1] = y + brick_side - 1, at[2] = z + brick_side - 1;
    at[(axis + 1) % 3] -= su;
    at[(axis + 2) % 3] -= sv;
    return axis * 4 + su + 2 * sv;
}

// Where along an edge from an inside corner to an outside one the surface crosses it.
TK_BOTH inline double crossing(float inside, float outside) {
    const double t = static_cast<double>(inside) / (static_cast<double>(inside) - static_cast<double>(outside));
    return t < 1e-3 ? 1e-3 : t > 1 - 1e-3 ? 1 - 1e-3 : t;
}

// The crossing of the edge from patch corner (x, y, z) along `axis`, in corners from the start of the patch.
TK_BOTH inline Vec3d crossing_point(const PatchCorners& patch, int x, int y, int z, int axis) {
    const int far[3] = {x + (axis == 0), y + (axis == 1), z + (axis == 2)};
    const float near_value = patch.value[z][y][x], far_value = patch.value[far[2]][far[1]][far[0]];
    const bool inward = patch.inside[z][y][x];
    Vec3d point{static_cast<double>(x), static_cast<double>(y), static_cast<double>(z)};
    point[axis] += inward ? crossing(near_value, far_value) : 1 - crossing(far_value, near_value);
    return point;
}

// A side of a quad that lies on a face of the grid where two pieces of surface join the same two vertices. One of
// the two joints gets a vertex of its own, so that no edge of the new mesh has four faces.
struct Joint {
    uint64_t face;  // number of the grid's face: that of its lowest corner, and its axis
    int64_t side;   // quad * 4 + k
    Vec3d point;
};

// Joint of the quad around the edge from patch corner (x, y, z) along `axis`, between its cells k and k + 1, whose loops
// pass twice through the grid faces that `first` and `second` tell. False where the side needs no vertex.
TK_BOTH inline bool find_joint(const PatchCorners& patch, const Frame& frame, const int (&brick)[3], const int (&start)[3], int axis,
                              int k, uint8_t first, uint8_t second, Joint& joint) {
    // The face between the two cells lies across the next axis but one for odd k; the first cell is above it for
    // k < 2. On the third axis it spans the corners above the edge, or for k = 1 and 2 those below.
    const int u = (axis + 1) % 3, v = (axis + 2) % 3;
    const int across = k % 2 == 0 ? u : v, other = k % 2 == 0 ? v : u;
    const int first_side = k < 2 ? 0 : 1;
    if (!(first >> (across * 2 + first_side) & 1) || !(second >> (across * 2 + 1 - first_side) & 1)) return false;
    const bool below = k == 1 || k == 2;
    int lowest[3] = {start[0], start[1], start[2]}, outside[3] = {start[0], start[1], start[2]};
    if (below) --lowest[other];
    if (patch.inside[start[2]][start[1]][start[0]]) ++outside[axis];
    // Each piece cuts off one of the face's two outside corners; the one of the corner lower on this axis is chosen.
    const int chosen = (across + 2) % 3;
    if (outside[chosen] != lowest[chosen]) return false;
    Vec3d point = crossing_point(patch, start[0], start[1], start[2], axis);
    if (below) --outside[other];
    point += crossing_point(patch, outside[0], outside[1], outside[2], other);
    const uint64_t n = static_cast<uint64_t>(frame.bricks) * brick_side;
    const uint64_t x = brick[0] + lowest[0], y = brick[1] + lowest[1], z = brick[2] + lowest[2];
    joint.face = ((z * n + y) * n + x) * 3 + across;
    joint.point = patch_position(frame, brick[0] / brick_side, brick[1] / brick_side, brick[2] / brick_side, point * 0.5);
    return true;
}

}  // namespace tk::mesh
