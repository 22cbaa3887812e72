// Judges a texture layout, whoever made it.
#pragma once

#include <cstdint>

namespace tk::uv {

// Depth in texture units below which an overlap or a turned face is rounding: 2^-22, a thousandth of a texel
// at 4096.
constexpr double measure_tolerance = 1.0 / (1 << 22);

// See tk_mesh_measure_uv in the header.
void measure(const float* vertices, const int32_t* faces, const float* uv, int64_t num_vertices, int64_t num_faces, int resolution,
             double small_chart_texels, double* out, int32_t* face_chart, uint8_t* face_fault);

}  // namespace tk::uv
