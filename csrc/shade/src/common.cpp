#include "trellis_shade.h"

#include "trellis/error.hpp"

TK_DEFINE_COMMON(shade)
