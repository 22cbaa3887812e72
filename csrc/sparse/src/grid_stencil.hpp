// Which voxels a point of a grid reads and with which weights, for host and device.
#pragma once

#include <cmath>
#include <cstdint>

#include "grid.hpp"

namespace tk::sparse {

struct Stencil {
    int32_t row[8];  // -1 where there is nothing to read
    float weight[8];
};

// The eight voxels whose centres surround the point; find(b, x, y, z) gives the row of a voxel of the grid, or -1.
// Weights are those of trilinear interpolation, divided by their sum over the voxels found.
template <class Find>
TK_BOTH inline void trilinear_stencil(const Grid& grid, int b, const float* point, Find&& find, Stencil& s) {
    for (int corner = 0; corner < 8; ++corner) s.row[corner] = -1;
    const int size[3] = {grid.width, grid.height, grid.depth};
    int low[3];
    float high[3];  // share of the voxel above along each axis
    for (int axis = 0; axis < 3; ++axis) {
        // Half a voxel outside the grid no centre is near any more. A NaN fails this too.
        if (!(point[axis] > -0.5f && point[axis] < static_cast<float>(size[axis]) + 0.5f)) return;
        const float at = point[axis] - 0.5f;
        const float whole = floorf(at);
        low[axis] = static_cast<int>(whole);
        high[axis] = at - whole;
    }
    float sum = 0;
    for (int corner = 0; corner < 8; ++corner) {
        const int dx = corner & 1, dy = corner >> 1 & 1, dz = corner >> 2;
        const float weight = (dx ? high[0] : 1 - high[0]) * (dy ? high[1] : 1 - high[1]) * (dz ? high[2] : 1 - high[2]);
        const int x = low[0] + dx, y = low[1] + dy, z = low[2] + dz;
        if (!(weight > 0) || !grid.holds(b, x, y, z)) continue;
        s.row[corner] = find(b, x, y, z);
        if (s.row[corner] < 0) continue;
        s.weight[corner] = weight;
        sum += weight;
    }
    for (int corner = 0; corner < 8; ++corner)
        if (s.row[corner] >= 0) s.weight[corner] /= sum;
}

// The voxel that contains the point, in s.row[0].
template <class Find>
TK_BOTH inline void nearest_stencil(const Grid& grid, int b, const float* point, Find&& find, Stencil& s) {
    for (int corner = 0; corner < 8; ++corner) s.row[corner] = -1;
    const int size[3] = {grid.width, grid.height, grid.depth};
    for (int axis = 0; axis < 3; ++axis)
        if (!(point[axis] >= 0 && point[axis] < static_cast<float>(size[axis]))) return;
    s.row[0] = find(b, static_cast<int>(point[0]), static_cast<int>(point[1]), static_cast<int>(point[2]));
    s.weight[0] = 1;
}

}  // namespace tk::sparse
