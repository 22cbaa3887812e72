#include "trellis_raster.h"

#include "trellis/error.hpp"

TK_DEFINE_COMMON(raster)
