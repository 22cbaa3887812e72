// The flat path of UV unwrapping on the thread pool.
#include "unwrap_flat_calls.hpp"
