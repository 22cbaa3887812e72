/* trellis_shade: environment lighting by the split-sum approximation, and shading of PBR surfaces with it.
 *
 * Conventions of every function here: see trellis/abi.h. Pointers are to contiguous row-major arrays that
 * the caller owns, on the device given by `device` (an index of CUDA, or TK_DEVICE_CPU with a null stream).
 *
 * World axes: y is up. A latitude-longitude image has +y in its first row and -z in its middle column, +x to the
 * right of it. A cube is float32 [6, side, side, 3], faces +x, -x, +y, -y, +z, -z oriented as in the OpenGL 4.6
 * specification, table 8.19. A pyramid is cubes one after the other, each with half the side of the one before:
 * float32 [texels, 3].
 */
#ifndef TRELLIS_SHADE_H
#define TRELLIS_SHADE_H

#include "trellis/abi.h"

/* What the last failing call of this thread said; empty if it succeeded. */
TK_API const char* tk_shade_last_error(void);
/* Version of the package. */
TK_API const char* tk_shade_version(void);
/* SHA-256 of the header this library was compiled from, in hexadecimal. */
TK_API const char* tk_shade_abi(void);
/* CPU only. Threads for later calls; 0 returns to the default (TRELLIS_NUM_THREADS, else all cores). */
TK_API int tk_shade_set_num_threads(int threads);

/* A latitude-longitude image averaged over the texels of a cube.
 *
 * latlong   float32 [height, width, 3].
 * cube      float32 [6, side, side, 3], written.
 */
TK_API int tk_shade_latlong_to_cube(const float* latlong, int64_t height, int64_t width, int64_t side, float* cube,
                                    int device, void* stream);

/* A cube of half the side, each texel the mean of its four weighted by their solid angles.
 *
 * cube      float32 [6, side, side, 3]; side is even.
 * half      float32 [6, side / 2, side / 2, 3], written.
 */
TK_API int tk_shade_halve_cube(const float* cube, int64_t side, float* half, int device, void* stream);

/* Directions that stand for equal shares of the GGX lobe of a viewer who looks along the normal (N = V = R).
 *
 * roughness in (0, 1].
 * side      side of the cube they will be looked up in.
 * lobe      float32 [samples, 5], written: (x, y, z) with z along the normal, the level of a pyramid whose texels are
 *           as large as the share, and the weight: the cosine, or 0 for a direction below the surface.
 */
TK_API int tk_shade_lobe(float roughness, int64_t samples, int64_t side, float* lobe, int device, void* stream);

/* Radiance around each texel's direction, averaged over a lobe.
 *
 * pyramid   float32 [texels, 3]: a cube of `side` (a power of two) and `levels` halvings of it, itself included.
 * lobe      float32 [samples, 5] as from tk_shade_lobe.
 * out       float32 [6, out_side, out_side, 3], written.
 */
TK_API int tk_shade_prefilter(const float* pyramid, int64_t side, int levels, const float* lobe, int64_t samples,
                              int64_t out_side, float* out, int device, void* stream);

/* Irradiance divided by pi: radiance around each texel's direction, weighted by the cosine.
 *
 * cube      float32 [6, side, side, 3].
 * out       float32 [6, out_side, out_side, 3], written.
 */
TK_API int tk_shade_irradiance(const float* cube, int64_t side, int64_t out_side, float* out, int device,
                               void* stream);

/* Scale and bias of F0 in the directional albedo of GGX, at roughness i / (side - 1) and cosine j / (side - 1).
 *
 * table     float32 [side, side, 2], written; row i, column j. side is at least 2.
 */
TK_API int tk_shade_brdf_table(int64_t side, float* table, int device, void* stream);

/* A pyramid at given directions and levels, bilinear across face borders, linear between levels.
 *
 * pyramid   float32 [texels, 3]: a cube of `side` and `levels` halvings of it, itself included.
 * directions  float32 [n, 3], of any length. Where one is zero or not finite the result is 0.
 * level     float32 [n], clamped to the levels there are; null for level 0.
 * out       float32 [n, 3], written.
 */
TK_API int tk_shade_sample_cube(const float* pyramid, int64_t side, int levels, const float* directions,
                                const float* level, int64_t n, float* out, int device, void* stream);

/* Light that surfaces lit by an environment send to the viewer, linear.
 *
 * specular  float32 [texels, 3]: `specular_levels` prefiltered cubes, the first of `specular_side`, roughness
 *           going evenly from 0 to 1.
 * diffuse   float32 [6, diffuse_side, diffuse_side, 3], irradiance divided by pi.
 * table     float32 [table_side, table_side, 2] as from tk_shade_brdf_table.
 * to_light  float32 [9] on the HOST: the matrix that turns world directions into those of the light.
 * position, normal, base_color   float32 [n, 3]. Where the normal is zero or not finite the result is 0.
 * metallic, roughness            float32 [n], clamped to [0, 1].
 * view      float32 [n, 3], or [3] when view_is_shared is not 0: where the viewer is.
 * out       float32 [n, 3], written.
 */
TK_API int tk_shade_shade(const float* specular, int64_t specular_side, int specular_levels, const float* diffuse,
                          int64_t diffuse_side, const float* table, int64_t table_side, const float* to_light,
                          const float* position, const float* normal, const float* base_color,
                          const float* metallic, const float* roughness, const float* view, int view_is_shared,
                          int64_t n, float* out, int device, void* stream);

#endif
