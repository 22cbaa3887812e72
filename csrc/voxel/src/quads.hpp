// The quads of a dual grid, for host and device: which exist, where their corners lie and how they are split.
#pragma once

#include <cmath>
#include <cstddef>

#include "trellis/vec.hpp"
#include "voxel_table.hpp"

namespace tk::voxel {

// Rounded operations that no compiler fuses, so that CPU and GPU decide and place alike.
#ifdef __CUDA_ARCH__
TK_INLINE float add(float a, float b) { return __fadd_rn(a, b); }
TK_INLINE float mul(float a, float b) { return __fmul_rn(a, b); }
TK_INLINE double add(double a, double b) { return __dadd_rn(a, b); }
TK_INLINE double mul(double a, double b) { return __dmul_rn(a, b); }
#else
TK_INLINE float add(float a, float b) { return a + b; }
TK_INLINE float mul(float a, float b) { return a * b; }
TK_INLINE double add(double a, double b) { return a + b; }
TK_INLINE double mul(double a, double b) { return a * b; }
#endif

// A pass over the voxels in blocks of this many: each has its place in the list of quads.
constexpr int quad_block = 256;

// What the counting call leaves for the filling call, in memory of the caller's.
struct QuadScratch {
    int64_t* block_begins;   // [blocks + 1], quads before each block
    uint32_t* bad_rows;      // [2]: the first row with a voxel outside the grid, and with a dual vertex that is not finite
    int32_t* slots;
    uint8_t* axes;           // [n], bit a: the quad across axis a exists
    uint64_t slot_count;
    int64_t blocks, bytes;

    QuadScratch(void* base, int64_t n) {
        slot_count = VoxelTable::slots_for(n);
        blocks = (n + quad_block - 1) / quad_block;
        char* at = static_cast<char*>(base);
        block_begins = reinterpret_cast<int64_t*>(at);
        at += (blocks + 1) * 8;
        bad_rows = reinterpret_cast<uint32_t*>(at);
        at += 8;
        slots = reinterpret_cast<int32_t*>(at);
        at += slot_count * 4;
        axes = reinterpret_cast<uint8_t*>(at);
        at += n;
        bytes = at - static_cast<char*>(base);
    }
    VoxelTable table(const int32_t* coords) const { return {slots, slot_count - 1, coords}; }
};

struct GridShape {
    int32_t size[3];

    TK_INLINE bool holds(const int32_t* c) const {
        return c[0] >= 0 && c[0] < size[0] && c[1] >= 0 && c[1] < size[1] && c[2] >= 0 && c[2] < size[2];
    }
};

// Rows of the four voxels around the lattice edge of `row` along `axis`, in order around it, the first step along
// axis + 2; false if one is missing.
template <int axis>
TK_INLINE bool quad_rows(const VoxelTable& table, int32_t row, int32_t (&rows)[4]) {
    const int32_t* c = table.coords + row * int64_t{3};
    constexpr int u = (axis + 2) % 3, v = (axis + 1) % 3;
    int32_t around[3][3], found[3];
    for (int k = 0; k < 3; ++k) {
        for (int a = 0; a < 3; ++a) around[k][a] = c[a];
        around[k][u] += k < 2;
        around[k][v] += k > 0;
    }
    table.find(around, found);
    rows[0] = row;
    for (int k = 0; k < 3; ++k) rows[k + 1] = found[k];
    return found[0] >= 0 && found[1] >= 0 && found[2] >= 0;
}

// The axes whose quads exist, as bits.
TK_INLINE uint8_t quad_axes(const VoxelTable& table, const uint8_t* intersected, int32_t row) {
    const uint8_t* flags = intersected + row * int64_t{3};
    int32_t rows[4];
    const bool x = flags[0] && quad_rows<0>(table, row, rows), y = flags[1] && quad_rows<1>(table, row, rows),
               z = flags[2] && quad_rows<2>(table, row, rows);
    return static_cast<uint8_t>(x | y << 1 | z << 2);
}

TK_INLINE int quad_count(uint8_t axes) { return (axes & 1) + (axes >> 1 & 1) + (axes >> 2 & 1); }

struct Placement {
    float origin[3], voxel_size[3];

    TK_INLINE float at(float coord, float local, int axis) const {
        return add(mul(add(coord, local), voxel_size[axis]), origin[axis]);
    }
};

TK_INLINE Vec3d minus(const Vec3d& a, const Vec3d& b) { return {add(a.x, -b.x), add(a.y, -b.y), add(a.z, -b.z)}; }
TK_INLINE double inner(const Vec3d& a, const Vec3d& b) { return add(add(mul(a.x, b.x), mul(a.y, b.y)), mul(a.z, b.z)); }
TK_INLINE Vec3d outer(const Vec3d& a, const Vec3d& b) {
    return {add(mul(a.y, b.z), -mul(a.z, b.y)), add(mul(a.z, b.x), -mul(a.x, b.z)), add(mul(a.x, b.y), -mul(a.y, b.x))};
}

// Cosine of the angle between the normals of triangles (a, b, c) and (a, c, d); -1 when one has no area.
TK_INLINE double flatness(const Vec3d& a, const Vec3d& b, const Vec3d& c, const Vec3d& d) {
    const Vec3d n = outer(minus(b, a), minus(c, a)), m = outer(minus(c, a), minus(d, a));
    const double size = std::sqrt(mul(inner(n, n), inner(m, m)));
    return size > 0 ? inner(n, m) / size : -1;
}

// Whether the diagonal between corners 1 and 3 is clearly flatter than that between 0 and 2: a margin keeps
// rounding from deciding the split of flat quads.
TK_INLINE bool flatter_across(const Vec3d (&p)[4]) {
    return flatness(p[1], p[2], p[3], p[0]) > add(flatness(p[0], p[1], p[2], p[3]), 1e-6);
}

// The two triangles of a quad.
TK_INLINE void split_quad(const int32_t (&rows)[4], bool across, int32_t* faces) {
    faces[0] = rows[0];
    faces[1] = rows[1];
    faces[2] = across ? rows[3] : rows[2];
    faces[3] = across ? rows[3] : rows[0];
    faces[4] = across ? rows[1] : rows[2];
    faces[5] = across ? rows[2] : rows[3];
}

struct QuadSource {
    VoxelTable table;
    const float* local_dual;
    const float* split_weight;  // null: split along the flatter diagonal
    Placement placement;

    TK_INLINE void vertex(int32_t row, float* out) const {
        for (int a = 0; a < 3; ++a)
            out[a] = placement.at(static_cast<float>(table.coords[row * int64_t{3} + a]), local_dual[row * int64_t{3} + a], a);
    }
    // Writes the quads of `axes` (see quad_axes) and returns where the next ones go.
    TK_INLINE int32_t* write_quads(int32_t row, uint8_t axes, int32_t* faces) const {
        if (axes & 1) faces = write_quad<0>(row, faces);
        if (axes & 2) faces = write_quad<1>(row, faces);
        if (axes & 4) faces = write_quad<2>(row, faces);
        return faces;
    }

private:
    template <int axis>
    TK_INLINE int32_t* write_quad(int32_t row, int32_t* faces) const {
        int32_t rows[4] = {};
        quad_rows<axis>(table, row, rows);
        bool across;
        if (split_weight) {
            across = !(mul(split_weight[rows[0]], split_weight[rows[2]]) > mul(split_weight[rows[1]], split_weight[rows[3]]));
        } else {
            Vec3d p[4];
            for (int k = 0; k < 4; ++k) {
                float at[3];
                vertex(rows[k], at);
                p[k] = {at[0], at[1], at[2]};
            }
            across = flatter_across(p);
        }
        split_quad(rows, across, faces);
        return faces + 6;
    }
};

}  // namespace tk::voxel
