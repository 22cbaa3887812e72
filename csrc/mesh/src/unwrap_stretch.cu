// Compiled without fused multiply-add, for the bits of the CPU: a face with a vertex twice has no area at all.
#include "trellis/cuda.cuh"
#include "trellis_mesh.h"
#include "unwrap_stretch.hpp"

namespace {

__global__ void stretch_kernel(const float* vertices, const int32_t* faces, const float* uv, int64_t num_faces, float* out) {
    TK_GRID_STRIDE(f, num_faces) {
        const int64_t a = faces[3 * f], b = faces[3 * f + 1], c = faces[3 * f + 2];
        const tk::uv::FaceStretch r = tk::uv::face_stretch(vertices + 3 * a, vertices + 3 * b, vertices + 3 * c, uv + 2 * a, uv + 2 * b, uv + 2 * c);
        out[4 * f] = static_cast<float>(r.largest);
        out[4 * f + 1] = static_cast<float>(r.smallest);
        out[4 * f + 2] = static_cast<float>(r.surface_area);
        out[4 * f + 3] = static_cast<float>(r.texture_area);
    }
}

}  // namespace

TK_API int tk_mesh_uv_stretch(const float* vertices, const int32_t* faces, const float* uv, int64_t num_faces, float* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        if (num_faces == 0) return;
        constexpr int block = 256;
        stretch_kernel<<<tk::grid_size(num_faces, block), block, 0, static_cast<cudaStream_t>(stream)>>>(vertices, faces, uv, num_faces, out);
    });
}
