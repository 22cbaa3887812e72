// Which texel a gap takes, on host and device.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::raster {

// The texel that texel i copies: the one named, or itself when that is none or farther away than limit >= 0.
TK_BOTH inline int64_t source_texel(int64_t i, int64_t named, int64_t texels, int64_t width, double limit) {
    if (named < 0 || named >= texels) return i;
    if (limit >= 0 && named != i) {
        const double dx = static_cast<double>(named % width - i % width);
        const double dy = static_cast<double>(named / width - i / width);
        if (dx * dx + dy * dy > limit * limit) return i;
    }
    return named;
}

}  // namespace tk::raster
