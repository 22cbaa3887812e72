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

    // The attributes of a pixel's three corners and their weights.
    struct Corners {
        const float *a, *b, *d;
        float u, v, w;
        TK_BOTH float operator()(int64_t channel) const { return u * a[channel] + v * b[channel] + w * d[channel]; }
    };
    enum Pixel { empty, covered, wrong };  // wrong: it names a face or vertex beyond those there are; it counts as empty

    TK_BOTH bool names_vertex(int64_t i) const { return i >= 0 && i < num_vertices; }
    // Pixel i of the batch, whose rast is (u, v, depth, face).
    TK_BOTH Pixel look(int64_t i, float u, float v, float face, Corners& corners) const {
        const int64_t f = face_of(face, num_faces);
        if (f < 0) return f == -1 ? empty : wrong;
        const int64_t i0 = faces[f * 3], i1 = faces[f * 3 + 1], i2 = faces[f * 3 + 2];
        if (!names_vertex(i0) || !names_vertex(i1) || !names_vertex(i2)) return wrong;
        const float* base = attr_stride == 0 ? attrs : attrs + (i / pixels) * attr_stride;
        corners = {base + i0 * channels, base + i1 * channels, base + i2 * channels, u, v, 1.0f - u - v};
        return covered;
    }
    // Writes pixel i of the batch; false when it is wrong.
    TK_BOTH bool operator()(int64_t i) const {
        const float* r = rast + i * 4;
        float* o = out + i * channels;
        Corners corners{};
        const Pixel pixel = look(i, r[0], r[1], r[3], corners);
        for (int64_t c = 0; c < channels; ++c) o[c] = pixel == covered ? corners(c) : 0;
        return pixel != wrong;
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
