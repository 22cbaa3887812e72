/* trellis_raster: triangle rasterisation, interpolation and texture sampling.
 *
 * Conventions of every function here: see trellis/abi.h. Pointers are to contiguous row-major arrays that
 * the caller owns, on the device given by `device` (an index of CUDA, or TK_DEVICE_CPU with a null stream).
 *
 * Images: row 0 is at clip-space y = -1 (and at v = 0), column 0 at x = -1 (u = 0); pixel (column i, row j) has
 * its centre at (i + 0.5, j + 0.5). A rast is float32 [batch, height, width, 4] = (u, v, z/w, face + 1): the
 * perspective-correct weights of vertices 0 and 1 of the face, its depth, and its index plus one; all four are
 * 0 where no face is seen.
 */
#ifndef TRELLIS_RASTER_H
#define TRELLIS_RASTER_H

#include "trellis/abi.h"

/* Largest image side, and largest number of faces (a face index plus one must be exact in float32). */
enum { TK_RASTER_MAX_SIDE = 32768, TK_RASTER_MAX_FACES = 16777215 };

/* `filter` of tk_raster_sample_texture. */
enum { TK_RASTER_NEAREST = 0, TK_RASTER_LINEAR = 1, TK_RASTER_MIP = 2 };
/* `wrap` of tk_raster_sample_texture: what lies outside [0, 1]. */
enum { TK_RASTER_REPEAT = 0, TK_RASTER_CLAMP = 1, TK_RASTER_MIRROR = 2, TK_RASTER_ZERO = 3 };

/* What the last failing call of this thread said; empty if it succeeded. */
TK_API const char* tk_raster_last_error(void);
/* Version of the package. */
TK_API const char* tk_raster_version(void);
/* SHA-256 of the header this library was compiled from, in hexadecimal. */
TK_API const char* tk_raster_abi(void);
/* CPU only. Threads for later calls; 0 returns to the default (TRELLIS_NUM_THREADS, else all cores). */
TK_API int tk_raster_set_num_threads(int threads);

/* Bytes of scratch that tk_raster_rasterize needs on this kind of device; 0 on the CPU. */
TK_API int tk_raster_rasterize_scratch(int64_t num_faces, int64_t height, int64_t width, int64_t* bytes, int device,
                                       void* stream);

/* Rasterises one mesh with `batch` sets of clip-space positions.
 *
 * clip      float32 [batch, num_vertices, 4], homogeneous (x, y, z, w).
 * faces     int32 [num_faces, 3], each in [0, num_vertices); num_faces <= TK_RASTER_MAX_FACES. On CUDA a face with
 *           another index is left out.
 * height, width   in [1, TK_RASTER_MAX_SIDE].
 * subpixel_bits   in [4, 8]: projected vertices are rounded to multiples of 2^-subpixel_bits pixel.
 * previous  float32 [batch, height, width, 4], or null. With it, each pixel shows the nearest fragment behind
 *           (z/w, face) of `previous`, in lexicographic order, and nothing where `previous` is empty.
 * scratch   bytes as rasterize_scratch says, any contents; null when that is 0.
 * rast      float32 [batch, height, width, 4], written. May not overlap `previous`.
 */
TK_API int tk_raster_rasterize(const float* clip, const int32_t* faces, int64_t batch, int64_t num_vertices,
                               int64_t num_faces, int64_t height, int64_t width, int subpixel_bits,
                               const float* previous, void* scratch, float* rast, int device, void* stream);

/* Values of vertex attributes at each pixel; 0 where the rast is empty.
 *
 * attrs     float32 [attr_batch, num_vertices, channels]; attr_batch is 1 (shared by all images) or batch.
 * rast      float32 [batch, pixels, 4]. A face outside [1, num_faces] is an error on the CPU; on CUDA the pixel
 *           counts as empty.
 * faces     int32 [num_faces, 3], each in [0, num_vertices). On CUDA pixels of a face with another index count as empty.
 * out       float32 [batch, pixels, channels], written.
 */
TK_API int tk_raster_interpolate(const float* attrs, const float* rast, const int32_t* faces, int64_t attr_batch,
                                 int64_t batch, int64_t pixels, int64_t num_vertices, int64_t num_faces,
                                 int64_t channels, float* out, int device, void* stream);

/* Gradient of tk_raster_interpolate with respect to attrs; sums run in a fixed order.
 *
 * grad_out  float32 [batch, pixels, channels].
 * grad_attrs  float32 [attr_batch, num_vertices, channels], written.
 * The next four are for CUDA, and null on the CPU, which makes its own:
 * pixel_order   int64 [batch, pixels]: numbers of an image's pixels by the face they show, ascending for each face.
 * face_begin    int64 [batch, num_faces + 1]: where the pixels of each face begin there, and where the last ones end.
 * corner_order  int64 [num_faces * 3]: corners 3 * face + i by their vertex, ascending for each vertex.
 * vertex_begin  int64 [num_vertices + 1]: where the corners of each vertex begin there.
 * The rest as above.
 */
TK_API int tk_raster_interpolate_backward(const float* grad_out, const float* rast, const int32_t* faces,
                                          const int64_t* pixel_order, const int64_t* face_begin,
                                          const int64_t* corner_order, const int64_t* vertex_begin,
                                          int64_t attr_batch, int64_t batch, int64_t pixels, int64_t num_vertices,
                                          int64_t num_faces, int64_t channels, float* grad_attrs, int device,
                                          void* stream);

/* Mip pyramid of images by exact area averaging: level l+1 has sides max(1, side / 2) of level l.
 *
 * image     float32 [batch, height, width, channels].
 * levels    number of levels, level 0 included; at most 1 + floor(log2(max(height, width))).
 * pyramid   float32 [batch, texels, channels], written: the levels one after the other, texels being the sum
 *           of their sizes.
 */
TK_API int tk_raster_build_mips(const float* image, int64_t batch, int64_t height, int64_t width, int64_t channels,
                                int levels, float* pyramid, int device, void* stream);

/* Mip level of each pixel from differences of uv between neighbouring pixels.
 *
 * uv        float32 [batch, height, width, 2].
 * texture_height, texture_width   size of level 0.
 * lod       float32 [batch, height, width], written: log2 of the texels per pixel, not below 0.
 */
TK_API int tk_raster_uv_lod(const float* uv, int64_t batch, int64_t height, int64_t width, int64_t texture_height,
                            int64_t texture_width, float* lod, int device, void* stream);

/* Texture values at uv; texel (column i, row j) has its centre at ((i + 0.5) / width, (j + 0.5) / height).
 *
 * pyramid   float32 [texture_batch, texels, channels] as from tk_raster_build_mips; with levels 1 it is the image.
 *           texture_batch is 1 (shared by all) or batch.
 * uv        float32 [batch, points, 2]. Where a component is not finite the result is 0.
 * lod       float32 [batch, points], or null for level 0. Used by TK_RASTER_MIP alone.
 * out       float32 [batch, points, channels], written.
 */
TK_API int tk_raster_sample_texture(const float* pyramid, int64_t texture_batch, int64_t texture_height,
                                    int64_t texture_width, int64_t channels, int levels, const float* uv,
                                    const float* lod, int64_t batch, int64_t points, int filter, int wrap,
                                    float* out, int device, void* stream);

/* Bytes of scratch that tk_raster_nearest_texel needs on this kind of device; 0 on the CPU. */
TK_API int tk_raster_nearest_texel_scratch(int64_t height, int64_t width, int64_t* bytes, int device, void* stream);

/* For each texel the valid texel nearest to it (Euclidean, exact; of equally near ones the first in row order).
 *
 * mask      uint8 [height, width], nonzero where valid.
 * scratch   bytes as nearest_texel_scratch says, any contents; null when that is 0.
 * nearest   int32 [height, width], written: row * width + column, or -1 when no texel is valid.
 */
TK_API int tk_raster_nearest_texel(const uint8_t* mask, int64_t height, int64_t width, void* scratch,
                                   int32_t* nearest, int device, void* stream);

/* Copies to each texel the texel that `nearest` names; those that are -1 or farther away keep their own value.
 *
 * image     any type, [height, width], `texel_bytes` bytes a texel.
 * nearest   int32 [height, width] as from tk_raster_nearest_texel.
 * max_distance  in texels, or negative for no limit.
 * out       like image, written, aligned to 4 bytes. May not overlap it.
 */
TK_API int tk_raster_gather_texels(const void* image, const int32_t* nearest, int64_t height, int64_t width,
                                   int64_t texel_bytes, double max_distance, void* out, int device, void* stream);

/* Bytes of scratch that tk_raster_pull_push needs on this kind of device; 0 on the CPU. */
TK_API int tk_raster_pull_push_scratch(int64_t height, int64_t width, int64_t channels, int64_t* bytes, int device,
                                       void* stream);

/* Fills invalid texels smoothly from the valid ones by pull-push over a pyramid.
 *
 * image     float32 [height, width, channels].
 * mask      uint8 [height, width], nonzero where valid; with none valid, `out` is a copy of `image`.
 * scratch   bytes as pull_push_scratch says, any contents; null when that is 0.
 * out       float32 [height, width, channels], written; valid texels are copied. May not overlap `image`.
 */
TK_API int tk_raster_pull_push(const float* image, const uint8_t* mask, int64_t height, int64_t width,
                               int64_t channels, void* scratch, float* out, int device, void* stream);

#endif
