#pragma once

#include "bins.hpp"

namespace tk::raster {

// Rasterises tile number `tile` and writes its part of rast (and reads its part of previous, unless null).
void rasterize_tile(const Scene& scene, const Bins& bins, int64_t tile, const float* previous, float* rast);

}  // namespace tk::raster
