/* trellis_voxel: meshes to O-Voxels and back, attribute voxelisation, .vxz files.
 *
 * Conventions of every function here: see trellis/abi.h. Pointers are to contiguous row-major arrays that
 * the caller owns, on the device given by `device` (an index of CUDA, or TK_DEVICE_CPU with a null stream).
 */
#ifndef TRELLIS_VOXEL_H
#define TRELLIS_VOXEL_H

#include "trellis/abi.h"

/* What the last failing call of this thread said; empty if it succeeded. */
TK_API const char* tk_voxel_last_error(void);
/* Version of the package. */
TK_API const char* tk_voxel_version(void);
/* SHA-256 of the header this library was compiled from, in hexadecimal. */
TK_API const char* tk_voxel_abi(void);
/* CPU only. Threads for later calls; 0 returns to the default (TRELLIS_NUM_THREADS, else all cores). */
TK_API int tk_voxel_set_num_threads(int threads);

/* ---- Mesh to flexible dual grid (CPU only) ---- */

/* Builds the dual grid of a triangle mesh and keeps it in *state, which tk_voxel_mesh_to_dual_grid_end frees.
 *   vertices         float32 [vertex_count, 3], world units, finite
 *   faces            int32 [face_count, 3], indices in [0, vertex_count)
 *   origin           float32 [3], on the host: the grid's lower corner
 *   voxel_size       float32 [3], on the host, positive
 *   grid_size        int32 [3], on the host, each in [1, 65536]
 *   use_faces        not 0: a triangle counts in each voxel that it overlaps, besides those around its crossings
 *   boundary_weight, regularization_weight  0 or more
 *   state            out: null if the call fails
 *   voxel_count      out, on the host
 */
TK_API int tk_voxel_mesh_to_dual_grid_begin(const float* vertices, int64_t vertex_count, const int32_t* faces,
                                            int64_t face_count, const float* origin, const float* voxel_size,
                                            const int32_t* grid_size, int use_faces, double boundary_weight,
                                            double regularization_weight, void** state, int64_t* voxel_count, int device,
                                            void* stream);
/* Writes the grid in `state`, ascending by (x, y, z).
 *   coords           out: int32 [voxel_count, 3]
 *   dual_vertices    out: float32 [voxel_count, 3], relative to the origin
 *   intersected      out: uint8 [voxel_count, 3], 0 or 1
 */
TK_API int tk_voxel_mesh_to_dual_grid_fill(void* state, int32_t* coords, float* dual_vertices, uint8_t* intersected,
                                           int device, void* stream);
/* Frees `state`, which may be null. */
TK_API int tk_voxel_mesh_to_dual_grid_end(void* state);

/* ---- attributes of a textured mesh ----------------------------------------------------------------- */

/* Voxelises the materials of a mesh: first half, see tk_voxel_attributes_fill. V vertices, F faces, M materials.
 *   vertices         float [V, 3], relative to the grid's corner, finite; faces int32 [F, 3], indices below V
 *   normals          float [V, 3] or null (then those of the faces)
 *   uvs              float [V, 2], finite, v upwards, or null (then no texture is read)
 *   colors           float [V, 4] RGBA in [0, 1], multiplied into base colour and alpha, or null
 *   face_materials   int32 [F], indices below M
 *   material_factors float [M, 11]: base colour RGBA, metallic, roughness, emissive RGB, alpha cutoff, normal scale
 *   material_indices int32 [M, 5]: textures (or -1) of base colour (4 channels), roughness and metallic (2),
 *                    emissive (3), normal (3), then the alpha mode: 0 opaque, 1 mask, 2 blend
 *   texels           uint8 [texel_bytes], all textures one after the other; may be null when there are none
 *   textures         int64 [texture_count, 7]: offset in texels, height, width, channels, wrap u, wrap v (0 repeat,
 *                    1 clamp, 2 mirror), filter (0 nearest, 1 linear with mip levels); may be null when there are none
 *   voxel_size       double [3]; grid_size int32 [3], each in [1, 65536]; mip_bias is added to each mip level
 * On success *state holds the result, to be given back to tk_voxel_attributes_end, and *count its voxels. */
TK_API int tk_voxel_attributes_begin(const float* vertices, const int32_t* faces, int64_t face_count, const float* normals, const float* uvs,
                                     const float* colors, const int32_t* face_materials, const float* material_factors,
                                     const int32_t* material_indices, int64_t material_count, const uint8_t* texels, int64_t texel_bytes,
                                     const int64_t* textures, int64_t texture_count, const double* voxel_size, const int32_t* grid_size,
                                     double mip_bias, void** state, int64_t* count, int device, void* stream);

/* Second half: coords int32 [count, 3] in ascending order of x, y, z; attributes uint8 [count, 12]: base colour 3,
 * metallic, roughness, emissive 3, alpha, normal 3 (mapped from [-1, 1]). */
TK_API int tk_voxel_attributes_fill(const void* state, int32_t* coords, uint8_t* attributes, int device, void* stream);

/* Frees what begin made. */
TK_API int tk_voxel_attributes_end(void* state, int device, void* stream);

#endif
