#include "trellis_voxel.h"

#include "trellis/error.hpp"

TK_DEFINE_COMMON(voxel)
