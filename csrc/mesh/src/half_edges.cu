#include "half_edges.cuh"

namespace tk::mesh {
namespace {

__global__ void keys_kernel(const int32_t* faces, int64_t num_faces, int bits, uint64_t none, uint64_t* key, int32_t* half) {
    TK_GRID_STRIDE(h, 3 * num_faces) {
        const int32_t* face = faces + h / 3 * 3;
        const int i = static_cast<int>(h % 3);
        const uint32_t a = face[i], b = face[i == 2 ? 0 : i + 1], c = face[i == 0 ? 2 : i - 1];
        const bool proper = a != b && b != c && c != a;
        key[h] = proper ? static_cast<uint64_t>(min(a, b)) << bits | max(a, b) : none;
        half[h] = static_cast<int32_t>(h);
    }
}

}  // namespace

void HalfEdges::sort(const int32_t* faces, cudaStream_t stream) {
    TK_LAUNCH(keys_kernel, count_, stream, faces, num_faces_, bits_, none(), sorter_.keys(), sorter_.values());
    sorter_.sort(stream);
}

}  // namespace tk::mesh
