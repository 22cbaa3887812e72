// Smooth filling of gaps: averages are pulled up a pyramid, then pushed down into what is empty.
#include "pull_push.hpp"

#include <algorithm>
#include <cstring>
#include <memory>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis_raster.h"

using namespace tk::raster;

TK_API int tk_raster_pull_push_scratch(int64_t, int64_t, int64_t, int64_t* bytes, int, void*) {
    return tk::guarded([&] { *bytes = 0; });
}

TK_API int tk_raster_pull_push(const float* image, const uint8_t* mask, int64_t height, int64_t width,
                               int64_t channels, void*, float* out, int, void*) {
    return tk::guarded([&] {
        std::memcpy(out, image, sizeof(float) * height * width * channels);
        if (!std::any_of(mask, mask + height * width, [](uint8_t m) { return m != 0; })) return;
        const PullLayout layout(height, width, channels);
        std::unique_ptr<float[]> memory(new float[layout.floats]);
        pull_push([](int64_t n, const auto& body) { tk::parallel_for(n, 1 << 12, body); }, image, mask, height, width,
                  channels, layout, memory.get(), nullptr, out);
    });
}
