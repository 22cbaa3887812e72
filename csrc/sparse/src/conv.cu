// Submanifold convolution on a device: which kernel serves a call, and the sum over the parts of a plan.
#include <cstdlib>
#include <cstring>

#include "conv_cuda.cuh"

namespace {

using namespace tk::sparse;

template <class T>
__device__ __forceinline__ float to_float(T value) {
    return static_cast<float>(value);
}

// out = bias + the parts' sums, always added in the order of parts. Eight channels a thread.
template <class T>
__global__ void add_parts(const float* sums, int parts, const T* bias, int64_t elements, int channels, T* out) {
    TK_GRID_STRIDE(i, elements / 4) {
        float4 sum{0, 0, 0, 0};
        if (bias) {
            const int64_t channel = i * 4 % channels;
            sum = {to_float(bias[channel]), to_float(bias[channel + 1]), to_float(bias[channel + 2]), to_float(bias[channel + 3])};
        }
        for (int part = 0; part < parts; ++part) {
            const float4 more = reinterpret_cast<const float4*>(sums + part * elements)[i];
            sum.x += more.x;
            sum.y += more.y;
            sum.z += more.z;
            sum.w += more.w;
        }
        alignas(4 * sizeof(T)) T four[4] = {T(sum.x), T(sum.y), T(sum.z), T(sum.w)};
        if constexpr (sizeof(T) == 2)
            reinterpret_cast<uint2*>(out)[i] = *reinterpret_cast<const uint2*>(four);
        else
            reinterpret_cast<uint4*>(out)[i] = *reinterpret_cast<const uint4*>(four);
    }
}

template <class T>
void add_parts(const TensorConv& c) {
    const int64_t elements = c.plan.rows * c.channels_out;
    add_parts<T><<<tk::grid_size(elements / 4, 256), 256, 0, c.stream>>>(c.sums, c.plan.parts, static_cast<const T*>(c.bias), elements,
                                                                        c.channels_out, static_cast<T*>(c.out));
    TK_CUDA(cudaGetLastError());
}

// The plain kernel: any type, any sizes. A block computes 64 x 64 outputs, a thread 4 x 4 of them.
constexpr int side = 64, depth = 16;

template <class T, class Sum>
__global__ __launch_bounds__(256) void convolve_plain(const T* feats, const T* weight, const T* bias, const int32_t* neighbors,
                                                      int64_t rows, int64_t channels_in, int64_t channels_out, int64_t taps,
                                                      int64_t column_tiles, T* out) {
    __shared__ Sum a[depth][side + 4], b[depth][side + 4];
    const int64_t tiles = (rows + side - 1) / side * column_tiles;
    const int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
    for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const int64_t row0 = tile / column_tiles * side, column0 = tile % column_tiles * side;
        Sum sum[4][4] = {};
        for (int64_t tap = 0; tap < taps; ++tap) {
            // Four threads load a row of a (and of b), four channels each.
            const int load_row = threadIdx.x / 4, load_channel = threadIdx.x % 4 * 4;
            const int32_t from = row0 + load_row < rows ? neighbors[(row0 + load_row) * taps + tap] : -1;
            if (!__syncthreads_or(from >= 0)) continue;
            const int64_t column = column0 + load_row;
            for (int64_t k0 = 0; k0 < channels_in; k0 += depth) {
                for (int i = 0; i < 4; ++i) {
                    const int64_t k = k0 + load_channel + i;
                    a[load_channel + i][load_row] = from >= 0 && k < channels_in ? Sum(feats[from * channels_in + k]) : Sum(0);
                    b[load_channel + i][load_row] =
                        column < channels_out && k < channels_in ? Sum(weight[(column * taps + tap) * channels_in + k]) : Sum(0);
                }
                __syncthreads();
#pragma unroll
                for (int k = 0; k < depth; ++k) {
                    Sum x[4], y[4];
#pragma unroll
                    for (int i = 0; i < 4; ++i) x[i] = a[k][ty * 4 + i], y[i] = b[k][tx * 4 + i];
#pragma unroll
                    for (int i = 0; i < 4; ++i)
#pragma unroll
                        for (int j = 0; j < 4; ++j) sum[i][j] += x[i] * y[j];
                }
                __syncthreads();
            }
        }
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j) {
                const int64_t row = row0 + ty * 4 + i, column = column0 + tx * 4 + j;
                if (row < rows && column < channels_out)
                    out[row * channels_out + column] = T(sum[i][j] + (bias ? Sum(bias[column]) : Sum(0)));
            }
    }
}

template <class T, class Sum>
void plain(const void* feats, const void* weight, const void* bias, const int32_t* neighbors, int64_t rows, int64_t channels_in,
           int64_t channels_out, int64_t taps, void* out, cudaStream_t stream) {
    const int64_t column_tiles = (channels_out + side - 1) / side, tiles = (rows + side - 1) / side * column_tiles;
    convolve_plain<T, Sum><<<tk::grid_size(tiles, 1), 256, 0, stream>>>(
        static_cast<const T*>(feats), static_cast<const T*>(weight), static_cast<const T*>(bias), neighbors, rows, channels_in,
        channels_out, taps, column_tiles, static_cast<T*>(out));
}

int attribute(cudaDeviceAttr which, int device) {
    int value = 0;
    TK_CUDA(cudaDeviceGetAttribute(&value, which, device));
    return value;
}

bool is_hopper(int device) {
    return attribute(cudaDevAttrComputeCapabilityMajor, device) == 9 && attribute(cudaDevAttrComputeCapabilityMinor, device) == 0;
}

// TRELLIS_CUDA=mma: the kernel of all architectures where there is a better one, for comparison.
bool wants_mma() {
    const char* value = std::getenv("TRELLIS_CUDA");
    return value && std::strcmp(value, "mma") == 0;
}

void require_aligned(const char* name, const void* p, int64_t row_bytes) {
    tk::require(reinterpret_cast<uintptr_t>(p) % 16 == 0 && row_bytes % 16 == 0,
                tk::format("%s: expected rows of a multiple of 16 bytes at a multiple of 16, got %lld bytes at %p", name,
                           static_cast<long long>(row_bytes), p));
}

}  // namespace

TK_API int tk_sparse_submanifold_conv3d(const void* feats, const void* weight, const void* bias,
                                        const int32_t* neighbors, int64_t rows_in, int64_t rows_out,
                                        int64_t channels_in, int64_t channels_out, int64_t taps, int precision,
                                        const int32_t* order, const uint32_t* masks, const int32_t* tiles, int parts,
                                        float* workspace, void* out, int device, void* stream) {
    return tk::guarded_on(device, [&] {
        require_count("rows_in", rows_in, INT32_MAX);
        require_count("rows_out", rows_out, INT32_MAX);
        require_count("channels_in", channels_in, INT32_MAX);
        require_count("channels_out", channels_out, INT32_MAX);
        require_count("taps", taps, 1 << 18);
        const bool half = precision == TK_SPARSE_F16 || precision == TK_SPARSE_BF16, tf32 = precision == TK_SPARSE_TF32;
        tk::require(half || tf32 || precision == TK_SPARSE_F32 || precision == TK_SPARSE_F64,
                    tk::format("precision: expected 16, 17, 19, 32 or 64, got %d", precision));
        if (rows_out == 0 || channels_out == 0) return;
        const auto queue = static_cast<cudaStream_t>(stream);
        if (!order) {
            tk::require(!tf32, "order: expected a plan for TF32, got null");
            if (precision == TK_SPARSE_F16)
                plain<__half, float>(feats, weight, bias, neighbors, rows_out, channels_in, channels_out, taps, out, queue);
            else if (precision == TK_SPARSE_BF16)
                plain<__nv_bfloat16, float>(feats, weight, bias, neighbors, rows_out, channels_in, channels_out, taps, out, queue);
            else if (precision == TK_SPARSE_F32)
                plain<float, float>(feats, weight, bias, neighbors, rows_out, channels_in, channels_out, taps, out, queue);
            else
                plain<double, double>(feats, weight, bias, neighbors, rows_out, channels_in, channels_out, taps, out, queue);
            return;
        }
        tk::require(half || tf32, "order: expected null for this precision, which tensor cores do not have");
        tk::require(masks && workspace, "masks, workspace: expected those of the plan, got null");
        const int64_t element = half ? 2 : 4;
        require_aligned("feats", feats, channels_in * element);
        require_aligned("weight", weight, channels_in * element);
        require_aligned("out", out, channels_out * element);
        TensorConv c{};
        c.feats = feats;
        c.weight = weight;
        c.bias = bias;
        c.neighbors = neighbors;
        c.order = order;
        c.masks = masks;
        c.tiles = tiles;
        c.out = out;
        c.next = reinterpret_cast<int*>(workspace);
        c.sums = workspace + 4;
        c.plan = checked_plan(rows_out, taps, parts, rows_out);
        c.channels_in = static_cast<int>(channels_in);
        c.channels_out = static_cast<int>(channels_out);
        c.precision = precision;
        c.processors = attribute(cudaDevAttrMultiProcessorCount, device);
        c.stream = queue;
        TK_CUDA(cudaMemsetAsync(c.next, 0, sizeof(int), queue));
#ifdef TK_SM90A
        if (is_hopper(device) && !wants_mma())
            conv_wgmma(c);
        else
#endif
            conv_mma(c);
        if (parts == 1) return;
        if (precision == TK_SPARSE_F16)
            add_parts<__half>(c);
        else if (precision == TK_SPARSE_BF16)
            add_parts<__nv_bfloat16>(c);
        else
            add_parts<float>(c);
    });
}
