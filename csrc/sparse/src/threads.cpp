#include "trellis_sparse.h"

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"

TK_API int tk_sparse_set_num_threads(int threads) {
    return tk::guarded([&] {
        tk::require(threads >= 0, tk::format("threads: expected 0 or more, got %d", threads));
        tk::set_num_threads(threads);
    });
}
