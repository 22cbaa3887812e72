/* trellis_sparse: sparse voxel operations: submanifold convolution, grid sampling, space-filling orders.
 *
 * Conventions of every function here: see trellis/abi.h. Pointers are to contiguous row-major arrays that
 * the caller owns, on the device given by `device` (an index of CUDA, or TK_DEVICE_CPU with a null stream),
 * and not null unless said so; an array of no elements may be null. Outputs do not overlap inputs.
 *
 * Voxel coordinates are int32 (batch, x, y, z). A grid's size is given as batch, width, height, depth: the
 * exclusive upper bounds of the four components, each in [1, 65535].
 * Voxels outside the grid are no error: nothing ever finds them. Where coordinates repeat, the first row
 * stands for the voxel.
 *
 * `precision` tells what the real arrays of a call hold, and for convolution how they are multiplied.
 */
#ifndef TRELLIS_SPARSE_H
#define TRELLIS_SPARSE_H

#include "trellis/abi.h"

/* What the last failing call of this thread said; empty if it succeeded. */
TK_API const char* tk_sparse_last_error(void);
/* Version of the package. */
TK_API const char* tk_sparse_version(void);
/* SHA-256 of the header this library was compiled from, in hexadecimal. */
TK_API const char* tk_sparse_abi(void);
/* CPU only. Threads for later calls; 0 returns to the default (TRELLIS_NUM_THREADS, else all cores). */
TK_API int tk_sparse_set_num_threads(int threads);

/* `precision`. Sums are in float, of double in double. The CPU knows F32 and F64 only, as does grid sampling.
 * TF32 is for arrays of float that tensor cores read with 10 bits of mantissa. */
enum {
    TK_SPARSE_F16 = 16,
    TK_SPARSE_BF16 = 17,
    TK_SPARSE_TF32 = 19,
    TK_SPARSE_F32 = 32,
    TK_SPARSE_F64 = 64
};

enum { TK_SPARSE_MORTON = 0, TK_SPARSE_HILBERT = 1 };
enum { TK_SPARSE_TRILINEAR = 0, TK_SPARSE_NEAREST = 1 };
enum { TK_SPARSE_IDENTITY = 0, TK_SPARSE_SILU = 1 };

/* Positions along a space-filling curve through a grid of 2^bits cells an axis. bits, in [1, 22], matters to the
 * Hilbert curve alone; with 22 it runs through the part of that grid that 21 bits an axis reach.
 *   coords  int32 [n, 3], each in [0, 2^min(bits, 21)); others give codes without meaning
 *   codes   int64 [n], written */
TK_API int tk_sparse_encode_order(const int32_t* coords, int64_t n, int curve, int bits, int64_t* codes, int device,
                                  void* stream);
/* The inverse of encode_order.
 *   codes   int64 [n], each in [0, 8^min(bits, 21)); others give coordinates without meaning
 *   coords  int32 [n, 3], written */
TK_API int tk_sparse_decode_order(const int64_t* codes, int64_t n, int curve, int bits, int32_t* coords, int device,
                                  void* stream);

/* Bytes of an index of n voxels on this kind of device; 0 on the CPU, whose functions find voxels by themselves.
 *   bytes   int64 [1] in host memory, written */
TK_API int tk_sparse_index_bytes(int64_t n, int64_t* bytes, int device, void* stream);
/* Makes the index by which neighbor_map, grid_sample_3d and its gradient find voxels of one grid.
 *   coords   int32 [n, 4] at a multiple of 16 bytes, n < 2^31
 *   index    bytes as index_bytes says, at a multiple of 32, written; null when that is 0
 *   outside  int64 [1] on the device, written: the first row that lies outside the grid, or a number beyond all rows */
TK_API int tk_sparse_index_build(const int32_t* coords, int64_t n, int batch, int width, int height, int depth,
                                 void* index, int64_t* outside, int device, void* stream);

/* For each voxel and each offset of a kernel_x * kernel_y * kernel_z kernel the row of the voxel there, or -1.
 * Column (i * kernel_y + j) * kernel_z + k stands for offset ((i - kernel_x / 2) * dilation_x, likewise y, z).
 *   coords     int32 [n, 4] at a multiple of 16 bytes, n < 2^31
 *   index      as index_build made it for these coords and this grid; null on the CPU
 *   neighbors  int32 [n, kernel_x * kernel_y * kernel_z], written */
TK_API int tk_sparse_neighbor_map(const int32_t* coords, int64_t n, int batch, int width, int height, int depth,
                                  int kernel_x, int kernel_y, int kernel_z, int dilation_x, int dilation_y,
                                  int dilation_z, const void* index, int32_t* neighbors, int device,
                                  void* stream);

/* A plan of convolution on tensor cores (CUDA): orders of the rows of a map in which neighbouring rows have the same
 * neighbours. The taps are cut into `parts` of equal size (to one), at most 26 taps each (27 if there are 27), and each
 * part has its order, within chunks of chunk_rows rows. Convolution with several parts adds up as many arrays of sums.
 * At most 125 taps.
 *   bytes   int64 [1] in host memory, written: scratch that conv_plan needs */
TK_API int tk_sparse_conv_plan_scratch(int64_t rows_out, int64_t taps, int parts, int64_t chunk_rows, int64_t* bytes,
                                       int device, void* stream);
/*   neighbors  int32 [rows_out, taps]
 *   scratch    bytes as conv_plan_scratch says, any contents; null when that is 0
 *   order      int32 [parts, rows_out], written
 *   masks      uint32 [parts, ceil(rows_out / 64)], written: the part's taps that any of 64 rows of its order has
 *   tiles      int32 [parts * ceil(rows_out / 128)], written: tiles of 128 rows of the orders, costly ones first; or null
 *   wrong      int64 [1] on the device, written: the first place of neighbors outside [-1, rows_in), or a number beyond
 *              all places */
TK_API int tk_sparse_conv_plan(const int32_t* neighbors, int64_t rows_in, int64_t rows_out, int64_t taps, int parts,
                               int64_t chunk_rows, void* scratch, int32_t* order, uint32_t* masks, int32_t* tiles,
                               int64_t* wrong, int device, void* stream);
/* The transpose of a map, as far as it is one: inverse[r, t] is the smallest i with remaining[i, t] == r, or -1. Those
 * entries of `remaining` become -1, so that calls until nothing remains give all readers of every row.
 *   remaining  int32 [rows_out, taps], each in [-1, rows_in), changed
 *   inverse    int32 [rows_in, taps], written
 *   left       int64 [1] on the device, written: how many entries of `remaining` are not -1 afterwards */
TK_API int tk_sparse_invert_map(int32_t* remaining, int64_t rows_in, int64_t rows_out, int64_t taps, int32_t* inverse,
                                int64_t* left, int device, void* stream);

/* out[i] = bias + sum over taps t, where r = neighbors[i, t] is not -1, of weight[:, t, :] feats[r].
 *   feats      real [rows_in, channels_in]
 *   weight     real [channels_out, taps, channels_in]
 *   bias       real [channels_out], or null for none
 *   neighbors  int32 [rows_out, taps], each in [-1, rows_in)
 *   order, masks, tiles, parts
 *              CUDA only: the map's plan, for tensor cores; rows of feats, weight and out are then multiples of 16
 *              bytes at multiples of 16. Null (and 1) for the plain kernel, which does not know TF32.
 *   workspace  with a plan: float [4 + (parts > 1 ? parts * rows_out * channels_out : 0)], any contents; otherwise null
 *   out        real [rows_out, channels_out], written */
TK_API int tk_sparse_submanifold_conv3d(const void* feats, const void* weight, const void* bias,
                                        const int32_t* neighbors, int64_t rows_in, int64_t rows_out,
                                        int64_t channels_in, int64_t channels_out, int64_t taps, int precision,
                                        const int32_t* order, const uint32_t* masks, const int32_t* tiles, int parts,
                                        float* workspace, void* out, int device, void* stream);
/* CPU only. The gradient of submanifold_conv3d for its feats, for any neighbors (repeated ones too).
 *   grad_out    real [rows_out, channels_out]
 *   grad_feats  real [rows_in, channels_in], written */
TK_API int tk_sparse_submanifold_conv3d_grad_feats(const void* grad_out, const void* weight, const int32_t* neighbors,
                                                   int64_t rows_in, int64_t rows_out, int64_t channels_in,
                                                   int64_t channels_out, int64_t taps, int precision,
                                                   void* grad_feats, int device, void* stream);
/* CPU only. The gradients of submanifold_conv3d for its weight and its bias.
 *   grad_out     real [rows_out, channels_out]
 *   grad_weight  real [channels_out, taps, channels_in], written; null when not wanted
 *   grad_bias    real [channels_out], written; null when not wanted */
TK_API int tk_sparse_submanifold_conv3d_grad_weight(const void* grad_out, const void* feats, const int32_t* neighbors,
                                                    int64_t rows_in, int64_t rows_out, int64_t channels_in,
                                                    int64_t channels_out, int64_t taps, int precision,
                                                    void* grad_weight, void* grad_bias, int device, void* stream);

/* Samples sparse features at points. Points are in voxel units: voxel (x, y, z) fills [x, x+1) * [y, y+1) * [z, z+1).
 * Trilinear weights are divided by the sum over the voxels that exist; without any the sample is 0. Nearest takes
 * the voxel around the point, 0 if there is none. A point with a NaN gives 0.
 *   feats    real [n, channels]
 *   coords   int32 [n, 4], n < 2^31
 *   points   float [batch, points_per_batch, 3]; points of batch b see voxels of batch b
 *   mode     TK_SPARSE_TRILINEAR or TK_SPARSE_NEAREST
 *   index    as index_build made it for these coords and this grid; null on the CPU
 *   out      real [batch, points_per_batch, channels], written */
TK_API int tk_sparse_grid_sample_3d(const void* feats, const int32_t* coords, int64_t n, int64_t channels, int batch,
                                    int width, int height, int depth, const float* points, int64_t points_per_batch,
                                    int mode, int precision, const void* index, void* out, int device,
                                    void* stream);
/* The gradient of grid_sample_3d for its feats; on CUDA for fewer than 2^29 points.
 *   bytes   int64 [1] in host memory, written: scratch that grid_sample_3d_grad needs; 0 on the CPU */
TK_API int tk_sparse_grid_sample_3d_grad_scratch(int64_t n, int batch, int64_t points_per_batch, int64_t* bytes,
                                                 int device, void* stream);
/*   grad_out    real [batch, points_per_batch, channels]
 *   scratch     bytes as grid_sample_3d_grad_scratch says, any contents; null when that is 0
 *   grad_feats  real [n, channels], written */
TK_API int tk_sparse_grid_sample_3d_grad(const void* grad_out, const int32_t* coords, int64_t n, int64_t channels,
                                         int batch, int width, int height, int depth, const float* points,
                                         int64_t points_per_batch, int mode, int precision, const void* index,
                                         void* scratch, void* grad_feats, int device, void* stream);

/* The voxels of the grid of half the size that hold the given ones, in ascending order of (batch, x, y, z).
 *   coords   int32 [n, 4], each in [0, 65535]; others give parents without meaning
 *   parents  int32 [n, 4]; the first *count rows are written
 *   parent   int64 [n], written: each voxel's row in parents
 *   slot     int64 [n], written: each voxel's place in its parent, (x & 1) + 2 (y & 1) + 4 (z & 1)
 *   count    int64 [1] in host memory, written */
TK_API int tk_sparse_downsample(const int32_t* coords, int64_t n, int32_t* parents, int64_t* parent, int64_t* slot,
                                int64_t* count, int device, void* stream);
/* The children of voxels on the grid of twice the size: child s of (b, x, y, z) is at
 * (b, 2x + (s & 1), 2y + (s >> 1 & 1), 2z + (s >> 2 & 1)).
 *   coords    int32 [n, 4], space components below 2^30
 *   mask      uint8 [n, 8], each 0 or 1: which children are wanted
 *   first     int64 [n]: number of children of the voxels before each one
 *   children  int32 [m, 4], written, in order of their parents, then of their slots
 *   parent    int64 [m], written: each child's row in coords
 *   slot      int64 [m], written */
TK_API int tk_sparse_upsample(const int32_t* coords, const uint8_t* mask, const int64_t* first, int64_t n,
                              int32_t* children, int64_t* parent, int64_t* slot, int device, void* stream);
/* out[i, c] = update[i, c] + shares[source[i], c / (channels / share)]: each channel of a row of shares serves
 * channels / share channels in succession. Computed in float32; on the CPU dtype is float32.
 *   dtype   F32, F16 or BF16 of the codes above
 *   update  dtype [rows, channels]
 *   shares  dtype [rows_in, share], share a divisor of channels
 *   source  int64 [rows]: of one outside [0, rows_in) NaN is added
 *   out     dtype [rows, channels], written; may be update itself */
TK_API int tk_sparse_add_shares(const void* update, const void* shares, const int64_t* source, int64_t rows, int64_t channels,
                                int64_t rows_in, int64_t share, int dtype, void* out, int device, void* stream);

/* Layer normalisation of rows after an optional gated residual, in one pass (Ba, Kiros and Hinton 2016; modulated as in
 * Peebles and Xie 2023):
 *   sum = x + update * gate
 *   normed = activation(((sum - mean) / sqrt(variance + eps) * weight + bias) * (1 + scale) + shift)
 * computed in float32; sum is rounded to dtype before it is normalised. On the CPU dtypes are float32. On CUDA pointers
 * to arrays of dtype are aligned to 16 bytes.
 *   dtype, weight_dtype F32, F16 or BF16 of the codes above
 *   x                   dtype [rows_in, channels]
 *   source              int64 [rows]: the row of x that each row is made of, of one outside [0, rows_in) NaN; null:
 *                       each row's own, and rows_in means nothing
 *   update              dtype [rows, channels], or null for none (as with a source): sum is then not written
 *   gate, scale, shift  dtype, each row modulation_stride after the last, channels long; or null for none
 *   entries             int32 [rows]: the row of gate, scale and shift that a row takes; null: row 0
 *   weight, bias        weight_dtype (float32 or dtype) [channels], or null for none
 *   activation          TK_SPARSE_IDENTITY or TK_SPARSE_SILU
 *   sum, normed         dtype [rows, channels], written */
TK_API int tk_sparse_norm_rows(const void* x, const int64_t* source, int64_t rows_in, const void* update, const void* gate,
                               const void* scale, const void* shift, int64_t modulation_stride, const int32_t* entries,
                               const void* weight, const void* bias, int64_t rows, int64_t channels, double eps, int activation, int dtype, int weight_dtype,
                               void* sum, void* normed, int device, void* stream);
/* out = (x - mean) / sqrt(variance + eps) weight^T + bias, row by row in float32. On the CPU dtype is float32.
 *   dtype   F32, F16 or BF16 of the codes above
 *   x       dtype [rows, channels]
 *   weight  float [outputs, channels]
 *   bias    float [outputs], or null for none
 *   out     float [rows, outputs], written */
TK_API int tk_sparse_norm_linear(const void* x, const float* weight, const float* bias, int64_t rows, int64_t channels,
                                 int64_t outputs, double eps, int dtype, float* out, int device, void* stream);
/* Root-mean-square normalisation of heads (Zhang and Sennrich 2019) and their rotation by position (Su et al. 2021):
 * out = rotate(x / |x| * sqrt(head_dim) * gamma), where consecutive pairs turn. Computed in float32.
 *   x       dtype, [groups, heads, head_dim] at each multiple of row_stride; head_dim is even
 *   gamma   dtype [groups, heads, head_dim], or null: no normalisation
 *   turns   float [rows, head_dim / 2, 2], the cosine and sine of each pair's angle; or null: no rotation
 *   out     dtype [rows, groups, heads, head_dim], written */
TK_API int tk_sparse_norm_heads(const void* x, int64_t row_stride, const void* gamma, const float* turns, int64_t rows,
                                int64_t groups, int64_t heads, int64_t head_dim, int dtype, void* out, int device,
                                void* stream);

#endif
