#include "trellis_sparse.h"

#include "trellis/error.hpp"

TK_DEFINE_COMMON(sparse)
