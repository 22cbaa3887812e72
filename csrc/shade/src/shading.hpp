// Shading of one point under an environment light, on host and device.
//
// Split sum (Karis 2013) for light that leaves a facet at once. What bounces between facets first, and what enters a
// dielectric, is added as in C. J. Fdez-Aguera: A multiple-scattering microfacet model for real-time image-based
// lighting, JCGT 8(1), 2019, so that a white surface in a white environment vanishes.
#pragma once

#include <cmath>
#include <cstdint>

#include "cube.hpp"

namespace tk::shade {

struct SampleCube {
    Pyramid pyramid;
    const float* directions;
    const float* level;
    float* out;

    TK_BOTH void operator()(int64_t i) const {
        Vec3f d, value{0, 0, 0};
        if (unit({directions[i * 3], directions[i * 3 + 1], directions[i * 3 + 2]}, &d))
            value = pyramid.sample(d, level == nullptr ? 0 : level[i]);
        for (int c = 0; c < 3; ++c) out[i * 3 + c] = value[c];
    }
};

// What a rough surface of reflectance f0 sends back, as shares of uniform light.
struct Lobes {
    float single, multiple;  // after one bounce on a facet; after more

    TK_BOTH Lobes(float f0, float scale, float bias) {
        const float again = 1 - (scale + bias);  // bounces more than once, were nothing absorbed
        const float mean = f0 + (1 - f0) * (1.0f / 21.0f);  // Schlick's reflectance over the hemisphere
        single = f0 * scale + bias;
        multiple = single * mean / (1 - mean * again) * again;
    }
    TK_BOTH float rest() const { return 1 - single - multiple; }
};

TK_BOTH inline float clamp01(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }

struct Shade {
    Pyramid specular;
    Cube diffuse;
    const float* table;
    int64_t table_side;
    float to_light[9];
    const float* position;
    const float* normal;
    const float* base_color;
    const float* metallic;
    const float* roughness;
    const float* view;
    int64_t view_stride;
    float* out;

    TK_BOTH Vec3f load(const float* p, int64_t i) const { return {p[i * 3], p[i * 3 + 1], p[i * 3 + 2]}; }
    TK_BOTH Vec3f turn(const Vec3f& d) const {
        const float* m = to_light;
        return {m[0] * d.x + m[1] * d.y + m[2] * d.z, m[3] * d.x + m[4] * d.y + m[5] * d.z,
                m[6] * d.x + m[7] * d.y + m[8] * d.z};
    }
    // Scale and bias of F0, bilinear in the table.
    TK_BOTH void albedo_terms(float cosine, float rough, float* scale, float* bias) const {
        const float top = static_cast<float>(table_side - 1), x = cosine * top, y = rough * top;
        int64_t i = static_cast<int64_t>(x), j = static_cast<int64_t>(y);
        i = i > table_side - 2 ? table_side - 2 : i;
        j = j > table_side - 2 ? table_side - 2 : j;
        const float ax = x - static_cast<float>(i), ay = y - static_cast<float>(j);
        const float* t = table + (j * table_side + i) * 2;
        const float* u = t + table_side * 2;
        *scale = (t[0] * (1 - ax) + t[2] * ax) * (1 - ay) + (u[0] * (1 - ax) + u[2] * ax) * ay;
        *bias = (t[1] * (1 - ax) + t[3] * ax) * (1 - ay) + (u[1] * (1 - ax) + u[3] * ax) * ay;
    }

    TK_BOTH void operator()(int64_t i) const {
        Vec3f n, v;
        const float* eye = view + i * view_stride;
        const Vec3f p = load(position, i);
        if (!unit(load(normal, i), &n) || !unit(Vec3f{eye[0] - p.x, eye[1] - p.y, eye[2] - p.z}, &v)) {
            for (int c = 0; c < 3; ++c) out[i * 3 + c] = 0;
            return;
        }
        const float nv = dot(n, v), rough = clamp01(roughness[i]), metal = clamp01(metallic[i]);
        // An interpolated normal may turn away from the viewer at a silhouette.
        const float cosine = nv > 0 ? (nv < 1 ? nv : 1) : 0;
        const Vec3f reflected = n * (2 * nv) - v;
        const Vec3f mirrored = specular.sample(turn(reflected), rough * static_cast<float>(specular.levels - 1));
        const Vec3f scattered = diffuse.sample(turn(n));
        float scale, bias;
        albedo_terms(cosine, rough, &scale, &bias);
        // The material is a mix of a dielectric of refractive index 1.5 over a base, and of a metal (glTF 2.0, B.2).
        const Lobes dielectric(0.04f, scale, bias);
        for (int c = 0; c < 3; ++c) {
            const float base = base_color[i * 3 + c];
            const Lobes conductor(base, scale, bias);
            const float plastic = dielectric.single * mirrored[c] +
                                  (dielectric.multiple + base * dielectric.rest()) * scattered[c];
            const float metallic_part = conductor.single * mirrored[c] + conductor.multiple * scattered[c];
            out[i * 3 + c] = plastic * (1 - metal) + metallic_part * metal;
        }
    }
};

}  // namespace tk::shade
