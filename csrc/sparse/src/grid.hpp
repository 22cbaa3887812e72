// The size of a voxel grid and which coordinates lie in it, for host and device.
#pragma once

#include <cstdint>

#include "trellis/error.hpp"
#include "trellis/vec.hpp"

namespace tk::sparse {

// 16 bits a component, as in trellis/coord_map.hpp, and one value to spare for "no voxel".
constexpr int max_grid = 65535;

struct Grid {
    int batch, width, height, depth;

    TK_BOTH bool holds(int b, int x, int y, int z) const {
        // A negative component is a huge unsigned one.
        return static_cast<unsigned>(b) < static_cast<unsigned>(batch) &&
               static_cast<unsigned>(x) < static_cast<unsigned>(width) &&
               static_cast<unsigned>(y) < static_cast<unsigned>(height) &&
               static_cast<unsigned>(z) < static_cast<unsigned>(depth);
    }
};

inline Grid checked_grid(int batch, int width, int height, int depth) {
    const int sizes[] = {batch, width, height, depth};
    const char* names[] = {"batch", "width", "height", "depth"};
    for (int i = 0; i < 4; ++i)
        require(sizes[i] >= 1 && sizes[i] <= max_grid, format("%s: expected in [1, %d], got %d", names[i], max_grid, sizes[i]));
    return {batch, width, height, depth};
}

// The offsets of a convolution kernel.
struct Kernel {
    int size_x, size_y, size_z, dilation_x, dilation_y, dilation_z;

    TK_BOTH int taps() const { return size_x * size_y * size_z; }
    TK_BOTH Vec3i offset(int tap) const {
        return {(tap / (size_y * size_z) - size_x / 2) * dilation_x, (tap / size_z % size_y - size_y / 2) * dilation_y,
                (tap % size_z - size_z / 2) * dilation_z};
    }
};

inline Kernel checked_kernel(int x, int y, int z, int dilation_x, int dilation_y, int dilation_z) {
    for (int size : {x, y, z}) require(size >= 1 && size <= 63, format("kernel size: expected in [1, 63], got %d", size));
    for (int d : {dilation_x, dilation_y, dilation_z})
        require(d >= 1 && d <= max_grid, format("dilation: expected in [1, %d], got %d", max_grid, d));
    return {x, y, z, dilation_x, dilation_y, dilation_z};
}

}  // namespace tk::sparse
