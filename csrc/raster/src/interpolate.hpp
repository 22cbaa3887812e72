// Vertex attributes at one pixel, on host and device.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::raster {

// The face that a rast's fourth channel names: -1 for an empty pixel, -2 for what no rast of this mesh can hold.
TK_BOTH inline int64_t face_of(float channel, int64_t num_faces) {
    if (channel == 0) return -1;
    if (!(channel >= 1 && channel <= static_cast<float>(num_faces))) return -2;
    return static_cast<int64_t>(channel) - 1;
}

struct Interpolate {
    const float* attrs;
    const float* rast;
    const int32_t* faces;
    int64_t pixels, num_vertices, num_faces, channels;
    int64_t attr_stride;  // floats from one image's attributes to the next; 0 when all share them
    float* out;

    TK_BOTH bool names_vertex(int64_t i) const { return i >= 0 && i < num_vertices; }
    // Pixel i of the batch; false when its face is out of range (it then counts as empty).
    TK_BOTH bool operator()(int64_t i) const {
        const float* r = rast + i * 4;
        float* o = out + i * channels;
        const int64_t f = face_of(r[3], num_faces);
        if (f < 0) {
            for (int64_t c = 0; c < channels; ++c) o[c] = 0;
            return f == -1;
        }
        const int64_t i0 = faces[f * 3], i1 = faces[f * 3 + 1], i2 = faces[f * 3 + 2];
        if (!names_vertex(i0) || !names_vertex(i1) || !names_vertex(i2)) {
            for (int64_t c = 0; c < channels; ++c) o[c] = 0;
            return false;
        }
        const float u = r[0], v = r[1], w = 1.0f - u - v;
        const float* base = attr_stride == 0 ? attrs : attrs + (i / pixels) * attr_stride;
        const float* a = base + i0 * channels;
        const float* b = base + i1 * channels;
        const float* d = base + i2 * channels;
        for (int64_t c = 0; c < channels; ++c) o[c] = u * a[c] + v * b[c] + w * d[c];
        return true;
    }
};

// Gradient at one vertex: what its corners, in ascending order, get from the pixels of their faces, in ascending order.
struct InterpolateBackward {
    const float* grad;
    const float* rast;
    const int64_t* pixel_order;
    const int64_t* face_begin;
    const int64_t* corner_order;
    const int64_t* vertex_begin;

    // The sum over one image, for channel c of `channels`; grad, rast and the lists of pixels are that image's.
    TK_BOTH double operator()(int64_t vertex, int64_t c, int64_t channels) const {
        double sum = 0;
        for (int64_t k = vertex_begin[vertex]; k < vertex_begin[vertex + 1]; ++k) {
            const int64_t face = corner_order[k] / 3, corner = corner_order[k] % 3;
            for (int64_t p = face_begin[face]; p < face_begin[face + 1]; ++p) {
                const int64_t pixel = pixel_order[p];
                const float* r = rast + pixel * 4;
                const float weight = corner == 0 ? r[0] : corner == 1 ? r[1] : 1.0f - r[0] - r[1];
                sum += double{weight} * static_cast<double>(grad[pixel * channels + c]);
            }
        }
        return sum;
    }
};

}  // namespace tk::raster
