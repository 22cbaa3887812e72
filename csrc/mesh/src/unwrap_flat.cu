// The flat path of UV unwrapping on CUDA.
#include "unwrap_flat_calls.hpp"
