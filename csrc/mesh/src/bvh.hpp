// A bounding volume hierarchy of fan-out 8 without pointers: triangles lie in an order along which
// neighbours are close in space, 8 of them make a leaf, 8 leaves a node, 8 nodes a node above it (a packed
// R-tree; Kamel and Faloutsos, "On Packing R-trees", 1993). Where a child lies follows from its number, so
// the tree is three flat arrays that torch owns, each level is built in parallel from the one below, and the
// boxes of a node fill vector registers.
//
//   leaves[L][3 corners][3 axes][8 lanes] float: the corners; NaN in lanes without a triangle
//   ids[L][8] int32: face of each lane, -1 in lanes without one
//   nodes[N][2: low, high][3 axes][8 lanes] float: boxes of the children; nodes of the lowest level (above
//   the leaves) first, the root last; low = inf and high = -inf where there is no child or nothing in it
#pragma once

#include <cstdint>

#include "triangle.hpp"

namespace tk::mesh {

constexpr int bvh_width = 8;
constexpr int bvh_max_levels = 11;  // 8^11 > 2^31 faces
constexpr int bvh_leaf_floats = 9 * bvh_width, bvh_node_floats = 6 * bvh_width;
// A node leaves at most 7 brothers behind at each level.
constexpr int bvh_stack_size = (bvh_width - 1) * bvh_max_levels + 1;

struct BvhShape {
    int levels = 0;                          // of nodes; leaves are level 0
    int64_t count[bvh_max_levels + 1] = {};  // of leaves, then of nodes of each level
    int64_t first[bvh_max_levels + 1] = {};  // number of the first node of each level (level >= 1)
    int64_t nodes = 0;

    TK_BOTH explicit BvhShape(int64_t faces) {
        count[0] = (faces + bvh_width - 1) / bvh_width;
        do {
            ++levels;
            first[levels] = nodes;
            count[levels] = (count[levels - 1] + bvh_width - 1) / bvh_width;
            nodes += count[levels];
        } while (count[levels] > 1);
    }
};

struct BvhView {
    const float* nodes;
    const float* leaves;
    const int32_t* ids;
    BvhShape shape;
};

// A level (4 bits) and the number of a node or leaf on it.
TK_INLINE uint32_t pack_reference(int level, int64_t index) { return static_cast<uint32_t>(level) << 28 | static_cast<uint32_t>(index); }
TK_INLINE int reference_level(uint32_t reference) { return static_cast<int>(reference >> 28); }
TK_INLINE int64_t reference_index(uint32_t reference) { return reference & 0xfffffff; }

constexpr int32_t no_face = INT32_MAX;

// An upper bound of squared box distances in float that may still hold a face within `distance`: the
// roundings of the box test stay well below 2e-6, and the sum keeps the bound valid where squares vanish.
TK_INLINE float pruning_bound(float distance) { return distance * distance * 1.000002f + 1e-36f; }
// Factor on distances along a ray that makes the slab test hold in spite of roundings (Ize, "Robust BVH Ray
// Traversal", JCGT 2013).
constexpr float slab_pad = 1.000002f;

// Position along a Hilbert curve through 2^bits cells an axis (Skilling, "Programming the Hilbert curve", 2004).
TK_INLINE uint64_t hilbert_key(uint32_t x, uint32_t y, uint32_t z, int bits) {
    uint32_t axis[3] = {x, y, z};
    for (uint32_t q = 1u << (bits - 1); q > 1; q >>= 1) {
        const uint32_t low = q - 1;
        for (int i = 0; i < 3; ++i) {
            const uint32_t set = 0u - ((axis[i] & q) != 0);
            const uint32_t swap = (axis[0] ^ axis[i]) & low & ~set;
            axis[0] ^= swap | (low & set);
            axis[i] ^= swap;
        }
    }
    axis[1] ^= axis[0];
    axis[2] ^= axis[1];
    uint32_t flip = 0;
    for (uint32_t q = 1u << (bits - 1); q > 1; q >>= 1)
        if (axis[2] & q) flip ^= q - 1;
    uint64_t key = 0;
    for (int b = bits - 1; b >= 0; --b)
        for (int i = 0; i < 3; ++i) key = key << 1 | (((axis[i] ^ flip) >> b) & 1);
    return key;
}

constexpr int bvh_key_bits = 16;  // an axis

// The cell of a coordinate among 2^bits between low and high; anything that is not inside goes to an end.
TK_INLINE uint32_t quantise(float value, float low, float high, int bits) {
    const float cells = static_cast<float>(1u << bits);
    const float extent = high - low;
    const float at = extent > 0 ? (value - low) / extent * cells : 0;
    return at > 0 ? at < cells ? static_cast<uint32_t>(at) : (1u << bits) - 1 : 0;
}

TK_INLINE Vec3f load_corner(const float* vertices, int32_t vertex) {
    const float* p = vertices + int64_t{3} * vertex;
    return {p[0], p[1], p[2]};
}

// The sort key of a face: where the centre of its box lies. Faces with a corner that is not finite go last.
TK_INLINE int64_t face_key(const float* vertices, const int32_t* face, const float* bounds) {
    const Vec3f a = load_corner(vertices, face[0]), b = load_corner(vertices, face[1]), c = load_corner(vertices, face[2]);
    if (!all_finite(a) || !all_finite(b) || !all_finite(c)) return INT64_MAX;
    uint32_t cell[3];
    for (int i = 0; i < 3; ++i) {
        const float low = a[i] < b[i] ? (a[i] < c[i] ? a[i] : c[i]) : (b[i] < c[i] ? b[i] : c[i]);
        const float high = a[i] > b[i] ? (a[i] > c[i] ? a[i] : c[i]) : (b[i] > c[i] ? b[i] : c[i]);
        cell[i] = quantise(low * 0.5f + high * 0.5f, bounds[i], bounds[3 + i], bvh_key_bits);
    }
    return static_cast<int64_t>(hilbert_key(cell[0], cell[1], cell[2], bvh_key_bits));
}

// The face in a slot, -1 for none; its corners in p, NaN without a face.
TK_INLINE int32_t load_slot(const float* vertices, const int32_t* faces, int64_t num_faces, const int32_t* order, int64_t slot,
                            Vec3f (&p)[3]) {
    const float nan = __builtin_nanf("");
    const int32_t id = slot < num_faces ? order[slot] : -1;
    bool finite = id >= 0;
    for (int k = 0; k < 3 && finite; ++k) {
        p[k] = load_corner(vertices, faces[int64_t{3} * id + k]);
        finite = all_finite(p[k]);
    }
    if (finite) return id;
    p[0] = p[1] = p[2] = {nan, nan, nan};
    return -1;
}

// Fills one leaf and, in its parent, the box of the leaf.
TK_INLINE void fill_leaf(const float* vertices, const int32_t* faces, int64_t num_faces, const int32_t* order, int64_t leaf,
                         float* leaves, int32_t* ids, float* nodes) {
    const float inf = __builtin_inff();
    float low[3] = {inf, inf, inf}, high[3] = {-inf, -inf, -inf};
    float* corners = leaves + leaf * bvh_leaf_floats;
    for (int lane = 0; lane < bvh_width; ++lane) {
        const int64_t slot = leaf * bvh_width + lane;
        Vec3f p[3];
        const int32_t id = load_slot(vertices, faces, num_faces, order, slot, p);
        ids[slot] = id;
        for (int k = 0; k < 3; ++k)
            for (int i = 0; i < 3; ++i) {
                const float value = p[k][i];
                corners[(k * 3 + i) * bvh_width + lane] = value;
                if (value < low[i]) low[i] = value;
                if (value > high[i]) high[i] = value;
            }
    }
    float* box = nodes + leaf / bvh_width * bvh_node_floats + leaf % bvh_width;
    for (int i = 0; i < 3; ++i) {
        box[i * bvh_width] = low[i];
        box[(3 + i) * bvh_width] = high[i];
    }
}

// Writes the union of a node's boxes into its parent.
TK_INLINE void fill_parent(const BvhShape& shape, int level, int64_t index, float* nodes) {
    const float inf = __builtin_inff();
    const float* own = nodes + (shape.first[level] + index) * bvh_node_floats;
    float* box = nodes + (shape.first[level + 1] + index / bvh_width) * bvh_node_floats + index % bvh_width;
    for (int i = 0; i < 3; ++i) {
        float low = inf, high = -inf;
        for (int lane = 0; lane < bvh_width; ++lane) {
            const float l = own[i * bvh_width + lane], h = own[(3 + i) * bvh_width + lane];
            if (l < low) low = l;
            if (h > high) high = h;
        }
        box[i * bvh_width] = low;
        box[(3 + i) * bvh_width] = high;
    }
}

// The empty boxes behind the last child of a level's last node.
TK_INLINE void clear_tail(const BvhShape& shape, int level, float* nodes) {
    const float inf = __builtin_inff();
    float* last = nodes + (shape.first[level] + shape.count[level] - 1) * bvh_node_floats;
    for (int64_t child = shape.count[level - 1]; child < shape.count[level] * bvh_width; ++child)
        for (int i = 0; i < 3; ++i) {
            last[i * bvh_width + child % bvh_width] = inf;
            last[(3 + i) * bvh_width + child % bvh_width] = -inf;
        }
}

}  // namespace tk::mesh
