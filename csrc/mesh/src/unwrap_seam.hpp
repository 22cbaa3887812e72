// A face on a seam and the charts around it, for both ways from faces to charts: unwrap_cluster.cpp and unwrap_flat_cluster.hpp.
#pragma once

#include <cstdint>

#include "trellis/vec.hpp"

namespace tk::uv {

// The chart beside a face of chart `own` that holds more of the face's border than `own` does, and of several the one
// that holds most; else -1. `twin` and `length` are those of the face's three half edges.
TK_BOTH inline int32_t chart_beyond_seam(const int32_t* twin, const double* length, const int32_t* label, int32_t own) {
    double kept = 0, shared[3] = {0, 0, 0};
    int32_t other[3] = {-1, -1, -1};
    for (int k = 0; k < 3; ++k) {
        if (twin[k] < 0) continue;
        const int32_t to = label[twin[k] / 3];
        if (to == own) {
            kept += length[k];
            continue;
        }
        for (int j = 0; j < 3; ++j)
            if (other[j] == to || other[j] < 0) {
                other[j] = to;
                shared[j] += length[k];
                break;
            }
    }
    int best = -1;
    for (int j = 0; j < 3; ++j)
        if (other[j] >= 0 && (best < 0 || shared[j] > shared[best])) best = j;
    return best >= 0 && shared[best] > kept * 1.0001 ? other[best] : -1;
}

}  // namespace tk::uv
