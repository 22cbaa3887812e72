#include "trellis_raster.h"

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"

TK_API int tk_raster_set_num_threads(int threads) {
    return tk::guarded([&] {
        tk::require(threads >= 0, tk::format("threads: expected 0 or more, got %d", threads));
        tk::set_num_threads(threads);
    });
}
