// The exported functions on environments, once for both devices: the caller brings `run(n, grain, body)`, which calls
// body(i) for each i in [0, n), and the CPU's version keeps about `grain` of them together.
#pragma once

#include "prefilter.hpp"
#include "shading.hpp"
#include "trellis/error.hpp"

namespace tk::shade {

template <class Run>
void latlong_to_cube(Run&& run, const float* latlong, int64_t height, int64_t width, int64_t side, float* cube) {
    // As dense as the image at its equator, and a little more.
    const int64_t across = (width + 4 * side - 1) / (4 * side), down = (height + 2 * side - 1) / (2 * side);
    const int64_t grid = 1 + (across > down ? across : down);
    run(6 * side * side, 64, LatlongToCube{latlong, height, width, side, grid, cube});
}

template <class Run>
void halve_cube(Run&& run, const float* cube, int64_t side, float* half) {
    require(side >= 2 && side % 2 == 0, format("side: expected an even number, got %lld", (long long)side));
    run(6 * (side / 2) * (side / 2), 256, HalveCube{{cube, side}, half});
}

template <class Run>
void lobe(Run&& run, float roughness, int64_t samples, int64_t side, float* table) {
    require(roughness > 0 && roughness <= 1, format("roughness: expected a number in (0, 1], got %g", roughness));
    run(samples, 256, Lobe{roughness, samples, side, table});
}

template <class Run>
void prefilter(Run&& run, const float* pyramid, int64_t side, int levels, const float* table, int64_t samples,
               int64_t out_side, float* out) {
    run(6 * out_side * out_side, 16, Prefilter{{pyramid, side, levels}, table, samples, out_side, out});
}

template <class Run>
void irradiance(Run&& run, const float* cube, int64_t side, int64_t out_side, float* out) {
    run(6 * out_side * out_side, 8, Irradiance{{cube, side}, out_side, out});
}

template <class Run>
void brdf_table(Run&& run, int64_t side, float* table) {
    require(side >= 2, format("side: expected at least 2, got %lld", (long long)side));
    run(side * side, 16, BrdfTable{side, table});
}

}  // namespace tk::shade
