// From clip space to snapped pixel coordinates.
//
// Coverage is decided by exact integers: projected vertices are rounded to a grid of 2^-bits pixel, so an edge
// shared by two faces is the same edge in both, and edge functions of these integers have no rounding error.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "trellis/error.hpp"
#include "trellis/vec.hpp"
#include "trellis_raster.h"

namespace tk::raster {

// std::min and std::max are not for devices.
template <class T>
TK_BOTH T lower(T a, T b) { return b < a ? b : a; }
template <class T>
TK_BOTH T higher(T a, T b) { return a < b ? b : a; }
TK_BOTH inline bool is_finite(double x) { return fabs(x) <= DBL_MAX; }

struct Vertex {  // homogeneous clip space
    double x, y, z, w;
};

// Half the range of snapped coordinates: differences stay below 2^29 and edge functions below 2^60.
constexpr double snap_limit = 1 << 28;

// The planes a face is clipped against, as bits. Near and far are those of the view volume; the four sides are
// not, they only keep snapped coordinates within their range.
enum Plane { near_plane, far_plane, left_plane, right_plane, bottom_plane, top_plane, plane_count };
constexpr uint32_t not_finite = 1u << plane_count;

struct Viewport {
    int width, height, bits;
    double half_x, half_y;    // from the centre to the border, in subpixels
    double guard_x, guard_y;  // |x| <= guard_x * w keeps snapped coordinates within snap_limit

    Viewport(int64_t width_, int64_t height_, int bits_)
        : width(static_cast<int>(width_)), height(static_cast<int>(height_)), bits(bits_),
          half_x(static_cast<double>(width_) * (1 << (bits_ - 1))),
          half_y(static_cast<double>(height_) * (1 << (bits_ - 1))),
          guard_x(snap_limit / half_x), guard_y(snap_limit / half_y) {}

    // Signed measure of the side of `plane` that v is on; not negative means inside.
    TK_BOTH double distance(int plane, const Vertex& v) const {
        switch (plane) {
            case near_plane: return v.w + v.z;
            case far_plane: return v.w - v.z;
            case left_plane: return guard_x * v.w + v.x;
            case right_plane: return guard_x * v.w - v.x;
            case bottom_plane: return guard_y * v.w + v.y;
            default: return guard_y * v.w - v.y;
        }
    }

    TK_BOTH uint32_t outside(const Vertex& v) const {
        if (!(is_finite(v.x) && is_finite(v.y) && is_finite(v.z) && is_finite(v.w))) return not_finite;
        uint32_t bits_set = 0;
        for (int p = 0; p < plane_count; ++p)
            if (distance(p, v) < 0) bits_set |= 1u << p;
        // Inside all planes with w = 0 is only the zero vector, which is no point.
        return bits_set == 0 && !(v.w > 0) ? not_finite : bits_set;
    }
};

// Nearest integer, ties to even, for |value| < 2^51: adding 1.5 * 2^52 leaves no fraction bits.
TK_BOTH inline int32_t round_to_int(double value) {
    constexpr double magic = 6755399441055744.0;
    return static_cast<int32_t>((value + magic) - magic);
}

// Throws unless these are within what tk_raster_rasterize takes.
inline void check_rasterize(int64_t num_faces, int64_t height, int64_t width, int subpixel_bits) {
    require(num_faces <= TK_RASTER_MAX_FACES,
            format("faces: expected at most %d, got %lld", TK_RASTER_MAX_FACES, (long long)num_faces));
    require(height >= 1 && height <= TK_RASTER_MAX_SIDE && width >= 1 && width <= TK_RASTER_MAX_SIDE,
            format("resolution: expected sides in [1, %d], got %lld x %lld", TK_RASTER_MAX_SIDE, (long long)height,
                   (long long)width));
    require(subpixel_bits >= 4 && subpixel_bits <= 8, format("subpixel_bits: expected 4 to 8, got %d", subpixel_bits));
}

// A projected vertex: snapped position for coverage, exact position (in pixels) and depth for the depth plane.
struct Projected {
    int32_t sx, sy;
    double x, y, z;
};

TK_BOTH inline void snap(const Viewport& view, double ndc_x, double ndc_y, int32_t* sx, int32_t* sy) {
    const double x = ndc_x * view.half_x, y = ndc_y * view.half_y;
    // Clipping may end an ulp beyond the limit.
    *sx = round_to_int(fmin(fmax(x, -snap_limit), snap_limit)) + static_cast<int32_t>(view.half_x);
    *sy = round_to_int(fmin(fmax(y, -snap_limit), snap_limit)) + static_cast<int32_t>(view.half_y);
}

TK_BOTH inline Projected project(const Viewport& view, const Vertex& v) {
    Projected p;
    const double x = v.x / v.w, y = v.y / v.w;
    snap(view, x, y, &p.sx, &p.sy);
    p.x = (x + 1) * 0.5 * view.width;
    p.y = (y + 1) * 0.5 * view.height;
    p.z = v.z / v.w;
    return p;
}

}  // namespace tk::raster
