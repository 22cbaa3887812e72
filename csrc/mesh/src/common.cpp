#include "trellis_mesh.h"

#include "trellis/error.hpp"

TK_DEFINE_COMMON(mesh)
