#include "environment.hpp"

#include "trellis/parallel.hpp"
#include "trellis_shade.h"

namespace {
const auto on_cpu = [](int64_t n, int64_t grain, const auto& body) { tk::parallel_for(n, grain, body); };
}

TK_API int tk_shade_latlong_to_cube(const float* latlong, int64_t height, int64_t width, int64_t side, float* cube,
                                    int, void*) {
    return tk::guarded([&] { tk::shade::latlong_to_cube(on_cpu, latlong, height, width, side, cube); });
}

TK_API int tk_shade_halve_cube(const float* cube, int64_t side, float* half, int, void*) {
    return tk::guarded([&] { tk::shade::halve_cube(on_cpu, cube, side, half); });
}

TK_API int tk_shade_lobe(float roughness, int64_t samples, int64_t side, float* lobe, int, void*) {
    return tk::guarded([&] { tk::shade::lobe(on_cpu, roughness, samples, side, lobe); });
}

TK_API int tk_shade_prefilter(const float* pyramid, int64_t side, int levels, const float* lobe, int64_t samples,
                              int64_t out_side, float* out, int, void*) {
    return tk::guarded([&] { tk::shade::prefilter(on_cpu, pyramid, side, levels, lobe, samples, out_side, out); });
}

TK_API int tk_shade_irradiance(const float* cube, int64_t side, int64_t out_side, float* out, int, void*) {
    return tk::guarded([&] { tk::shade::irradiance(on_cpu, cube, side, out_side, out); });
}

TK_API int tk_shade_brdf_table(int64_t side, float* table, int, void*) {
    return tk::guarded([&] { tk::shade::brdf_table(on_cpu, side, table); });
}

TK_API int tk_shade_sample_cube(const float* pyramid, int64_t side, int levels, const float* directions,
                                const float* level, int64_t n, float* out, int, void*) {
    return tk::guarded([&] { on_cpu(n, 1 << 12, tk::shade::SampleCube{{pyramid, side, levels}, directions, level, out}); });
}

TK_API int tk_shade_shade(const float* specular, int64_t specular_side, int specular_levels, const float* diffuse,
                          int64_t diffuse_side, const float* table, int64_t table_side, const float* to_light,
                          const float* position, const float* normal, const float* base_color,
                          const float* metallic, const float* roughness, const float* view, int view_is_shared,
                          int64_t n, float* out, int, void*) {
    return tk::guarded([&] {
        tk::shade::Shade body{{specular, specular_side, specular_levels}, {diffuse, diffuse_side}, table, table_side, {},
                              position, normal, base_color, metallic, roughness, view, view_is_shared ? 0 : 3, out};
        for (int i = 0; i < 9; ++i) body.to_light[i] = to_light[i];
        on_cpu(n, 1 << 12, body);
    });
}
