// The surface as unwrap_surface.hpp describes it, in flat arrays: frames of faces, glued half-edges, smooth normals.
#pragma once

#include "unwrap_flat.hpp"
#include "unwrap_surface.hpp"

namespace tk::uv::flat {

// Normal, area and kind of each face, with the limits that classify_faces of unwrap_surface.cpp has.
struct MeasureFace {
    const double* position;
    const int32_t* point;
    double *normal, *area;
    uint8_t* kind;
    TK_BOTH void operator()(int64_t f) const {
        constexpr double thin_absolute = 1.0 / (1 << 21), thin_relative = 1e-5;
        const int32_t a = point[3 * f], b = point[3 * f + 1], c = point[3 * f + 2];
        if (a == b || b == c || c == a) {
            kind[f] = collapsed;
            area[f] = 0;
            write3(normal, f, {0, 0, 0});
            return;
        }
        const Vec3d p = read3(position, a), q = read3(position, b), r = read3(position, c), n = cross(q - p, r - p);
        const double twice = length(n), longest = sqrt(fmax(dot(q - p, q - p), fmax(dot(r - q, r - q), dot(p - r, p - r))));
        area[f] = 0.5 * twice;
        write3(normal, f, normalized(n));
        const double height = longest > 0 ? twice / longest : 0;
        kind[f] = height > fmax(thin_absolute, thin_relative * longest) ? regular : thin;
    }
};

// As glue_run of unwrap_surface.cpp: the flattest pairs first, where more than two faces meet. One item for each
// place of the sorted list; those that start a run do its work.
struct Glue {
    const int64_t* key;   // sorted
    const int32_t* half;  // half-edge of each place
    const int32_t* point;
    const double* normal;
    int64_t count;
    int32_t* twin;
    TK_BOTH bool forward(int32_t h) const { return point[h] < point[next_corner(h)]; }
    TK_BOTH void operator()(int64_t i) const {
        constexpr int64_t crowded = 16;
        if (key[i] == nothing || (i > 0 && key[i - 1] == key[i])) return;
        int64_t end = i + 1;
        while (end < count && key[end] == key[i] && end - i <= crowded) ++end;
        const int n = static_cast<int>(end - i);
        if (n < 2 || n > crowded) return;
        uint32_t taken = 0;
        for (;;) {
            double best = -2;
            int best_j = -1, best_k = -1;
            for (int j = 0; j < n; ++j) {
                const int32_t h = half[i + j];
                if ((taken >> j & 1) || !forward(h)) continue;
                for (int k = 0; k < n; ++k) {
                    const int32_t g = half[i + k];
                    if ((taken >> k & 1) || forward(g)) continue;
                    const double flat = dot(read3(normal, h / 3), read3(normal, g / 3));
                    if (flat > best) {
                        best = flat;
                        best_j = j;
                        best_k = k;
                    }
                }
            }
            if (best_j < 0) return;
            taken |= (1u << best_j) | (1u << best_k);
            twin[half[i + best_j]] = half[i + best_k];
            twin[half[i + best_k]] = half[i + best_j];
        }
    }
};

// One step of averaging normals over neighbours that face a similar way: noise goes, creases stay.
struct SmoothNormal {
    const double *now, *area;
    const int32_t* twin;
    double* then;
    TK_BOTH void operator()(int64_t f) const {
        const Vec3d own = read3(now, f);
        Vec3d sum = own * area[f];
        for (int64_t h = 3 * f; h < 3 * f + 3; ++h) {
            if (twin[h] < 0) continue;
            const int64_t g = twin[h] / 3;
            const Vec3d other = read3(now, g);
            const double alike = fmax(0.0, dot(own, other));
            sum += other * (area[g] * alike * alike);
        }
        write3(then, f, normalized(sum));
    }
};

// Faces of one label that are glued hang together.
struct UniteFaces {
    const int32_t *twin, *label;
    int32_t* parent;
    TK_BOTH void operator()(int64_t h) const {
        const int32_t t = twin[h];
        if (t > h && label[t / 3] == label[h / 3]) unite(parent, static_cast<int32_t>(h / 3), t / 3);
    }
};

// Corners around a point are one vertex of a chart where glued edges of that chart connect their faces. With `uv`
// (of corners) only edges that lie in one place count.
struct UniteCorners {
    const int32_t *twin, *label;
    const double* uv;
    int32_t* parent;
    TK_BOTH void operator()(int64_t h) const {
        const int32_t t = twin[h];
        if (t <= h || label[t / 3] != label[h / 3]) return;
        const int64_t h2 = next_corner(h), t2 = next_corner(t);
        if (uv && !(uv[2 * h] == uv[2 * t2] && uv[2 * h + 1] == uv[2 * t2 + 1] && uv[2 * h2] == uv[2 * t] && uv[2 * h2 + 1] == uv[2 * t + 1])) return;
        unite(parent, static_cast<int32_t>(h), static_cast<int32_t>(t2));
        unite(parent, static_cast<int32_t>(h2), t);
    }
};

}  // namespace tk::uv::flat
