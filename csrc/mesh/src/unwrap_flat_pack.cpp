// Packing of flat charts on the CPU, by the packer of unwrap_pack.cpp.
#include "trellis/error.hpp"
#include "trellis/parallel.hpp"
#include "trellis_mesh.h"
#include "unwrap_pack.hpp"

TK_API int tk_mesh_flat_pack(double* uv, const int64_t* chart_first, const double* area, const double* perimeter, int64_t num_charts, int resolution,
                             double padding, int, void*) {
    return tk::guarded([&] {
        std::vector<tk::uv::Chart> charts(num_charts);
        tk::parallel_for(num_charts, 64, [&](int64_t c) {
            const int64_t begin = 3 * chart_first[c], end = 3 * chart_first[c + 1];
            tk::uv::Chart& chart = charts[c];
            chart.faces.resize((end - begin) / 3);
            chart.corner.resize(end - begin);
            chart.uv.resize(end - begin);
            for (int64_t h = begin; h < end; ++h) {
                chart.corner[h - begin] = static_cast<int32_t>(h - begin);
                chart.uv[h - begin] = {uv[2 * h], uv[2 * h + 1]};
            }
            chart.area = area[c];
            chart.perimeter = perimeter[c];
        });
        tk::uv::PackOptions options;
        options.resolution = resolution;
        options.padding = padding;
        tk::uv::pack_charts(charts, options);
        tk::parallel_for(num_charts, 64, [&](int64_t c) {
            const int64_t begin = 3 * chart_first[c];
            for (size_t i = 0; i < charts[c].uv.size(); ++i) {
                uv[2 * (begin + i)] = charts[c].uv[i].x;
                uv[2 * (begin + i) + 1] = charts[c].uv[i].y;
            }
        });
    });
}
