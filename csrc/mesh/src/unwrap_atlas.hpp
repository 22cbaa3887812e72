// From a surface to charts that are laid out, and from those to the arrays that are given back.
#pragma once

#include "unwrap_chart.hpp"
#include "unwrap_cluster.hpp"
#include "unwrap_pack.hpp"
#include "unwrap_parameterise.hpp"

namespace tk::uv {

struct AtlasOptions {
    ClusterOptions cluster;
    LayoutOptions layout;
    PackOptions pack;
    int merge_rounds = 12;
};

// Charts that cover every face that is not collapsed, each with a valid layout, in the order of their first
// faces.
std::vector<Chart> make_charts(const Surface& surface, const AtlasOptions& options);

// Joins neighbouring charts where the union still has a layout within the options. `membership` labels each
// face with its chart's number, and so it does afterwards.
void merge_charts(const Surface& surface, const AtlasOptions& options, Membership& membership, std::vector<Chart>& charts);

struct Atlas {
    std::vector<int32_t> faces;         // [3F] new vertex of each corner
    std::vector<int32_t> vertex_map;    // [new vertices] vertex given
    std::vector<float> uv;              // [new vertices, 2]
    std::vector<int32_t> face_chart;    // [F] chart of each face; -1 where the mesh has no chart at all
    int64_t num_charts = 0;
};

Atlas unwrap(const float* vertices, int64_t num_vertices, const int32_t* faces, int64_t num_faces, const AtlasOptions& options);

}  // namespace tk::uv
