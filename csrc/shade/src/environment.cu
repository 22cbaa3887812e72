// CUDA kernels: the same code for each output as on the CPU, one thread an output.
#include "environment.hpp"

#include "trellis/cuda.cuh"
#include "trellis_shade.h"

namespace {

template <class Body>
__global__ void for_each(Body body, int64_t n) {
    TK_GRID_STRIDE(i, n) { body(i); }
}

struct OnCuda {
    void* stream;

    template <class Body>
    void operator()(int64_t n, int64_t, const Body& body) const {
        constexpr int block = 128;
        if (n > 0) for_each<<<tk::grid_size(n, block), block, 0, static_cast<cudaStream_t>(stream)>>>(body, n);
    }
};

}  // namespace

TK_API int tk_shade_latlong_to_cube(const float* latlong, int64_t height, int64_t width, int64_t side, float* cube,
                                    int device, void* stream) {
    return tk::guarded_on(device,
                          [&] { tk::shade::latlong_to_cube(OnCuda{stream}, latlong, height, width, side, cube); });
}

TK_API int tk_shade_halve_cube(const float* cube, int64_t side, float* half, int device, void* stream) {
    return tk::guarded_on(device, [&] { tk::shade::halve_cube(OnCuda{stream}, cube, side, half); });
}

TK_API int tk_shade_lobe(float roughness, int64_t samples, int64_t side, float* lobe, int device, void* stream) {
    return tk::guarded_on(device, [&] { tk::shade::lobe(OnCuda{stream}, roughness, samples, side, lobe); });
}

TK_API int tk_shade_prefilter(const float* pyramid, int64_t side, int levels, const float* lobe, int64_t samples,
                              int64_t out_side, float* out, int device, void* stream) {
    return tk::guarded_on(device, [&] { tk::shade::prefilter(OnCuda{stream}, pyramid, side, levels, lobe, samples, out_side, out); });
}

TK_API int tk_shade_irradiance(const float* cube, int64_t side, int64_t out_side, float* out, int device,
                               void* stream) {
    return tk::guarded_on(device, [&] { tk::shade::irradiance(OnCuda{stream}, cube, side, out_side, out); });
}

TK_API int tk_shade_brdf_table(int64_t side, float* table, int device, void* stream) {
    return tk::guarded_on(device, [&] { tk::shade::brdf_table(OnCuda{stream}, side, table); });
}

TK_API int tk_shade_sample_cube(const float* pyramid, int64_t side, int levels, const float* directions,
                                const float* level, int64_t n, float* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        OnCuda{stream}(n, 1, tk::shade::SampleCube{{pyramid, side, levels}, directions, level, out});
    });
}

TK_API int tk_shade_shade(const float* specular, int64_t specular_side, int specular_levels, const float* diffuse,
                          int64_t diffuse_side, const float* table, int64_t table_side, const float* to_light,
                          const float* position, const float* normal, const float* base_color,
                          const float* metallic, const float* roughness, const float* view, int view_is_shared,
                          int64_t n, float* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        tk::shade::Shade body{{specular, specular_side, specular_levels}, {diffuse, diffuse_side}, table, table_side, {},
                              position, normal, base_color, metallic, roughness, view, view_is_shared ? 0 : 3, out};
        for (int i = 0; i < 9; ++i) body.to_light[i] = to_light[i];
        OnCuda{stream}(n, 1, body);
    });
}
