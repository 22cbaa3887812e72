// The integrals behind an environment light, one output texel at a time, on host and device.
//
// Split-sum approximation: B. Karis, Real shading in Unreal Engine 4, SIGGRAPH 2013 course. Radiance is averaged with
// the filtered importance sampling of J. Krivanek, M. Colbert: Real-time shading with filtered importance sampling,
// EGSR 2008: each sample reads the level of the pyramid whose texels are as large as the solid angle it stands for.
#pragma once

#include <cmath>
#include <cstdint>

#include "cube.hpp"
#include "ggx.hpp"

namespace tk::shade {

constexpr double pi = 3.14159265358979323846;

// Output texel i of [6, side, side]: its place.
struct Texel {
    int face;
    int64_t x, y;
    TK_BOTH Texel(int64_t i, int64_t side)
        : face(static_cast<int>(i / (side * side))), x(i % side), y(i / side % side) {}
    TK_BOTH Vec3f direction(int64_t side) const {
        return normalized(on_face(face, texel_centre(x, side), texel_centre(y, side)));
    }
};

struct LatlongToCube {
    const float* latlong;
    int64_t height, width, side;
    int64_t grid;  // samples along each side of a texel
    float* cube;

    TK_BOTH Vec3f look_up(const Vec3f& d) const {
        const float v = acosf(fminf(fmaxf(d.y, -1.0f), 1.0f)) / static_cast<float>(pi);
        const float u = 0.5f + atan2f(d.x, -d.z) / static_cast<float>(2 * pi);
        const float x = u * static_cast<float>(width) - 0.5f, y = v * static_cast<float>(height) - 0.5f;
        const float fx = floorf(x), fy = floorf(y);
        const float ax = x - fx, ay = y - fy;
        Vec3f sum{0, 0, 0};
        for (int k = 0; k < 4; ++k) {
            int64_t i = static_cast<int64_t>(fx) + (k & 1), j = static_cast<int64_t>(fy) + (k >> 1);
            i = i < 0 ? i + width : i >= width ? i - width : i;
            j = j < 0 ? 0 : j >= height ? height - 1 : j;
            const float* t = latlong + (j * width + i) * 3;
            sum += Vec3f{t[0], t[1], t[2]} * (((k & 1) ? ax : 1 - ax) * ((k >> 1) ? ay : 1 - ay));
        }
        return sum;
    }
    TK_BOTH void operator()(int64_t i) const {
        const Texel texel(i, side);
        Vec3d sum{0, 0, 0};
        double total = 0;
        for (int64_t v = 0; v < grid; ++v)
            for (int64_t u = 0; u < grid; ++u) {
                const float a = texel_centre(texel.x * grid + u, side * grid), b = texel_centre(texel.y * grid + v, side * grid);
                const Vec3f d = on_face(texel.face, a, b);
                const double r2 = static_cast<double>(dot(d, d)), weight = 1 / (r2 * sqrt(r2));  // solid angle
                sum += Vec3d(look_up(normalized(d))) * weight;
                total += weight;
            }
        for (int c = 0; c < 3; ++c) cube[i * 3 + c] = static_cast<float>(sum[c] / total);
    }
};

struct HalveCube {
    Cube cube;
    float* half;

    TK_BOTH void operator()(int64_t i) const {
        const Texel texel(i, cube.side / 2);
        Vec3d sum{0, 0, 0};
        double total = 0;
        for (int k = 0; k < 4; ++k) {
            const int64_t x = texel.x * 2 + (k & 1), y = texel.y * 2 + (k >> 1);
            const double weight = texel_angle(x, y, cube.side);
            sum += Vec3d(cube.at(texel.face, x, y)) * weight;
            total += weight;
        }
        for (int c = 0; c < 3; ++c) half[i * 3 + c] = static_cast<float>(sum[c] / total);
    }
};

// Sample i of the lobe, on Hammersley's points.
struct Lobe {
    double roughness;
    int64_t samples, side;
    float* lobe;

    TK_BOTH void operator()(int64_t i) const {
        const double alpha = roughness * roughness;
        const double u = (static_cast<double>(i) + 0.5) / static_cast<double>(samples);
        const double phi = 2 * pi * radical_inverse(static_cast<uint32_t>(i));
        const double c = sample_cosine(u, alpha), cosine = 2 * c * c - 1;  // of half vector, of light
        const double sine = sqrt(fmax(1 - cosine * cosine, 0.0));
        // Viewed along the normal, the density of light directions is distribution / 4.
        const double angle = 4 / (static_cast<double>(samples) * distribution(c, alpha));
        const double texel = 4 * pi / (6.0 * static_cast<double>(side * side));
        float* out = lobe + i * 5;
        out[0] = static_cast<float>(sine * cos(phi));
        out[1] = static_cast<float>(sine * sin(phi));
        out[2] = static_cast<float>(cosine);
        out[3] = static_cast<float>(0.5 * log2(angle / texel));
        out[4] = cosine > 0 ? static_cast<float>(cosine) : 0;
    }
};

struct Prefilter {
    Pyramid pyramid;
    const float* lobe;
    int64_t samples, side;
    float* out;

    TK_BOTH void operator()(int64_t i) const {
        const Vec3f n = Texel(i, side).direction(side);
        const Vec3f helper = fabsf(n.y) < 0.9f ? Vec3f{0, 1, 0} : Vec3f{1, 0, 0};
        const Vec3f tangent = normalized(cross(helper, n)), bitangent = cross(n, tangent);
        Vec3d sum{0, 0, 0};
        double total = 0;
        for (int64_t s = 0; s < samples; ++s) {
            const float* l = lobe + s * 5;
            if (l[4] == 0) continue;
            sum += Vec3d(pyramid.sample(tangent * l[0] + bitangent * l[1] + n * l[2], l[3]) * l[4]);
            total += static_cast<double>(l[4]);
        }
        for (int k = 0; k < 3; ++k) out[i * 3 + k] = static_cast<float>(sum[k] / total);
    }
};

struct Irradiance {
    Cube cube;
    int64_t side;
    float* out;

    TK_BOTH void operator()(int64_t i) const {
        const Vec3f n = Texel(i, side).direction(side);
        Vec3d sum{0, 0, 0};
        double total = 0;
        for (int face = 0; face < 6; ++face)
            for (int64_t y = 0; y < cube.side; ++y)
                for (int64_t x = 0; x < cube.side; ++x) {
                    const Vec3f d = on_face(face, texel_centre(x, cube.side), texel_centre(y, cube.side));
                    const float cosine = dot(n, d);  // times the length of d
                    if (cosine <= 0) continue;
                    // Solid angle of a small texel is its area over length^3; another length makes the cosine.
                    const float r2 = dot(d, d), weight = cosine / (r2 * r2);
                    const Vec3f t = cube.at(face, x, y);
                    sum += Vec3d{static_cast<double>(t.x) * weight, static_cast<double>(t.y) * weight,
                                 static_cast<double>(t.z) * weight};
                    total += weight;
                }
        for (int c = 0; c < 3; ++c) out[i * 3 + c] = static_cast<float>(sum[c] / total);
    }
};

struct BrdfTable {
    int64_t side;
    float* table;

    TK_BOTH void operator()(int64_t i) const {
        constexpr int cosines = 64, angles = 32;
        const double roughness = static_cast<double>(i / side) / static_cast<double>(side - 1);
        const double view = fmax(static_cast<double>(i % side) / static_cast<double>(side - 1), 1e-3);
        const double alpha = roughness * roughness, sine = sqrt(1 - view * view);
        constexpr double total = angles * (cosines - 0.25 / cosines);  // what 3 rest^2 adds up to
        double scale = 0, bias = 0;
        for (int s = 0; s < cosines; ++s) {
            // Facets that stand upright matter most at grazing angles and are the rarest: u = 1 - (1 - x)^3 finds them.
            const double rest = 1 - (s + 0.5) / cosines, weight = 3 * rest * rest / total;
            const double h = sample_cosine(1 - rest * rest * rest, alpha), hs = sqrt(1 - h * h);
            for (int t = 0; t < angles; ++t) {
                // Left and right are alike, so half a turn is enough.
                const double hx = hs * cos(pi * (t + 0.5) / angles);
                const double vh = fmax(sine * hx + view * h, 0.0), light = 2 * vh * h - view;
                if (light <= 0) continue;
                const double visible = masking_shadowing(view, light, alpha) * vh / (h * view) * weight;
                const double m = 1 - vh, fresnel = m * m * m * m * m;
                scale += (1 - fresnel) * visible;
                bias += fresnel * visible;
            }
        }
        table[i * 2] = static_cast<float>(scale);
        table[i * 2 + 1] = static_cast<float>(bias);
    }
};

}  // namespace tk::shade
