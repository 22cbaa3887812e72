// Sizes of connected components, on the device.
#include "exact_sum.cuh"
#include "normals.hpp"
#include "scratch.cuh"
#include "trellis_mesh.h"

namespace tk::mesh {
namespace {

struct Sizes {
    int64_t* face_counts;
    double* areas;
    float *lows, *highs;
};

__global__ void clear_sizes_kernel(Sizes sizes, int64_t count) {
    TK_GRID_STRIDE(c, count) {
        sizes.face_counts[c] = 0;
        for (int k = 0; k < 3; ++k) {
            sizes.lows[3 * c + k] = __builtin_inff();
            sizes.highs[3 * c + k] = -__builtin_inff();
        }
    }
}

__device__ double face_area(const float* vertices, const int32_t* face) { return 0.5 * length(area_normal(vertices, face)); }

__global__ void largest_area_kernel(const float* vertices, const int32_t* faces, int64_t num_faces, uint64_t* largest) {
    uint64_t own = 0;
    TK_GRID_STRIDE(f, num_faces) own = max(own, magnitude_bits(face_area(vertices, faces + 3 * f)));
    raise_to_largest(largest, own);
}

// Floats compare as integers do once the negative ones are mirrored.
__device__ void lower(float* low, float x) {
    if (x < *static_cast<volatile float*>(low)) {
        if (__float_as_int(x) >= 0)
            atomicMin(reinterpret_cast<int*>(low), __float_as_int(x));
        else
            atomicMax(reinterpret_cast<unsigned*>(low), __float_as_uint(x));
    }
}
__device__ void raise(float* high, float x) {
    if (x > *static_cast<volatile float*>(high)) {
        if (__float_as_int(x) >= 0)
            atomicMax(reinterpret_cast<int*>(high), __float_as_int(x));
        else
            atomicMin(reinterpret_cast<unsigned*>(high), __float_as_uint(x));
    }
}

// Each thread keeps what it found of one component until it meets another; a warp that ends in one component, as most
// do, adds it up before the atomics.
__global__ void measure_kernel(const float* vertices, const int32_t* faces, const int32_t* labels, int64_t num_faces,
                               const uint64_t* largest, ExactSum* sums, Sizes sizes) {
    const FixedPoint fixed(*largest, num_faces);
    const float inf = __builtin_inff();
    int32_t label = -1;
    ExactSum area{0, 0};
    unsigned long long count = 0;
    float low[3] = {inf, inf, inf}, high[3] = {-inf, -inf, -inf};
    const auto flush = [&] {
        if (label < 0) return;
        add(sums + label, area);
        atomicAdd(reinterpret_cast<unsigned long long*>(sizes.face_counts + label), count);
        for (int k = 0; k < 3; ++k) {
            lower(sizes.lows + 3 * int64_t{label} + k, low[k]);
            raise(sizes.highs + 3 * int64_t{label} + k, high[k]);
        }
    };
    TK_GRID_STRIDE(f, num_faces) {
        if (labels[f] != label) {
            flush();
            label = labels[f];
            area = {0, 0};
            count = 0;
            for (int k = 0; k < 3; ++k) low[k] = inf, high[k] = -inf;
        }
        ++count;
        const double own = face_area(vertices, faces + 3 * f);
        if (own > 0 && isfinite(own)) area += fixed.split(own);
        for (int i = 0; i < 3; ++i)
            for (int k = 0; k < 3; ++k) {
                const float x = vertices[3 * int64_t{faces[3 * f + i]} + k];
                low[k] = x < low[k] ? x : low[k];
                high[k] = x > high[k] ? x : high[k];
            }
    }
    if (__all_sync(~0u, label == __shfl_sync(~0u, label, 0))) {
        for (int step = 16; step > 0; step /= 2) {
            area += shuffled(area, step);
            count += __shfl_down_sync(~0u, count, step);
            for (int k = 0; k < 3; ++k) {
                low[k] = fminf(low[k], __shfl_down_sync(~0u, low[k], step));
                high[k] = fmaxf(high[k], __shfl_down_sync(~0u, high[k], step));
            }
        }
        if (threadIdx.x % 32 != 0) return;
    }
    flush();
}

__global__ void areas_kernel(const uint64_t* largest, int64_t num_faces, const ExactSum* sums, int64_t count, double* areas) {
    const FixedPoint fixed(*largest, num_faces);
    TK_GRID_STRIDE(c, count) areas[c] = fixed.value(sums[c]);
}

}  // namespace
}  // namespace tk::mesh

using namespace tk;
using namespace tk::mesh;

TK_API int tk_mesh_component_sizes(const float* vertices, const int32_t* faces, const int32_t* labels, int64_t num_faces,
                                   int64_t num_components, int64_t* face_counts, double* areas, float* lows, float* highs,
                                   void* scratch, int64_t* scratch_bytes, int device, void* stream) {
    return guarded_on(device, [&] {
        Scratch room(scratch, scratch_bytes);
        uint64_t* largest = room.take<uint64_t>(1);
        ExactSum* sums = room.take<ExactSum>(num_components);
        if (room.only_measured()) return;

        const cudaStream_t s = as_stream(stream);
        const Sizes sizes{face_counts, areas, lows, highs};
        TK_LAUNCH(clear_sizes_kernel, num_components, s, sizes, num_components);
        TK_CUDA(cudaMemsetAsync(largest, 0, sizeof *largest, s));
        if (num_components > 0) TK_CUDA(cudaMemsetAsync(sums, 0, static_cast<size_t>(num_components) * sizeof(ExactSum), s));
        if (num_faces > 0) largest_area_kernel<<<few_blocks(num_faces), block_size, 0, s>>>(vertices, faces, num_faces, largest);
        if (num_faces > 0)
            measure_kernel<<<few_blocks(num_faces), block_size, 0, s>>>(vertices, faces, labels, num_faces, largest, sums, sizes);
        TK_LAUNCH(areas_kernel, num_components, s, largest, num_faces, sums, num_components, areas);
    });
}
