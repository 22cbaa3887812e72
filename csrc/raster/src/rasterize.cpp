// Tile-binned rasterisation: snap vertices, list the faces of each tile, fill tiles in parallel.
//
// Each tile belongs to one thread and takes its faces in ascending order, with a strict depth test; so equal
// depths go to the lower face, whatever the number of threads.
#include <memory>

#include "tile.hpp"
#include "trellis/parallel.hpp"
#include "trellis_raster.h"

using namespace tk::raster;

TK_API int tk_raster_rasterize_scratch(int64_t, int64_t, int64_t, int64_t* bytes, int, void*) {
    return tk::guarded([&] { *bytes = 0; });
}

TK_API int tk_raster_rasterize(const float* clip, const int32_t* faces, int64_t batch, int64_t num_vertices,
                               int64_t num_faces, int64_t height, int64_t width, int subpixel_bits,
                               const float* previous, void*, float* rast, int, void*) {
    return tk::guarded([&] {
        check_rasterize(num_faces, height, width, subpixel_bits);
        std::unique_ptr<SnappedVertex[]> snapped(new SnappedVertex[num_vertices]);
        for (int64_t b = 0; b < batch; ++b) {
            Scene scene{Viewport(width, height, subpixel_bits), clip + b * num_vertices * 4, faces, num_vertices,
                        num_faces, snapped.get()};
            tk::parallel_for(num_vertices, 1 << 14, [&](int64_t i) {
                const Vertex v = scene.vertex(static_cast<int32_t>(i));
                SnappedVertex& s = snapped[i];
                s = {0, 0, scene.view.outside(v)};
                if (s.outside == 0) snap(scene.view, v.x / v.w, v.y / v.w, &s.x, &s.y);
            });
            const Bins bins = make_bins(scene);
            const int64_t offset = b * height * width * 4;
            tk::parallel_for(int64_t{bins.tiles_x} * bins.tiles_y, 1, [&](int64_t tile) {
                rasterize_tile(scene, bins, tile, previous ? previous + offset : nullptr, rast + offset);
            });
        }
    });
}
