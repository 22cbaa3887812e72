// The attributes of a voxel: a weighted mean, and the samples that stand for a piece of surface in it. For host and
// device.
#pragma once

#include "attributes_polygon.hpp"
#include "attributes_scene.hpp"

namespace tk::voxel {

struct Mean {
    Attributes sum{};
    double weight = 0.0;

    TK_INLINE void add(const Attributes& value, double w) {
        for (int c = 0; c < out_size; ++c) sum[c] += value[c] * static_cast<float>(w);
        weight += w;
    }

    // A piece of surface. It counts by what is seen of it, so that what lies under cut-out texels gives no colour. Pieces
    // of one material come one after the other: alpha is its mean over each, and of those the mean by what is seen, so
    // that a cut-out card through a trunk makes no hole in it and the rim of a leaf stays where it is.
    TK_INLINE void add_piece(const Attributes& value, double w, int64_t material) {
        if (material != material_) close_material();
        material_ = material;
        add(value, w * greater(static_cast<double>(value[out_alpha]), barely_seen));
        seen_ += value[out_alpha] * w;
        area_ += w;
    }

    // The mean as bytes, the normal mapped from [-1, 1] and made of unit length or left as short as the mean of several is.
    // Some weight must have been added.
    TK_BOTH void quantise(uint8_t* bytes, bool unit_normal) {
        Attributes value;
        for (int c = 0; c < out_size; ++c) value[c] = sum[c] / static_cast<float>(weight);
        if (material_ >= 0) {
            close_material();
            value[out_alpha] = all_seen_ > 0.0 ? static_cast<float>(alpha_ / all_seen_) : 0.0f;
        }
        float* n = value.value + out_normal;
        // Opposite sides of a thin sheet may cancel: then the mean has no direction and stays as short as it is.
        const float size = std::sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
        const float scale = unit_normal && size > 1e-3f ? 0.5f / size : 0.5f;
        for (int c = 0; c < 3; ++c) n[c] = n[c] * scale + 0.5f;
        for (int c = 0; c < out_size; ++c) {
            const float x = value[c] > 0.0f ? lesser(value[c], 1.0f) : 0.0f;
            bytes[c] = static_cast<uint8_t>(x * 255.0f + 0.5f);
        }
    }

private:
    static constexpr double barely_seen = 1e-4;  // so that a surface that is hidden everywhere still has its colour

    TK_INLINE void close_material() {
        if (area_ > 0.0) alpha_ += seen_ / area_ * seen_;
        all_seen_ += seen_;
        seen_ = area_ = 0.0;
    }

    int64_t material_ = -1;
    double seen_ = 0.0, area_ = 0.0;       // of the material so far
    double alpha_ = 0.0, all_seen_ = 0.0;  // of those before
};

// A point of a triangle that stands for a part of its surface.
struct Sample {
    double b1, b2;     // the second and the third barycentric weight
    double log2_side;  // of the footprint, in UV units
    double weight;
};

// Calls sample(Sample) for the part of `triangle` that `polygon` is, finely when its footprint is several texels wide.
template <class Visit>
TK_BOTH void for_each_sample(const TexturedTriangle& triangle, const Polygon& polygon, double uv_area, double finest, Visit&& sample) {
    const Moments m = moments(polygon);
    if (!(m.area > 0.0)) return;
    if (!(uv_area * m.area * finest > 4.0)) return sample(Sample{m.b1, m.b2, 0.5 * log2_of(uv_area * m.area), m.area * triangle.area});
    for (int i = 0; i < polygon.size; ++i) {
        const Corner &a = polygon.corner[i], &b = polygon.corner[i + 1 == polygon.size ? 0 : i + 1];
        const double area = std::abs((a.b1 - m.b1) * (b.b2 - m.b2) - (a.b2 - m.b2) * (b.b1 - m.b1));
        if (!(area > 0.0)) continue;
        sample(Sample{(a.b1 + b.b1 + m.b1) / 3.0, (a.b2 + b.b2 + m.b2) / 3.0, 0.5 * log2_of(uv_area * area), area * triangle.area});
    }
}

// Calls piece(voxel, polygon) for the pieces of a triangle in the voxels of [low, high).
template <class Piece>
TK_BOTH void for_each_piece(const TexturedTriangle& triangle, const Vec3i& low, const Vec3i& high, Piece&& piece) {
    Polygon whole, scratch;
    for (int k = 0; k < 3; ++k) whole.add({triangle.position[k], k == 1 ? 1.0 : 0.0, k == 2 ? 1.0 : 0.0});
    for_each_slab(whole, 0, low.x, high.x, scratch, [&](int x, const Polygon& slab) {
        for_each_slab(slab, 1, low.y, high.y, scratch, [&](int y, const Polygon& column) {
            for_each_slab(column, 2, low.z, high.z, scratch, [&](int z, const Polygon& part) { piece(Vec3i{x, y, z}, part); });
        });
    });
}

}  // namespace tk::voxel
