// What the attribute voxeliser reads: triangles in voxel units, and materials evaluated at a point of one. For host and
// device.
#pragma once

#include <cmath>
#include <cstdint>

#include "attributes_texture.hpp"
#include "trellis/vec.hpp"

namespace tk::voxel {

// Offsets of the attributes in a row of outputs: base colour, metallic, roughness, emissive, alpha, normal.
enum { out_base = 0, out_metallic = 3, out_roughness = 4, out_emissive = 5, out_alpha = 8, out_normal = 9, out_size = 12 };
struct Attributes {
    float value[out_size];

    TK_INLINE float& operator[](int i) { return value[i]; }
    TK_INLINE float operator[](int i) const { return value[i]; }
};

// The second and the third barycentric weight of a point.
struct Barycentric {
    double b1, b2;
};

enum class AlphaMode : int32_t { opaque = 0, mask = 1, blend = 2 };

// How a voxel's attributes are averaged; trellis_voxel.h documents it.
enum class Average : int { crossing = 0, area = 1 };

// Columns of the tables that Python passes; trellis_voxel.h documents them.
constexpr int material_factors = 11, material_indices = 5, texture_columns = 7;

struct Scene {
    const float* vertices;
    const int32_t* faces;
    int64_t face_count;
    const float* normals;  // of vertices; may be null
    const float* uvs;      // of vertices; may be null
    const float* colors;   // RGBA of vertices; may be null
    const int32_t* face_materials;
    const float* factors;
    const int32_t* indices;
    const Texture* textures;
    Vec3d voxel_size;
    int grid[3];
    double mip_bias;
    Average average;

    TK_INLINE Vec3d centre(const Vec3i& voxel) const {
        return {(voxel.x + 0.5) * voxel_size.x, (voxel.y + 0.5) * voxel_size.y, (voxel.z + 0.5) * voxel_size.z};
    }
};

// One triangle, with what is constant over it.
class TexturedTriangle {
public:
    Vec3d position[3];  // in voxel units
    double area = 0.0;  // in world units

    TK_BOTH TexturedTriangle(const Scene& scene, int64_t id) : scene_(scene), vertex_(scene.faces + 3 * id), material_(scene.face_materials[id]) {
        for (int i = 0; i < 3; ++i) {
            const float* v = scene.vertices + 3 * static_cast<int64_t>(vertex_[i]);
            for (int axis = 0; axis < 3; ++axis) position[i][axis] = inside(v[axis] / scene.voxel_size[axis], scene.grid[axis]);
            world_[i] = {v[0], v[1], v[2]};
        }
        const Vec3d n = cross(world_[1] - world_[0], world_[2] - world_[0]);
        area = 0.5 * length(n);
        normal_ = normalized(n);
        if (!std::isfinite(area)) area = 0.0;
    }

    // The barycentric weights 1 and 2 of the triangle's closest point to `p` (world units); Ericson,
    // "Real-Time Collision Detection", 5.1.5.
    TK_BOTH Barycentric closest(const Vec3d& p) const {
        const Vec3d ab = world_[1] - world_[0], ac = world_[2] - world_[0], ap = p - world_[0];
        const double d1 = dot(ab, ap), d2 = dot(ac, ap);
        if (d1 <= 0 && d2 <= 0) return {0, 0};
        const Vec3d bp = p - world_[1];
        const double d3 = dot(ab, bp), d4 = dot(ac, bp);
        if (d3 >= 0 && d4 <= d3) return {1, 0};
        const double vc = d1 * d4 - d3 * d2;
        if (vc <= 0 && d1 >= 0 && d3 <= 0) return {d1 / (d1 - d3), 0};
        const Vec3d cp = p - world_[2];
        const double d5 = dot(ab, cp), d6 = dot(ac, cp);
        if (d6 >= 0 && d5 <= d6) return {0, 1};
        const double vb = d5 * d2 - d1 * d6;
        if (vb <= 0 && d2 >= 0 && d6 <= 0) return {0, d2 / (d2 - d6)};
        const double va = d3 * d6 - d5 * d4;
        if (va <= 0 && d4 >= d3 && d5 >= d6) {
            const double w = (d4 - d3) / ((d4 - d3) + (d5 - d6));
            return {1 - w, w};
        }
        const double sum = va + vb + vc;
        return {vb / sum, vc / sum};
    }

    // The barycentric weights 1 and 2 of `p` (world units) dropped onto the plane of the triangle, inside it or not.
    TK_BOTH Barycentric projected(const Vec3d& p) const {
        const Vec3d ab = world_[1] - world_[0], ac = world_[2] - world_[0], ap = p - world_[0];
        const double bb = dot(ab, ab), cc = dot(ac, ac), bc = dot(ab, ac), b = dot(ap, ab), c = dot(ap, ac);
        const double det = bb * cc - bc * bc;
        if (!(det > 0.0)) return closest(p);
        return {(cc * b - bc * c) / det, (bb * c - bc * b) / det};
    }

    TK_INLINE int64_t material() const { return material_; }

    // Area of the triangle in UV units.
    TK_BOTH double uv_area() const {
        if (!scene_.uvs) return 0.0;
        const UvEdges e = uv_edges();
        return 0.5 * std::abs(e.a[0] * e.b[1] - e.a[1] * e.b[0]);
    }

    // log2 of the UV units in a world unit: the geometric mean of those along u and along v, which an oblique mapping has
    // more of than its area says. Not finite or not a number where the mapping is degenerate.
    TK_BOTH double log2_uv_density() const {
        if (!scene_.uvs) return -HUGE_VAL;
        const UvEdges e = uv_edges();
        const Vec3d e1 = world_[1] - world_[0], e2 = world_[2] - world_[0];
        const double along_u = length(e1 * e.b[1] - e2 * e.a[1]), along_v = length(e2 * e.a[0] - e1 * e.b[0]);
        return log2_of(std::abs(e.a[0] * e.b[1] - e.a[1] * e.b[0])) - 0.5 * (log2_of(along_u) + log2_of(along_v));
    }

    // Texels of the largest texture of its material, 1 without textures.
    TK_BOTH double finest_texture() const {
        double finest = 1.0;
        for (int slot = 0; slot < 4; ++slot)
            if (const Texture* t = texture(slot)) finest = greater(finest, static_cast<double>(t->width) * t->height);
        return finest;
    }

    // The material at the point with barycentric weights 1 and 2, averaged over a footprint of side 2^log2_side in UV.
    TK_BOTH Attributes evaluate(double b1, double b2, double log2_side) const {
        const float* f = scene_.factors + material_ * material_factors;
        double u = 0.0, v = 0.0;
        if (scene_.uvs) {
            u = mix(scene_.uvs, 2, 0, b1, b2);
            v = mix(scene_.uvs, 2, 1, b1, b2);
        }
        const auto sample = [&](int slot, float* value) {
            const Texture* t = texture(slot);
            if (t) t->sample(u, v, t->level(log2_side) + scene_.mip_bias, value);
            return t != nullptr;
        };
        float base[max_channels] = {1, 1, 1, 1}, rough_metal[max_channels] = {1, 1}, emissive[max_channels] = {1, 1, 1};
        float bump[max_channels] = {};
        sample(0, base);
        sample(1, rough_metal);
        sample(2, emissive);
        const bool bumped = sample(3, bump);

        Attributes out;
        float alpha = base[3] * f[3];
        for (int c = 0; c < 3; ++c) out[out_base + c] = base[c] * f[c] * color(c, b1, b2);
        out[out_metallic] = rough_metal[1] * f[4];
        out[out_roughness] = rough_metal[0] * f[5];
        for (int c = 0; c < 3; ++c) out[out_emissive + c] = emissive[c] * f[6 + c];
        alpha *= color(3, b1, b2);
        const auto mode = static_cast<AlphaMode>(scene_.indices[material_ * material_indices + 4]);
        if (mode == AlphaMode::opaque) alpha = 1.0f;
        if (mode == AlphaMode::mask) alpha = alpha < f[9] ? 0.0f : 1.0f;
        out[out_alpha] = alpha;
        const Vec3d n = shading_normal(b1, b2, bumped ? bump : nullptr, f[10]);
        for (int c = 0; c < 3; ++c) out[out_normal + c] = static_cast<float>(n[c]);
        return out;
    }

private:
    // Geometry that rounding has put just outside the grid, and geometry exactly on its far face, belongs to it.
    static TK_INLINE double inside(double p, int size) {
        constexpr double outside = 1e-3, on = 1e-9;
        if (p < 0.0 && p >= -outside) return 0.0;
        if (p > size - on && p <= size + outside) return size - on;
        return p;
    }

    TK_INLINE double mix(const float* values, int width, int column, double b1, double b2) const {
        const double a = values[static_cast<int64_t>(vertex_[0]) * width + column];
        return a + b1 * (values[static_cast<int64_t>(vertex_[1]) * width + column] - a) +
               b2 * (values[static_cast<int64_t>(vertex_[2]) * width + column] - a);
    }

    TK_INLINE float color(int channel, double b1, double b2) const {
        if (!scene_.colors) return 1.0f;
        return static_cast<float>(lesser(greater(mix(scene_.colors, 4, channel, b1, b2), 0.0), 1.0));
    }

    struct UvEdges {
        double a[2], b[2];
    };

    TK_BOTH UvEdges uv_edges() const {
        const float* uv[3];
        for (int i = 0; i < 3; ++i) uv[i] = scene_.uvs + 2 * static_cast<int64_t>(vertex_[i]);
        const double u = uv[0][0], v = uv[0][1];
        return {{uv[1][0] - u, uv[1][1] - v}, {uv[2][0] - u, uv[2][1] - v}};
    }

    TK_INLINE const Texture* texture(int slot) const {
        const int32_t index = scene_.uvs ? scene_.indices[material_ * material_indices + slot] : -1;
        return index < 0 ? nullptr : &scene_.textures[index];
    }

    TK_INLINE Vec3d vertex_normal(int corner) const {
        const float* n = scene_.normals + 3 * static_cast<int64_t>(vertex_[corner]);
        return normalized(Vec3d{n[0], n[1], n[2]});
    }

    // The interpolated vertex normal, bent by the normal map in the frame of Lengyel, "Foundations of Game
    // Engine Development 2", 7.5: tangent along +u, bitangent along +v, both as they lie on the triangle.
    TK_BOTH Vec3d shading_normal(double b1, double b2, const float* bump, float scale) const {
        Vec3d n{};
        if (scene_.normals) {
            const Vec3d at[3] = {vertex_normal(0), vertex_normal(1), vertex_normal(2)};
            n = at[0] + (at[1] - at[0]) * b1 + (at[2] - at[0]) * b2;
        }
        if (!(length(n) > 0.0)) n = normal_;
        else if (scene_.average == Average::area) n = normalized(n);  // crossings: as short as interpolation makes it
        if (!bump) return n;
        const UvEdges edges = uv_edges();
        const double(&a)[2] = edges.a, (&b)[2] = edges.b;
        const double det = a[0] * b[1] - a[1] * b[0], sign = det < 0.0 ? -1.0 : 1.0;
        const Vec3d e1 = world_[1] - world_[0], e2 = world_[2] - world_[0];
        const Vec3d tangent = normalized((e1 * b[1] - e2 * a[1]) * sign), bitangent = normalized((e2 * a[0] - e1 * b[0]) * sign);
        const Vec3d bent = tangent * ((bump[0] * 2.0 - 1.0) * scale) + bitangent * ((bump[1] * 2.0 - 1.0) * scale) + n * (bump[2] * 2.0 - 1.0);
        return length(bent) > 0.0 ? normalized(bent) : n;
    }

    const Scene& scene_;
    const int32_t* vertex_;
    int64_t material_;
    Vec3d world_[3];
    Vec3d normal_;
};

}  // namespace tk::voxel
