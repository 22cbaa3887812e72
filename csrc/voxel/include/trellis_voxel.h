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

/* ---- Mesh to flexible dual grid ---- */

/* Builds the dual grid of a triangle mesh and keeps it in *state, which tk_voxel_mesh_to_dual_grid_end frees.
 *   vertices         float32 [vertex_count, 3], world units, finite
 *   faces            int32 [face_count, 3], indices in [0, vertex_count)
 *   origin           float32 [3], on the host: the grid's lower corner
 *   voxel_size       float32 [3], on the host, positive
 *   grid_size        int32 [3], on the host, each in [1, 65536]
 *   use_faces        not 0: a triangle counts in each voxel that it overlaps, besides those around its crossings
 *   boundary_weight, regularization_weight  0 or more
 *   allocate         on CUDA a function void* (int64_t bytes), which gives memory of the device that is the caller's to
 *                    free after _end, or null where there is none; called several times, as sizes follow from counts.
 *                    Null on the CPU
 *   state            out: null if the call fails
 *   voxel_count      out, on the host; on CUDA the call waits for the stream to learn it
 */
TK_API int tk_voxel_mesh_to_dual_grid_begin(const float* vertices, int64_t vertex_count, const int32_t* faces,
                                            int64_t face_count, const float* origin, const float* voxel_size,
                                            const int32_t* grid_size, int use_faces, float boundary_weight,
                                            float regularization_weight, void* allocate, void** state, int64_t* voxel_count,
                                            int device, void* stream);
/* Writes the grid in `state`, ascending by (x, y, z); on the device and the stream of _begin, whose arrays are read again.
 *   coords           out: int32 [voxel_count, 3]
 *   dual_vertices    out: float32 [voxel_count, 3], relative to the origin
 *   intersected      out: uint8 [voxel_count, 3], 0 or 1
 */
TK_API int tk_voxel_mesh_to_dual_grid_fill(void* state, int32_t* coords, float* dual_vertices, uint8_t* intersected,
                                           int device, void* stream);
/* Frees `state`, which may be null. */
TK_API int tk_voxel_mesh_to_dual_grid_end(void* state);

/* ---- Flexible dual grid to mesh ---- */

/* Size of the scratch memory of the two calls below. */
TK_API int tk_voxel_dual_grid_to_mesh_scratch(int64_t voxel_count, int64_t* bytes);
/* Counts the quads: one for each flag whose four voxels exist. Waits for the stream.
 *   coords           int32 [voxel_count, 3], in the grid; of equal voxels the first counts as the neighbour
 *   local_dual       float32 [voxel_count, 3], voxel units, finite
 *   intersected      uint8 [voxel_count, 3], not 0: crossed
 *   grid_size        int32 [3], on the host
 *   scratch          written; for the call of _fill with the same arrays, aligned to 8 bytes
 *   quad_count       out, on the host
 */
TK_API int tk_voxel_dual_grid_to_mesh_count(const int32_t* coords, const float* local_dual, const uint8_t* intersected,
                                            int64_t voxel_count, const int32_t* grid_size, void* scratch,
                                            int64_t* quad_count, int device, void* stream);
/* Writes the mesh.
 *   split_weight     float32 [voxel_count], or null: split along the flatter diagonal
 *   origin, voxel_size  float32 [3], on the host
 *   scratch          as _count left it
 *   vertices         out: float32 [voxel_count, 3]
 *   faces            out: int32 [2 * quad_count, 3]
 */
TK_API int tk_voxel_dual_grid_to_mesh_fill(const int32_t* coords, const float* local_dual, const float* split_weight,
                                           int64_t voxel_count, const float* origin, const float* voxel_size,
                                           void* scratch, float* vertices, int32_t* faces, int device, void* stream);

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
 *   average          0: over triangles that cross the lattice there; 1: over the surface inside, by area times alpha
 *   allocate         as of tk_voxel_mesh_to_dual_grid_begin
 * material_factors, material_indices and textures lie on the host, the rest on the device.
 * On success *state holds the result, to be given back to tk_voxel_attributes_end, and *count its voxels; on CUDA the
 * call waits for the stream. */
TK_API int tk_voxel_attributes_begin(const float* vertices, const int32_t* faces, int64_t face_count, const float* normals, const float* uvs,
                                     const float* colors, const int32_t* face_materials, const float* material_factors,
                                     const int32_t* material_indices, int64_t material_count, const uint8_t* texels, int64_t texel_bytes,
                                     const int64_t* textures, int64_t texture_count, const double* voxel_size, const int32_t* grid_size,
                                     double mip_bias, int average, void* allocate, void** state, int64_t* count, int device,
                                     void* stream);

/* Second half, on the device and the stream of the first, whose arrays are read again: coords int32 [count, 3] in
 * ascending order of x, y, z; attributes uint8 [count, 12]: base colour 3, metallic, roughness, emissive 3, alpha,
 * normal 3 (mapped from [-1, 1]). */
TK_API int tk_voxel_attributes_fill(const void* state, int32_t* coords, uint8_t* attributes, int device, void* stream);

/* Frees what begin made. */
TK_API int tk_voxel_attributes_end(void* state, int device, void* stream);

/* ---- .vxz files: CPU only, called by the reader and the writer --------------------------------------- */

/* Puts voxels in the order of a .vxz file: by chunk of side 2^depth (x, then y, then z), then by Morton code in it.
 * coords int32 [count, 3], each in [-2^20, 2^20), no voxel twice; depth 1 to 10. order int64 [count]: row of `coords`
 * of each voxel in that order; keys int64 [count], ascending: number of the chunk above the lowest 3 depth bits, Morton
 * code in them. */
TK_API int tk_voxel_vxz_order(const int32_t* coords, int64_t count, int depth, int64_t* order, int64_t* keys, int device, void* stream);

/* Writes the octree of one chunk. keys int64 [count], ascending, of which the lowest 3 depth bits are read;
 * octree uint8 [count * depth], of which *size bytes are used. */
TK_API int tk_voxel_vxz_octree_encode(const int64_t* keys, int64_t count, int depth, uint8_t* octree, int64_t* size, int device, void* stream);

/* Checks an octree uint8 [size] and counts its voxels. */
TK_API int tk_voxel_vxz_octree_count(const uint8_t* octree, int64_t size, int depth, int64_t* count, int device, void* stream);

/* Voxels of an octree in Morton order: coords int32 [count, 3], moved by origin int32 [3]. */
TK_API int tk_voxel_vxz_octree_decode(const uint8_t* octree, int64_t size, int depth, const int32_t* origin, int64_t count, int32_t* coords,
                                      int device, void* stream);

/* Filters or, where decode is not 0, unfilters the attributes of one chunk along its octree.
 * in, out: uint8 [count, channels], not overlapping; count is the octree's, at least 1. */
TK_API int tk_voxel_vxz_parent_filter(const uint8_t* octree, int64_t size, int depth, int64_t count, int64_t channels, const uint8_t* in,
                                      uint8_t* out, int decode, int device, void* stream);

/* Filters or, where decode is not 0, unfilters the attributes of one chunk by neighbours in space.
 * coords int32 [count, 3] in Morton order, inside the chunk of side 2^depth at origin int32 [3];
 * in, out: uint8 [count, channels], not overlapping. */
TK_API int tk_voxel_vxz_neighbor_filter(const int32_t* coords, const int32_t* origin, int depth, int64_t count, int64_t channels, const uint8_t* in,
                                        uint8_t* out, int decode, int device, void* stream);

#endif
