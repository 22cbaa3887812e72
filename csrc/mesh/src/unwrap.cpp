// The exported functions of UV unwrapping.
#include <algorithm>
#include <memory>

#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis_mesh.h"
#include "unwrap_atlas.hpp"
#include "unwrap_measure.hpp"
#include "unwrap_stretch.hpp"

TK_API int tk_mesh_unwrap_begin(const float* vertices, const int32_t* faces, int64_t num_vertices, int64_t num_faces,
                                int resolution, double padding, double max_stretch, void** state, int64_t* sizes, int, void*) {
    return tk::guarded([&] {
        tk::require(resolution >= 1 && resolution <= 65536, tk::format("resolution: expected 1 to 65536, got %d", resolution));
        tk::require(padding >= 0 && padding <= 1024, tk::format("padding: expected 0 to 1024 texels, got %g", padding));
        tk::require(max_stretch > 1, tk::format("max_stretch: expected more than 1, got %g", max_stretch));
        tk::uv::AtlasOptions options;
        options.pack.resolution = resolution;
        options.pack.padding = padding;
        options.layout.max_stretch = max_stretch;
        auto atlas = std::make_unique<tk::uv::Atlas>(tk::uv::unwrap(vertices, num_vertices, faces, num_faces, options));
        sizes[0] = static_cast<int64_t>(atlas->vertex_map.size());
        sizes[1] = atlas->num_charts;
        *state = atlas.release();
    });
}

TK_API int tk_mesh_unwrap_fill(void* state, int32_t* faces, int32_t* vertex_map, float* uv, int32_t* face_chart, int, void*) {
    return tk::guarded([&] {
        const auto& atlas = *static_cast<const tk::uv::Atlas*>(state);
        std::copy(atlas.faces.begin(), atlas.faces.end(), faces);
        std::copy(atlas.vertex_map.begin(), atlas.vertex_map.end(), vertex_map);
        std::copy(atlas.uv.begin(), atlas.uv.end(), uv);
        std::copy(atlas.face_chart.begin(), atlas.face_chart.end(), face_chart);
    });
}

TK_API int tk_mesh_unwrap_end(void* state) {
    return tk::guarded([&] { delete static_cast<tk::uv::Atlas*>(state); });
}

TK_API int tk_mesh_uv_stretch(const float* vertices, const int32_t* faces, const float* uv, int64_t num_faces, float* out, int, void*) {
    return tk::guarded([&] {
        tk::parallel_for(num_faces, 1 << 12, [&](int64_t f) {
            const int32_t *i = faces + 3 * f;
            const tk::uv::FaceStretch r = tk::uv::face_stretch(vertices + 3 * int64_t{i[0]}, vertices + 3 * int64_t{i[1]}, vertices + 3 * int64_t{i[2]},
                                                               uv + 2 * int64_t{i[0]}, uv + 2 * int64_t{i[1]}, uv + 2 * int64_t{i[2]});
            out[4 * f] = static_cast<float>(r.largest);
            out[4 * f + 1] = static_cast<float>(r.smallest);
            out[4 * f + 2] = static_cast<float>(r.surface_area);
            out[4 * f + 3] = static_cast<float>(r.texture_area);
        });
    });
}

TK_API int tk_mesh_measure_uv(const float* vertices, const int32_t* faces, const float* uv, int64_t num_vertices, int64_t num_faces, int resolution,
                              double small_chart_texels, double* out, int32_t* face_chart, uint8_t* face_fault, int, void*) {
    return tk::guarded([&] { tk::uv::measure(vertices, faces, uv, num_vertices, num_faces, resolution, small_chart_texels, out, face_chart, face_fault); });
}
