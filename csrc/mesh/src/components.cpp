// Sizes of connected components.
#include <algorithm>

#include "normals.hpp"
#include "topology.hpp"
#include "trellis_mesh.h"

TK_API int tk_mesh_component_sizes(const float* vertices, const int32_t* faces, const int32_t* labels, int64_t num_faces,
                                   int64_t num_components, int64_t* face_counts, double* areas, float* lows, float* highs, void*,
                                   int64_t*, int, void*) {
    return tk::guarded([&] {
        std::fill(face_counts, face_counts + num_components, 0);
        std::fill(areas, areas + num_components, 0.0);
        std::fill(lows, lows + 3 * num_components, INFINITY);
        std::fill(highs, highs + 3 * num_components, -INFINITY);
        // One thread, in the order of the faces: a sum per component keeps its bits, and memory is the limit.
        for (int64_t f = 0; f < num_faces; ++f) {
            const int64_t c = labels[f];
            ++face_counts[c];
            const double area = 0.5 * tk::length(tk::mesh::area_normal(vertices, faces + 3 * f));
            if (area > 0) areas[c] += area;
            for (int i = 0; i < 3; ++i)
                for (int k = 0; k < 3; ++k) {
                    const float x = vertices[3 * int64_t{faces[3 * f + i]} + k];
                    lows[3 * c + k] = std::min(lows[3 * c + k], x);
                    highs[3 * c + k] = std::max(highs[3 * c + k], x);
                }
        }
    });
}
