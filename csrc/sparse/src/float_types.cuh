// The element types of features on CUDA.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "trellis_sparse.h"

namespace tk::sparse {

// Calls `body` with a zero of the type that `dtype` names; it has been checked (norm.hpp, check_dtype).
template <class Body>
void with_float_type(int dtype, Body&& body) {
    if (dtype == TK_SPARSE_F32)
        body(float{});
    else if (dtype == TK_SPARSE_F16)
        body(__half{});
    else
        body(__nv_bfloat16{});
}

}  // namespace tk::sparse
