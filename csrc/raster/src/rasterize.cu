// Rasterisation on CUDA: each face writes (depth, face) into 64-bit keys by atomic minimum, then each pixel works out
// what its key names. A minimum does not depend on the order of its operands, so the result is the same bits in every
// run, and the arithmetic is that of the CPU (triangle.hpp), so it is the same on both devices.
//
// Faces with a small box are drawn by one thread each (S. Laine, T. Karras: High-performance software rasterization on
// GPUs, HPG 2011, on why one size does not fit all). The others are queued and drawn by warps, one for each tile that
// their box touches; queue and tile numbers come from one atomic counter, so the numbers ascend along the queue.
#include "trellis/cuda.cuh"
#include "trellis_raster.h"
#include "triangle.hpp"
#include "weights.hpp"

using namespace tk::raster;

namespace {

constexpr int block = 256, warp = 32;
constexpr int64_t small_box = 256;  // pixels
// At most 2^16 tiles an image, so that tiles of all faces (fewer than 2^24) are counted in 40 bits.
constexpr int cuda_tile_bits = 7;
constexpr int count_shift = 40;
constexpr unsigned long long no_key = ~0ull;

using Key = unsigned long long;

// The caller's scratch memory, cut up.
struct Scratch {
    Key* keys;       // [height, width]
    Key* counter;    // faces queued << count_shift | their tiles
    Key* begin;      // [faces]: number of the first tile of each queued face
    int32_t* queue;  // [faces]

    Scratch(void* memory, int64_t pixels, int64_t faces)
        : keys(static_cast<Key*>(memory)), counter(keys + pixels), begin(counter + 1),
          queue(reinterpret_cast<int32_t*>(begin + faces)) {}
    static int64_t bytes(int64_t pixels, int64_t faces) { return (pixels + 1 + faces) * 8 + faces * 4; }
};

struct Mesh {
    Viewport view;
    const float* clip;
    const int32_t* faces;
    int64_t num_vertices, num_faces;
    const float* previous;
    Scratch scratch;
};

// Orders floats as unsigned integers; no NaN comes here, and adding zero makes one of the two zeros.
__device__ uint32_t ordered(float z) {
    const uint32_t bits = __float_as_uint(z + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ float unordered(uint32_t bits) {
    return __uint_as_float(bits >> 31 ? bits & 0x7fffffffu : ~bits);
}

template <bool peel>
__device__ void draw_pixel(const Mesh& mesh, const Triangle& t, int32_t number, int32_t x, int32_t y) {
    const float z = depth_at(t, x, y);
    if (!(z < INFINITY)) return;
    const int64_t pixel = int64_t{y} * mesh.view.width + x;
    if (peel) {
        const float2 last = *reinterpret_cast<const float2*>(mesh.previous + pixel * 4 + 2);
        if (!(last.y >= 1)) return;  // nothing is behind nothing
        if (!(z > last.x || (z == last.x && number > static_cast<int32_t>(fminf(last.y, 2147483520.0f))))) return;
    }
    const Key key = static_cast<Key>(ordered(z)) << 32 | static_cast<uint32_t>(number);
    atomicMin(mesh.scratch.keys + pixel, key);
}

// Draws the part of a triangle inside `within` with `lanes` threads that each take every lanes-th pixel of blocks
// 8 wide: one thread, or a warp.
template <bool peel, int lanes>
__device__ void draw(const Mesh& mesh, const Projected& a, const Projected& b, const Projected& c, int32_t number,
                     const Box& within, int lane) {
    Triangle t;
    if (!make_triangle(mesh.view, a, b, c, &t)) return;
    t.box.cut(within);
    if (t.box.empty()) return;
    constexpr int columns = lanes == 1 ? 1 : 8, rows = lanes / columns;
    const int64_t half = int64_t{1} << (mesh.view.bits - 1);
    const int32_t x0 = t.box.x0 + lane % columns, y0 = t.box.y0 + lane / columns;
    int64_t row[3], right[3], down[3];
    for (int i = 0; i < 3; ++i) {
        row[i] = t.edges[i].at((int64_t{x0} << mesh.view.bits) + half, (int64_t{y0} << mesh.view.bits) + half);
        right[i] = -int64_t{t.edges[i].dy} * (int64_t{columns} << mesh.view.bits);
        down[i] = int64_t{t.edges[i].dx} * (int64_t{rows} << mesh.view.bits);
    }
    for (int32_t y = y0; y <= t.box.y1; y += rows) {
        int64_t e0 = row[0], e1 = row[1], e2 = row[2];
        bool was_inside = false;
        for (int32_t x = x0; x <= t.box.x1; x += columns) {
            const bool inside = (e0 | e1 | e2) >= 0;
            if (inside) draw_pixel<peel>(mesh, t, number, x, y);
            if (was_inside && !inside) break;  // a triangle is convex
            was_inside = inside;
            e0 += right[0];
            e1 += right[1];
            e2 += right[2];
        }
        for (int i = 0; i < 3; ++i) row[i] += down[i];
    }
}

struct Face {
    Vertex corners[3];
    uint32_t planes;  // that any corner is outside of
    bool seen;

    __device__ Face(const Mesh& mesh, int64_t f) : planes(0), seen(false) {
        uint32_t all = ~0u;
        for (int i = 0; i < 3; ++i) {
            const int32_t v = mesh.faces[f * 3 + i];
            if (v < 0 || v >= mesh.num_vertices) return;
            const float4 p = *reinterpret_cast<const float4*>(mesh.clip + int64_t{v} * 4);
            corners[i] = {p.x, p.y, p.z, p.w};
            const uint32_t outside = mesh.view.outside(corners[i]);
            planes |= outside;
            all &= outside;
        }
        seen = (planes & not_finite) == 0 && all == 0;
    }
};

// What every thread of a warp holds of a face that needs clipping would fill its registers: out of line.
__device__ __noinline__ void clip_out_of_line(const Viewport& view, const Face& face, Fan* fan) {
    clip_to_fan(view, face.corners, face.planes, fan);
}

// Queues a face unless its box is small.
__device__ bool put_off(const Mesh& mesh, int64_t f, const Box& box) {
    if (int64_t{box.x1 - box.x0 + 1} * (box.y1 - box.y0 + 1) <= small_box) return false;
    const Key tiles = static_cast<Key>((box.x1 >> cuda_tile_bits) - (box.x0 >> cuda_tile_bits) + 1) *
                      static_cast<Key>((box.y1 >> cuda_tile_bits) - (box.y0 >> cuda_tile_bits) + 1);
    const Key before = atomicAdd(mesh.scratch.counter, Key{1} << count_shift | tiles);
    const Key at = before >> count_shift;
    mesh.scratch.begin[at] = before & ((Key{1} << count_shift) - 1);
    mesh.scratch.queue[at] = static_cast<int32_t>(f);
    return true;
}

template <bool peel>
__global__ void __launch_bounds__(block) draw_small(Mesh mesh) {
    TK_GRID_STRIDE(f, mesh.num_faces) {
        const Face face(mesh, f);
        if (!face.seen) continue;
        const int32_t number = static_cast<int32_t>(f) + 1;
        if (face.planes == 0) {
            const Projected a = project(mesh.view, face.corners[0]), b = project(mesh.view, face.corners[1]),
                            c = project(mesh.view, face.corners[2]);
            const Box box = pixel_box(mesh.view, a, b, c);
            if (box.empty() || snapped_area(a.sx, a.sy, b.sx, b.sy, c.sx, c.sy) == 0 || put_off(mesh, f, box)) continue;
            draw<peel, 1>(mesh, a, b, c, number, box, 0);
            continue;
        }
        Fan fan;
        clip_out_of_line(mesh.view, face, &fan);
        Box box = Box::none();
        for (int i = 1; fan.drawn >> i != 0; ++i) {
            const Box part = pixel_box(mesh.view, fan.points[0], fan.points[i], fan.points[i + 1]);
            if ((fan.drawn >> i & 1) && !part.empty()) box.add(part);
        }
        if (box.empty() || put_off(mesh, f, box)) continue;
        for (int i = 1; fan.drawn >> i != 0; ++i)
            if (fan.drawn >> i & 1) draw<peel, 1>(mesh, fan.points[0], fan.points[i], fan.points[i + 1], number, box, 0);
    }
}

// Draws the tile of a queued face with one warp.
template <bool peel>
__device__ void draw_tile(const Mesh& mesh, int64_t f, int64_t tile, int lane) {
    const Face face(mesh, f);
    const int32_t number = static_cast<int32_t>(f) + 1;
    Fan fan;
    Box box;
    if (face.planes == 0) {
        for (int i = 0; i < 3; ++i) fan.points[i] = project(mesh.view, face.corners[i]);
        fan.drawn = 2;
        box = pixel_box(mesh.view, fan.points[0], fan.points[1], fan.points[2]);
    } else {
        clip_out_of_line(mesh.view, face, &fan);
        box = Box::none();
        for (int i = 1; fan.drawn >> i != 0; ++i) {
            const Box part = pixel_box(mesh.view, fan.points[0], fan.points[i], fan.points[i + 1]);
            if ((fan.drawn >> i & 1) && !part.empty()) box.add(part);
        }
    }
    const int64_t across = (box.x1 >> cuda_tile_bits) - (box.x0 >> cuda_tile_bits) + 1;
    const int32_t x = static_cast<int32_t>((box.x0 >> cuda_tile_bits) + tile % across) << cuda_tile_bits;
    const int32_t y = static_cast<int32_t>((box.y0 >> cuda_tile_bits) + tile / across) << cuda_tile_bits;
    const Box within{x, y, x + (1 << cuda_tile_bits) - 1, y + (1 << cuda_tile_bits) - 1};
    for (int i = 1; fan.drawn >> i != 0; ++i)
        if (fan.drawn >> i & 1)
            draw<peel, warp>(mesh, fan.points[0], fan.points[i], fan.points[i + 1], number, within, lane);
}

template <bool peel>
__global__ void __launch_bounds__(block) draw_queued(Mesh mesh) {
    const Key counter = *mesh.scratch.counter;
    const int64_t queued = static_cast<int64_t>(counter >> count_shift);
    const int64_t tiles = static_cast<int64_t>(counter & ((Key{1} << count_shift) - 1));
    const int64_t warps = int64_t{gridDim.x} * (block / warp);
    const int64_t share = (tiles + warps - 1) / warps;
    const int64_t mine = int64_t{blockIdx.x} * (block / warp) + threadIdx.x / warp;
    const int64_t first = mine * share, last = lower(tiles, first + share);
    if (first >= last) return;
    int64_t low = 0, high = queued;  // the last face that begins at or before `first`
    while (high - low > 1) {
        const int64_t middle = (low + high) / 2;
        (static_cast<int64_t>(mesh.scratch.begin[middle]) <= first ? low : high) = middle;
    }
    for (int64_t tile = first; tile < last; ++tile) {
        while (low + 1 < queued && static_cast<int64_t>(mesh.scratch.begin[low + 1]) <= tile) ++low;
        draw_tile<peel>(mesh, mesh.scratch.queue[low], tile - static_cast<int64_t>(mesh.scratch.begin[low]),
                        static_cast<int>(threadIdx.x % warp));
    }
}

// Blocks of 32 x 8 pixels, so that neighbours share the vertices they load.
__global__ void __launch_bounds__(block) write(Mesh mesh, float* rast) {
    const int32_t x = static_cast<int32_t>(blockIdx.x * 32 + threadIdx.x);
    const int32_t y = static_cast<int32_t>(blockIdx.y * 8 + threadIdx.y);
    if (x >= mesh.view.width || y >= mesh.view.height) return;
    const int64_t pixel = int64_t{y} * mesh.view.width + x;
    const Key key = mesh.scratch.keys[pixel];
    float4 out{0, 0, 0, 0};
    if (key != no_key) {
        const int32_t number = static_cast<int32_t>(key & 0xffffffffu);
        const int32_t* face = mesh.faces + (int64_t{number} - 1) * 3;
        float v[3][4];
        for (int i = 0; i < 3; ++i) {
            const float4 p = *reinterpret_cast<const float4*>(mesh.clip + int64_t{face[i]} * 4);
            v[i][0] = p.x;
            v[i][1] = p.y;
            v[i][2] = p.z;
            v[i][3] = p.w;
        }
        pixel_weights(v[0], v[1], v[2], pixel_centre(x, mesh.view.width), pixel_centre(y, mesh.view.height), &out.x,
                      &out.y);
        out.z = unordered(static_cast<uint32_t>(key >> 32));
        out.w = static_cast<float>(number);
    }
    *reinterpret_cast<float4*>(rast + pixel * 4) = out;
}

template <bool peel>
void draw_image(const Mesh& mesh, float* rast, int processors, cudaStream_t stream) {
    const int64_t pixels = int64_t{mesh.view.width} * mesh.view.height;
    TK_CUDA(cudaMemsetAsync(mesh.scratch.keys, 0xff, sizeof(Key) * static_cast<size_t>(pixels), stream));
    TK_CUDA(cudaMemsetAsync(mesh.scratch.counter, 0, sizeof(Key), stream));
    if (mesh.num_faces > 0) {
        draw_small<peel><<<tk::grid_size(mesh.num_faces, block), block, 0, stream>>>(mesh);
        draw_queued<peel><<<static_cast<unsigned>(processors) * 4, block, 0, stream>>>(mesh);
    }
    const dim3 grid(static_cast<unsigned>(mesh.view.width + 31) / 32, static_cast<unsigned>(mesh.view.height + 7) / 8);
    write<<<grid, dim3(32, 8), 0, stream>>>(mesh, rast);
}

}  // namespace

TK_API int tk_raster_rasterize_scratch(int64_t num_faces, int64_t height, int64_t width, int64_t* bytes, int device,
                                       void*) {
    return tk::guarded_on(device, [&] { *bytes = Scratch::bytes(height * width, num_faces); });
}

TK_API int tk_raster_rasterize(const float* clip, const int32_t* faces, int64_t batch, int64_t num_vertices,
                               int64_t num_faces, int64_t height, int64_t width, int subpixel_bits,
                               const float* previous, void* scratch, float* rast, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        check_rasterize(num_faces, height, width, subpixel_bits);
        int processors = 0;
        TK_CUDA(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
        for (int64_t b = 0; b < batch; ++b) {
            const int64_t offset = b * height * width * 4;
            const Mesh mesh{Viewport(width, height, subpixel_bits), clip + b * num_vertices * 4, faces, num_vertices,
                            num_faces, previous == nullptr ? nullptr : previous + offset,
                            Scratch(scratch, height * width, num_faces)};
            const auto queue = static_cast<cudaStream_t>(stream);
            if (previous == nullptr)
                draw_image<false>(mesh, rast + offset, processors, queue);
            else
                draw_image<true>(mesh, rast + offset, processors, queue);
        }
    });
}
