// Groups faces into charts that face one way.
#pragma once

#include "unwrap_surface.hpp"

namespace tk::uv {

struct ClusterOptions {
    // A chart's normals may spread until 1 - |mean normal| reaches this; 0.25 is a cap of 60 degrees.
    double max_spread = 0.25;
};

// Chart number of each face, -1 for collapsed faces. Charts are connected through glued edges and are
// numbered by their first face. Returns the number of charts.
int64_t cluster_faces(const Surface& surface, const ClusterOptions& options, std::vector<int32_t>& label);

// Renumbers `label` so that each connected part of a label becomes one chart; returns their number.
int64_t connected_charts(const Surface& surface, std::vector<int32_t>& label);

}  // namespace tk::uv
