// The stages of the remesher on the device. What each does, and in which order it numbers things, is said where the CPU
// does the same (remesh_field.hpp, remesh_surface.hpp); the results are the same bits.
#pragma once

#include "bvh_closest.cuh"
#include "remesh_cells.hpp"
#include "remesh_patch.hpp"
#include "remesh_quads.hpp"

namespace tk::mesh {

// Device memory that the caller allocates when it is asked for; it belongs to the caller and lives as long as the result.
class Arena {
public:
    using Allocate = void* (*)(int64_t bytes);
    explicit Arena(void* allocate) : allocate_(reinterpret_cast<Allocate>(allocate)) {
        require(allocate != nullptr, "allocate: expected a function, got null");
    }
    template <class T>
    T* take(int64_t n) const {
        const int64_t bytes = std::max<int64_t>(n, 1) * static_cast<int64_t>(sizeof(T));
        void* at = allocate_(bytes);
        if (at == nullptr) throw Error(TK_OUT_OF_MEMORY, format("no %lld bytes of device memory", static_cast<long long>(bytes)));
        return static_cast<T*>(at);
    }
    // What `make(scratch)` carves.
    template <class Make>
    auto carve(const Make& make) const {
        int64_t bytes = 0;
        Scratch measure(nullptr, &bytes);
        make(measure);
        measure.only_measured();
        Scratch room(take<char>(bytes), &bytes);
        return make(room);
    }
    // Replaces n counts by their exclusive sums and returns the last of these.
    int32_t scan(int32_t* counts, int64_t n, cudaStream_t stream) const {
        carve([&](Scratch& room) { return Scanner(room, n); }).exclusive_sum(counts, stream);
        return read_back(counts + n - 1, stream);
    }

private:
    Allocate allocate_;
};

struct DeviceBrick {
    int32_t x, y, z;  // in bricks
    int32_t slot;     // of a face near its middle
};

struct DeviceField {
    Frame frame;
    int32_t count;              // of bricks
    const DeviceBrick* bricks;
    const int32_t* index;       // [brick position]
    const float* value;         // [brick][corner]
    const Bits* inside;         // [brick]
    const uint8_t* hollow;      // [brick position]
};

struct DeviceSurface {
    int32_t num_vertices;
    int32_t num_quads;
    Vec3d* vertices;
    Quad* quads;
};

struct DeviceTriangles {
    int64_t count;
    int32_t* corners;
    int64_t held_back;
};

DeviceField sample_distance(const Arena& arena, const BvhView& tree, const Frame& frame, double band, cudaStream_t stream);
void mark_inside(const Arena& arena, DeviceField& field, bool fill, cudaStream_t stream);
DeviceSurface extract_surface(const Arena& arena, const DeviceField& field, cudaStream_t stream);
DeviceTriangles project_and_cut(const Arena& arena, const BvhView& tree, double project, DeviceSurface& surface, cudaStream_t stream);

}  // namespace tk::mesh
