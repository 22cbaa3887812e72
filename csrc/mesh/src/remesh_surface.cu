// Dual contouring on the device: a block of threads a brick, a thread for each of its cells.
#include "remesh_device.cuh"

namespace tk::mesh {
namespace {

constexpr int threads = brick_corners;
constexpr int warps = threads / 32;

// The corners of a brick with one layer around it, made by a whole block of threads.
struct DevicePatch : PatchCorners {
    int32_t brick[27];  // numbers of the brick and its neighbours, x fastest; -1 where none is stored
    uint8_t hollow[27];

    // Whether corners differ at all; else nothing more is read.
    __device__ bool load(const DeviceField& field, const DeviceBrick& centre) {
        const int t = static_cast<int>(threadIdx.x);
        const int64_t n = field.frame.bricks;
        if (t < 27) {
            const int64_t x = centre.x + t % 3 - 1, y = centre.y + t / 3 % 3 - 1, z = centre.z + t / 9 - 1;
            const bool exists = x >= 0 && y >= 0 && z >= 0 && x < n && y < n && z < n;
            const int64_t at = exists ? field.frame.at(x, y, z) : 0;
            brick[t] = exists ? field.index[at] : -1;
            hollow[t] = exists && field.hollow[at];
        }
        __syncthreads();
        uint64_t word = 0;
        const bool reads = t < 27 * brick_side;
        if (reads) {
            const int32_t b = brick[t / brick_side];
            word = b >= 0 ? field.inside[b].word[t % brick_side] : hollow[t / brick_side] ? ~uint64_t{0} : 0;
        }
        const int some = __syncthreads_or(reads && word != 0), gaps = __syncthreads_or(reads && word != ~uint64_t{0});
        if (!some || !gaps) return false;
        for (int c = t; c < patch_side * patch_side * patch_side; c += threads) {
            const int x = c % patch_side, y = c / patch_side % patch_side, z = c / (patch_side * patch_side);
            const int bx = x + brick_side - 1, by = y + brick_side - 1, bz = z + brick_side - 1;
            const int at = bx / brick_side + 3 * (by / brick_side) + 9 * (bz / brick_side);
            const int corner = ((bz % brick_side) * brick_side + by % brick_side) * brick_side + bx % brick_side;
            const int32_t b = brick[at];
            inside[z][y][x] = b >= 0 ? field.inside[b].get(corner) : hollow[at];
            value[z][y][x] = b >= 0 ? field.value[int64_t{b} * brick_corners + corner] : 2.0f;
        }
        __syncthreads();
        return true;
    }

    __device__ bool crosses(int x, int y, int z, int axis) const {
        return inside[z][y][x] != inside[z + (axis == 2)][y + (axis == 1)][x + (axis == 0)];
    }
};

__device__ void own_corner(int& x, int& y, int& z) {
    const int t = static_cast<int>(threadIdx.x);
    x = t % brick_side + 1, y = t / brick_side % brick_side + 1, z = t / (brick_side * brick_side) + 1;
}

// Exclusive sum of `value` over the threads of the block; *total gets that of all.
__device__ int block_sum(int value, int* total) {
    __shared__ int partial[warps + 1];
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    int sum = value;
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, sum, step);
        if (lane >= step) sum += other;
    }
    if (lane == 31) partial[warp] = sum;
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < warps; ++w) {
        before += w < warp ? partial[w] : 0;
        all += partial[w];
    }
    __syncthreads();
    *total = all;
    return before + sum - value;
}

struct Counts {
    int32_t *cells, *vertices, *quads;  // [brick + 1]
    unsigned long long* totals;         // of vertices and quads
};

__global__ void __launch_bounds__(threads) count_kernel(DeviceField field, const CellLoops* table, Counts counts, Bits* active) {
    __shared__ DevicePatch patch;
    const int64_t b = blockIdx.x;
    const int t = static_cast<int>(threadIdx.x);
    if (b == field.count) {
        if (t == 0) counts.cells[b] = counts.vertices[b] = counts.quads[b] = 0;
        return;
    }
    int is_active = 0, loops = 0, quads = 0;
    if (patch.load(field, field.bricks[b])) {
        int x, y, z;
        own_corner(x, y, z);
        const int mask = patch.mask(x, y, z);
        is_active = mask != 0 && mask != 255;
        loops = is_active ? table[mask].loops : 0;
        for (int axis = 0; axis < 3; ++axis) quads += patch.crosses(x, y, z, axis);
    }
    const unsigned word = __ballot_sync(~0u, is_active);
    if (t % 32 == 0) reinterpret_cast<uint32_t*>(active[b].word)[t / 32] = word;  // little-endian halves of a word
    int cells_total, vertices_total, quads_total;
    block_sum(is_active, &cells_total);
    block_sum(loops, &vertices_total);
    block_sum(quads, &quads_total);
    if (t != 0) return;
    counts.cells[b] = cells_total;
    counts.vertices[b] = vertices_total;
    counts.quads[b] = quads_total;
    if (vertices_total) atomicAdd(counts.totals, static_cast<unsigned long long>(vertices_total));
    if (quads_total) atomicAdd(counts.totals + 1, static_cast<unsigned long long>(quads_total));
}

struct Cells {
    const Bits* active;    // [brick]
    const int32_t* first;  // [brick]: number of its first active cell
    uint8_t* mask;         // [cell]
    int32_t* vertex;       // [cell]: number of its first vertex

    __device__ int64_t number(int64_t brick, int x, int y, int z) const {
        const Bits& bits = active[brick];
        int64_t rank = first[brick];
        for (int k = 0; k < z; ++k) rank += __popcll(bits.word[k]);
        return rank + __popcll(bits.word[z] & ((uint64_t{1} << (x + brick_side * y)) - 1));
    }
};

__global__ void __launch_bounds__(threads) vertices_kernel(DeviceField field, const CellLoops* table, Counts counts, Cells cells,
                                                           Vec3d* vertices) {
    __shared__ DevicePatch patch;
    const int64_t b = blockIdx.x;
    if (counts.cells[b] == counts.cells[b + 1]) return;
    const DeviceBrick brick = field.bricks[b];
    if (!patch.load(field, brick)) return;
    int x, y, z, total;
    own_corner(x, y, z);
    const int mask = patch.mask(x, y, z);
    const bool is_active = mask != 0 && mask != 255;
    const CellLoops& loops = table[mask];
    const int cell = counts.cells[b] + block_sum(is_active, &total);
    int vertex = counts.vertices[b] + block_sum(is_active ? loops.loops : 0, &total);
    if (!is_active) return;
    cells.mask[cell] = static_cast<uint8_t>(mask);
    cells.vertex[cell] = vertex;
    for (int loop = 0; loop < loops.loops; ++loop) {
        Vec3d sum{0, 0, 0};
        int crossings = 0;
        for (int e = 0; e < 12; ++e) {
            if (loops.loop[e] != loop) continue;
            const int axis = e / 4, start = corner_at(axis, 0, e % 2, e / 2 % 2);
            sum += crossing_point(patch, x + (start & 1), y + (start >> 1 & 1), z + (start >> 2), axis);
            ++crossings;
        }
        vertices[vertex++] = patch_position(field.frame, brick.x, brick.y, brick.z, sum * (1.0 / crossings));
    }
}

struct Joints {
    int32_t* count;
    Joint* list;  // in any order; null while they are only counted
};

__global__ void __launch_bounds__(threads) quads_kernel(DeviceField field, const CellLoops* table, Counts counts, Cells cells, Quad* quads,
                                                        Joints joints, int32_t* lost) {
    __shared__ DevicePatch patch;
    const int64_t b = blockIdx.x;
    if (counts.quads[b] == counts.quads[b + 1]) return;
    const DeviceBrick brick = field.bricks[b];
    if (!patch.load(field, brick)) return;
    int x, y, z, total, own = 0;
    own_corner(x, y, z);
    for (int axis = 0; axis < 3; ++axis) own += patch.crosses(x, y, z, axis);
    int64_t number = counts.quads[b] + block_sum(own, &total);
    const int corner[3] = {brick.x * brick_side, brick.y * brick_side, brick.z * brick_side};
    for (int axis = 0; axis < 3; ++axis) {
        if (!patch.crosses(x, y, z, axis)) continue;
        const int start[3] = {x, y, z};
        const bool outward = patch.inside[z][y][x];
        Quad quad{{}, {-1, -1, -1, -1}};
        uint8_t doubled[4] = {};
        for (int k = 0; k < 4; ++k) {
            int at[3];
            const int edge = cell_around(x, y, z, axis, k, at);
            const int32_t home = patch.brick[at[0] / brick_side + 3 * (at[1] / brick_side) + 9 * (at[2] / brick_side)];
            if (home < 0) {
                *lost = 1;
                continue;
            }
            const int64_t cell = cells.number(home, at[0] % brick_side, at[1] % brick_side, at[2] % brick_side);
            const CellLoops& loops = table[cells.mask[cell]];
            quad.vertex[k] = cells.vertex[cell] + loops.loop[edge];
            doubled[k] = loops.doubled;
        }
        for (int k = 0; k < 4; ++k) {
            Joint joint;
            if (!find_joint(patch, field.frame, corner, start, axis, k, doubled[k], doubled[(k + 1) % 4], joint)) continue;
            const int32_t place = atomicAdd(joints.count, 1);
            if (joints.list == nullptr) continue;
            joint.side = number * 4 + (outward ? k : 3 - k);
            joints.list[place] = joint;
        }
        if (!outward) {
            const int32_t first = quad.vertex[1];
            quad.vertex[1] = quad.vertex[3];
            quad.vertex[3] = first;
        }
        quads[number++] = quad;
    }
}

__global__ void joint_keys_kernel(const Joint* joints, int64_t count, uint64_t* key, int32_t* item) {
    TK_GRID_STRIDE(i, count) {
        key[i] = joints[i].face;
        item[i] = static_cast<int32_t>(i);
    }
}

__global__ void joint_starts_kernel(const uint64_t* key, int64_t count, int32_t* starts) {
    TK_GRID_STRIDE(i, count + 1) starts[i] = i < count && (i == 0 || key[i] != key[i - 1]);
}

// All sides at a joint get the same vertex, where the first of them has it. The list came in any order; within a joint
// the smallest side decides.
__global__ void joints_kernel(const Joint* joints, const uint64_t* key, const int32_t* item, int64_t count, const int32_t* before,
                              int32_t num_vertices, Vec3d* vertices, Quad* quads) {
    TK_GRID_STRIDE(i, count) {
        if (before[i + 1] == before[i]) continue;
        const int32_t vertex = num_vertices + before[i];
        int64_t least = INT64_MAX;
        for (int64_t k = i; k < count && key[k] == key[i]; ++k) {
            const Joint& joint = joints[item[k]];
            if (joint.side < least) {
                least = joint.side;
                vertices[vertex] = joint.point;
            }
            quads[joint.side / 4].middle[joint.side % 4] = vertex;
        }
    }
}

}  // namespace

DeviceSurface extract_surface(const Arena& arena, const DeviceField& field, cudaStream_t stream) {
    const int64_t count = field.count;
    const unsigned blocks = static_cast<unsigned>(count);
    CellLoops* table = arena.take<CellLoops>(256);
    TK_CUDA(cudaMemcpyAsync(table, cell_table().data(), 256 * sizeof(CellLoops), cudaMemcpyHostToDevice, stream));
    const Counts counts{arena.take<int32_t>(count + 1), arena.take<int32_t>(count + 1), arena.take<int32_t>(count + 1),
                        arena.take<unsigned long long>(2)};
    Bits* active = arena.take<Bits>(count);
    TK_CUDA(cudaMemsetAsync(counts.totals, 0, 2 * sizeof(unsigned long long), stream));
    count_kernel<<<blocks + 1, threads, 0, stream>>>(field, table, counts, active);
    const long long vertices = static_cast<long long>(read_back(counts.totals, stream));
    const long long quads = static_cast<long long>(read_back(counts.totals + 1, stream));
    // Room is left for the vertices of doubled joints, of which there are fewer than quads.
    require(vertices + quads < INT32_MAX && quads < INT32_MAX / 2,
            format("resolution: the surface would have %lld vertices and %lld faces, more than 32-bit numbers hold", vertices, 2 * quads));
    const int32_t num_cells = arena.scan(counts.cells, count + 1, stream);
    const int32_t num_vertices = arena.scan(counts.vertices, count + 1, stream);
    const int32_t num_quads = arena.scan(counts.quads, count + 1, stream);

    const Cells cells{active, counts.cells, arena.take<uint8_t>(num_cells), arena.take<int32_t>(num_cells)};
    DeviceSurface surface{num_vertices, num_quads, nullptr, arena.take<Quad>(num_quads)};
    // Each joint has at least two sides, and few quads have one.
    Joints joints{arena.take<int32_t>(2), nullptr};
    int32_t* lost = joints.count + 1;
    surface.vertices = arena.take<Vec3d>(num_vertices);
    if (count > 0) vertices_kernel<<<blocks, threads, 0, stream>>>(field, table, counts, cells, surface.vertices);
    TK_CUDA(cudaMemsetAsync(joints.count, 0, 2 * sizeof(int32_t), stream));
    if (count > 0) quads_kernel<<<blocks, threads, 0, stream>>>(field, table, counts, cells, surface.quads, joints, lost);
    const int32_t num_joints = read_back(joints.count, stream);
    if (read_back(lost, stream)) throw Error(TK_INTERNAL, "the surface left the band");
    if (num_joints == 0) return surface;

    joints.list = arena.take<Joint>(num_joints);
    TK_CUDA(cudaMemsetAsync(joints.count, 0, sizeof(int32_t), stream));
    quads_kernel<<<blocks, threads, 0, stream>>>(field, table, counts, cells, surface.quads, joints, lost);
    const int64_t side = field.frame.bricks * brick_side;
    PairSorter<uint64_t> sorter =
        arena.carve([&](Scratch& room) { return PairSorter<uint64_t>(room, num_joints, bit_width(3 * side * side * side)); });
    TK_LAUNCH(joint_keys_kernel, num_joints, stream, joints.list, num_joints, sorter.keys(), sorter.values());
    sorter.sort(stream);
    int32_t* before = arena.take<int32_t>(int64_t{num_joints} + 1);
    TK_LAUNCH(joint_starts_kernel, int64_t{num_joints} + 1, stream, sorter.keys(), num_joints, before);
    const int32_t added = arena.scan(before, int64_t{num_joints} + 1, stream);
    Vec3d* vertices_and_joints = arena.take<Vec3d>(int64_t{num_vertices} + added);
    TK_CUDA(cudaMemcpyAsync(vertices_and_joints, surface.vertices, static_cast<size_t>(num_vertices) * sizeof(Vec3d), cudaMemcpyDeviceToDevice,
                            stream));
    surface.vertices = vertices_and_joints;
    TK_LAUNCH(joints_kernel, num_joints, stream, joints.list, sorter.keys(), sorter.values(), num_joints, before, num_vertices,
              surface.vertices, surface.quads);
    surface.num_vertices += added;
    return surface;
}

}  // namespace tk::mesh
