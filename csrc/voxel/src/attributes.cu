// Material attributes of voxels on the GPU; see attributes.cpp for what it computes.
//
// A thread takes one triangle in one brick of voxels and lists the voxels that it stamps; when averaging by area, one
// triangle in one slab of a brick, and lists the samples of its pieces. Threads count first and fill then; stable sorts
// by voxel keep the order of the triangles, and one thread for each voxel evaluates and adds up its list. The bytes are
// those of the CPU (this file is compiled without fused multiply-add).
#include <memory>

#include "attributes_crossings.hpp"
#include "attributes_mean.hpp"
#include "attributes_tables.hpp"
#include "device_lists.cuh"
#include "trellis_voxel.h"

namespace tk::voxel {
namespace {

TK_INLINE uint64_t key_of(const Scene& scene, const Vec3i& c) {
    return (static_cast<uint64_t>(c.x) * static_cast<uint64_t>(scene.grid[1]) + static_cast<uint64_t>(c.y)) *
               static_cast<uint64_t>(scene.grid[2]) + static_cast<uint64_t>(c.z);
}
TK_INLINE Vec3i voxel_of(const Scene& scene, uint64_t key) {
    const uint64_t y = static_cast<uint64_t>(scene.grid[1]), z = static_cast<uint64_t>(scene.grid[2]), row = key / z;
    return {static_cast<int>(row / y), static_cast<int>(row % y), static_cast<int>(key % z)};
}

// Triangles and the bricks that each may reach into, in the order of the triangles.
struct Tasks {
    uint32_t* triangles;
    uint64_t* bricks;  // three times 16 bits; in a list of slabs, above them the slab's number along x in its brick
    int64_t n;

    __device__ void window(const Scene& scene, int64_t i, Vec3i& low, Vec3i& high) const {
        const uint64_t brick = bricks[i];
        low = {static_cast<int>(brick >> 32 & 0xffff), static_cast<int>(brick >> 16 & 0xffff), static_cast<int>(brick & 0xffff)};
        low = {low.x * brick_side, low.y * brick_side, low.z * brick_side};
        for (int a = 0; a < 3; ++a) high[a] = lesser(low[a] + brick_side, scene.grid[a]);
    }
    __device__ void slab_window(const Scene& scene, int64_t i, Vec3i& low, Vec3i& high) const {
        window(scene, i, low, high);
        low.x += static_cast<int>(bricks[i] >> 48);
        high.x = low.x + 1;
    }
};

template <class Touch>
__device__ void bricks_of(const Scene& scene, int64_t triangle, Touch&& touch) {
    const TexturedTriangle t(scene, triangle);
    if (t.area > 0.0) for_each_brick(t.position, scene.grid, touch);
}

__global__ void count_bricks(Scene scene, int64_t* counts) {
    TK_GRID_STRIDE(i, scene.face_count) {
        int64_t count = 0;
        bricks_of(scene, i, [&](const Vec3i&) { ++count; });
        counts[i] = count;
    }
}

__global__ void list_bricks(Scene scene, const int64_t* begins, Tasks tasks) {
    TK_GRID_STRIDE(i, scene.face_count) {
        int64_t at = begins[i];
        bricks_of(scene, i, [&](const Vec3i& b) {
            tasks.triangles[at] = static_cast<uint32_t>(i);
            tasks.bricks[at++] = static_cast<uint64_t>(b.x) << 32 | static_cast<uint64_t>(b.y) << 16 | static_cast<uint64_t>(b.z);
        });
    }
}

template <class Stamp>
__device__ void stamp_all(const Scene& scene, const Tasks& tasks, int64_t i, Stamp&& stamp) {
    Vec3i low, high;
    tasks.window(scene, i, low, high);
    const TexturedTriangle triangle(scene, tasks.triangles[i]);
    for_each_crossing(triangle.position, scene.grid, low, high, stamp);
}

__global__ void count_stamps(Scene scene, Tasks tasks, int64_t* counts) {
    TK_GRID_STRIDE(i, tasks.n) {
        int count = 0;
        stamp_all(scene, tasks, i, [&](const Vec3i&) { ++count; });
        counts[i] = count;
    }
}

__global__ void list_stamps(Scene scene, Tasks tasks, const int64_t* begins, uint64_t* keys, uint32_t* values) {
    TK_GRID_STRIDE(i, tasks.n) {
        int64_t at = begins[i];
        stamp_all(scene, tasks, i, [&](const Vec3i& voxel) {
            keys[at] = key_of(scene, voxel);
            values[at++] = tasks.triangles[i];
        });
    }
}

// The slabs of a task's brick that its triangle reaches into, with their first and last voxel along x.
__device__ bool slabs_of_task(const Scene& scene, const Tasks& tasks, int64_t i, Vec3i& low, int& first, int& last) {
    Vec3i high;
    tasks.window(scene, i, low, high);
    const TexturedTriangle t(scene, tasks.triangles[i]);
    const double a = t.position[0].x, b = t.position[1].x, c = t.position[2].x;
    return slabs_of({lesser(a, b, c), greater(a, b, c)}, low.x, high.x, first, last);
}

__global__ void count_slabs(Scene scene, Tasks tasks, int64_t* counts) {
    TK_GRID_STRIDE(i, tasks.n) {
        Vec3i low;
        int first, last;
        counts[i] = slabs_of_task(scene, tasks, i, low, first, last) ? last - first + 1 : 0;
    }
}

__global__ void list_slabs(Scene scene, Tasks tasks, const int64_t* begins, Tasks slabs) {
    TK_GRID_STRIDE(i, tasks.n) {
        Vec3i low;
        int first, last;
        if (!slabs_of_task(scene, tasks, i, low, first, last)) continue;
        int64_t at = begins[i];
        for (int x = first; x <= last; ++x, ++at) {
            slabs.triangles[at] = tasks.triangles[i];
            slabs.bricks[at] = tasks.bricks[i] | static_cast<uint64_t>(x - low.x) << 48;
        }
    }
}

// Calls sample(key of the voxel, Sample) for the samples of a triangle in a slab.
template <class Visit>
__device__ void sample_all(const Scene& scene, const Tasks& slabs, int64_t i, Visit&& sample) {
    Vec3i low, high;
    slabs.slab_window(scene, i, low, high);
    const TexturedTriangle triangle(scene, slabs.triangles[i]);
    const double uv_area = triangle.uv_area(), finest = triangle.finest_texture();
    for_each_piece(triangle, low, high, [&](const Vec3i& voxel, const Polygon& piece) {
        const uint64_t key = key_of(scene, voxel);
        for_each_sample(triangle, piece, uv_area, finest, [&](const Sample& s) { sample(key, s); });
    });
}

__global__ void count_samples(Scene scene, Tasks slabs, int64_t* counts) {
    TK_GRID_STRIDE(i, slabs.n) {
        int64_t count = 0;
        sample_all(scene, slabs, i, [&](uint64_t, const Sample&) { ++count; });
        counts[i] = count;
    }
}

struct TriangleSample {
    Sample sample;
    uint32_t triangle;
};

__global__ void list_samples(Scene scene, Tasks slabs, const int64_t* begins, TriangleSample* samples, uint64_t* keys, uint32_t* values) {
    TK_GRID_STRIDE(i, slabs.n) {
        int64_t at = begins[i];
        sample_all(scene, slabs, i, [&](uint64_t key, const Sample& s) {
            samples[at] = {s, slabs.triangles[i]};
            keys[at] = key;
            values[at] = static_cast<uint32_t>(at);
            ++at;
        });
    }
}

__global__ void halve_texture(Texture texture, int level, uint16_t* out) {
    const int width = texture.width_of(level);
    TK_GRID_STRIDE(i, int64_t{width} * texture.height_of(level)) {
        texture.halve(level, static_cast<int>(i % width), static_cast<int>(i / width), out + i * texture.channels);
    }
}

struct Result {
    Scene scene;
    double log2_voxel;          // of the largest side of a voxel
    Runs voxels;
    const uint32_t* triangles;  // of each stamp, in the order of `voxels`
    const TriangleSample* samples = nullptr;
    Pairs by_voxel;  // numbers of samples by row of the voxel; rows from voxels.n on are of none
};

__device__ void add_crossings(const Result& from, int64_t row, const Vec3i& voxel, Mean& mean) {
    const Scene& scene = from.scene;
    for (uint32_t e = from.voxels.begins[row]; e < from.voxels.begins[row + 1]; ++e) {
        // One triangle stamps a voxel several times in a row.
        if (e > from.voxels.begins[row] && from.triangles[e] == from.triangles[e - 1]) continue;
        const TexturedTriangle triangle(scene, from.triangles[e]);
        const double log2_side = from.log2_voxel + triangle.log2_uv_density();
        const Barycentric b = triangle.projected(scene.centre(voxel));
        mean.add(triangle.evaluate(b.b1, b.b2, log2_side), 1.0);
    }
}

__device__ void add_samples(const Result& from, int64_t row, Mean& mean) {
    const Pairs& list = from.by_voxel;
    const uint64_t key = static_cast<uint64_t>(row);
    for (int64_t i = lower_bound(list.keys, list.n, key); i < list.n && list.keys[i] == key; ++i) {
        const TriangleSample s = from.samples[list.values[i]];
        const TexturedTriangle triangle(from.scene, s.triangle);
        mean.add_piece(triangle.evaluate(s.sample.b1, s.sample.b2, s.sample.log2_side), s.sample.weight, triangle.material());
    }
}

__global__ void write_voxels(Result from, int32_t* coords, uint8_t* attributes) {
    TK_GRID_STRIDE(row, from.voxels.n) {
        const Vec3i voxel = voxel_of(from.scene, from.voxels.keys[row]);
        Mean mean;
        if (from.scene.average == Average::area) add_samples(from, row, mean);
        else add_crossings(from, row, voxel, mean);
        if (!(mean.weight > 0.0)) {
            // See Brick::voxelize: the last triangle that crosses here, at its point nearest the centre.
            const TexturedTriangle triangle(from.scene, from.triangles[from.voxels.begins[row + 1] - 1]);
            const Barycentric b = triangle.closest(from.scene.centre(voxel));
            mean.add(triangle.evaluate(b.b1, b.b2, -HUGE_VAL), 1.0);
        }
        for (int axis = 0; axis < 3; ++axis) coords[row * 3 + axis] = voxel[axis];
        mean.quantise(attributes + row * out_size, from.scene.average == Average::area);
    }
}

void refuse_from(int64_t count, const char* what) {
    require(count < int64_t{1} << 32,
            format("grid_size: the surface has %lld %s in this grid, expected fewer than 2^32 on a CUDA device; use the CPU",
                   static_cast<long long>(count), what));
}

template <class T>
T* copied(const Workspace& workspace, const T* from, int64_t count) {
    T* to = workspace.take<T>(count);
    if (count > 0) TK_CUDA(cudaMemcpyAsync(to, from, static_cast<size_t>(count) * sizeof(T), cudaMemcpyHostToDevice, workspace.stream));
    return to;
}

const Texture* copied_with_levels(const Workspace& workspace, std::vector<Texture> textures) {
    for (Texture& texture : textures) {
        uint16_t* values = workspace.take<uint16_t>(texture.level_values());
        texture.levels = values;
        for (int level = 1; level <= texture.last_level; ++level)
            launch(int64_t{texture.width_of(level)} * texture.height_of(level), workspace.stream, halve_texture, texture, level,
                   values + texture.begins[level]);
    }
    return copied(workspace, textures.data(), static_cast<int64_t>(textures.size()));
}

Tasks list_tasks(const Workspace& workspace, const Scene& scene) {
    const Counts counts(workspace, scene.face_count);
    launch(counts.n, workspace.stream, count_bricks, scene, counts.at);
    counts.scan(workspace);
    Tasks tasks;
    tasks.n = counts.total(workspace);
    tasks.triangles = workspace.take<uint32_t>(tasks.n);
    tasks.bricks = workspace.take<uint64_t>(tasks.n);
    launch(counts.n, workspace.stream, list_bricks, scene, counts.at, tasks);
    return tasks;
}

void find_voxels(const Workspace& workspace, const Tasks& tasks, Result& to) {
    const Counts counts(workspace, tasks.n);
    launch(tasks.n, workspace.stream, count_stamps, to.scene, tasks, counts.at);
    counts.scan(workspace);
    const int64_t total = counts.total(workspace);
    refuse_from(total, "voxels around crossings with lattice lines");
    Pairs stamps(workspace, total);
    launch(tasks.n, workspace.stream, list_stamps, to.scene, tasks, counts.at, stamps.keys, stamps.values);
    stamps.sort(workspace, bits_below(key_of(to.scene, {to.scene.grid[0], 0, 0})));
    to.voxels = find_runs(workspace, stamps);
    to.triangles = stamps.values;
}

Tasks list_slabs_of(const Workspace& workspace, const Scene& scene, const Tasks& tasks) {
    const Counts counts(workspace, tasks.n);
    launch(tasks.n, workspace.stream, count_slabs, scene, tasks, counts.at);
    counts.scan(workspace);
    Tasks slabs;
    slabs.n = counts.total(workspace);
    slabs.triangles = workspace.take<uint32_t>(slabs.n);
    slabs.bricks = workspace.take<uint64_t>(slabs.n);
    launch(tasks.n, workspace.stream, list_slabs, scene, tasks, counts.at, slabs);
    return slabs;
}

void find_samples(const Workspace& workspace, const Tasks& slabs, Result& to) {
    const Counts counts(workspace, slabs.n);
    launch(slabs.n, workspace.stream, count_samples, to.scene, slabs, counts.at);
    counts.scan(workspace);
    const int64_t total = counts.total(workspace);
    refuse_from(total, "pieces");
    TriangleSample* samples = workspace.take<TriangleSample>(total);
    to.by_voxel = Pairs(workspace, total);
    launch(slabs.n, workspace.stream, list_samples, to.scene, slabs, counts.at, samples, to.by_voxel.keys, to.by_voxel.values);
    to.samples = samples;
    sort_by_run(workspace, to.voxels, to.by_voxel);  // those in voxels that are not occupied go to the end
}

}  // namespace
}  // namespace tk::voxel

using namespace tk::voxel;

TK_API int tk_voxel_attributes_begin(const float* vertices, const int32_t* faces, int64_t face_count, const float* normals, const float* uvs,
                                     const float* colors, const int32_t* face_materials, const float* material_factors_,
                                     const int32_t* material_indices_, int64_t material_count, const uint8_t* texels, int64_t texel_bytes,
                                     const int64_t* textures, int64_t texture_count, const double* voxel_size, const int32_t* grid_size,
                                     double mip_bias, int average, void* allocate, void** state, int64_t* count, int device,
                                     void* stream) {
    *state = nullptr;
    return tk::guarded_on(device, [&] {
        const Workspace workspace(allocate, static_cast<cudaStream_t>(stream));
        const std::vector<Texture> table = read_textures(texels, texel_bytes, textures, texture_count);
        check_materials(material_indices_, material_count, table);
        auto result = std::make_unique<Result>();
        result->scene = make_scene({vertices, faces, face_count, normals, uvs, colors, face_materials, nullptr, nullptr, nullptr, {}, {},
                                    mip_bias, {}},
                                   voxel_size, grid_size, average);
        result->scene.factors = copied(workspace, material_factors_, material_count * material_factors);
        result->scene.indices = copied(workspace, material_indices_, material_count * material_indices);
        result->scene.textures = copied_with_levels(workspace, table);
        result->log2_voxel = log2_of(greater(voxel_size[0], voxel_size[1], voxel_size[2]));
        const Tasks tasks = list_tasks(workspace, result->scene);
        find_voxels(workspace, tasks, *result);
        if (result->scene.average == Average::area && result->voxels.n > 0)
            find_samples(workspace, list_slabs_of(workspace, result->scene, tasks), *result);
        *count = result->voxels.n;
        *state = result.release();
    });
}

TK_API int tk_voxel_attributes_fill(const void* state, int32_t* coords, uint8_t* attributes, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        const Result& from = *static_cast<const Result*>(state);
        launch(from.voxels.n, static_cast<cudaStream_t>(stream), write_voxels, from, coords, attributes);
    });
}

TK_API int tk_voxel_attributes_end(void* state, int, void*) {
    return tk::guarded([&] { delete static_cast<Result*>(state); });
}
