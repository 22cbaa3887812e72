/* trellis_mesh: triangle meshes: connectivity, cleaning, simplification, remeshing, BVH, UV unwrapping.
 *
 * Conventions of every function here: see trellis/abi.h. Pointers are to contiguous row-major arrays that
 * the caller owns, on the device given by `device` (an index of CUDA, or TK_DEVICE_CPU with a null stream).
 */
#ifndef TRELLIS_MESH_H
#define TRELLIS_MESH_H

#include "trellis/abi.h"

/* What the last failing call of this thread said; empty if it succeeded. */
TK_API const char* tk_mesh_last_error(void);
/* Version of the package. */
TK_API const char* tk_mesh_version(void);
/* SHA-256 of the header this library was compiled from, in hexadecimal. */
TK_API const char* tk_mesh_abi(void);
/* CPU only. Threads for later calls; 0 returns to the default (TRELLIS_NUM_THREADS, else all cores). */
TK_API int tk_mesh_set_num_threads(int threads);

/* ---- Connectivity ----------------------------------------------------------------------------------------------
 * faces int32[F][3] with each index in [0, num_vertices). A face that names a vertex twice has no place in a
 * surface: it has no edges, and is a component by itself.
 *
 * Functions with `void* scratch, int64_t* scratch_bytes` work on CUDA in memory of the caller: called with a null scratch
 * they set *scratch_bytes and do nothing else; called again with that much they do their work. The CPU needs none, and
 * takes null for both. Those that return a number to the host wait for the stream. */

/* The undirected edges of the faces, or with boundary_only those of exactly one face. Sets *state (to be
 * given to tk_mesh_edges_end; it reads scratch until then) and *num_edges. */
TK_API int tk_mesh_edges_begin(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int boundary_only,
                               void** state, int64_t* num_edges, void* scratch, int64_t* scratch_bytes, int device,
                               void* stream);
/* edges int32[num_edges][2]: smaller vertex first, rows ascending. */
TK_API int tk_mesh_edges_fill(void* state, int32_t* edges, int device, void* stream);
TK_API int tk_mesh_edges_end(void* state);
/* labels int32[F]: faces that share an edge have equal ones; 0, 1, ... in the order of each component's
 * first face. *count: their number. */
TK_API int tk_mesh_connected_components(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* labels,
                                        int64_t* count, void* scratch, int64_t* scratch_bytes, int device,
                                        void* stream);
/* For labels int32[F] in [0, C): face_counts int64[C], areas double[C], and the bounding boxes' lows and
 * highs float[C][3]. Vertices float[V][3]. */
TK_API int tk_mesh_component_sizes(const float* vertices, const int32_t* faces, const int32_t* labels,
                                   int64_t num_faces, int64_t num_components, int64_t* face_counts, double* areas,
                                   float* lows, float* highs, void* scratch, int64_t* scratch_bytes, int device,
                                   void* stream);
/* first int32[V + 1] and corners int32[3 F]: corners 3 * face + i at vertex v are corners[first[v]] to
 * corners[first[v + 1] - 1], ascending. */
TK_API int tk_mesh_vertex_corners(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* first,
                                  int32_t* corners, void* scratch, int64_t* scratch_bytes, int device, void* stream);

/* ---- Normals ---------------------------------------------------------------------------------------------------
 * Unit vectors after the right-hand rule; zero where there is no direction, or coordinates are not finite. */

/* vertices float[V][3], faces int32[F][3] in [0, V), normals float[F][3]. */
TK_API int tk_mesh_face_normals(const float* vertices, const int32_t* faces, int64_t num_faces, float* normals, int device,
                                void* stream);
/* first int32[V + 1] and corners int32[3 F] as tk_mesh_vertex_corners makes them; normals float[V][3]. Faces weigh by
 * their angle at the vertex, or without by_angle by their area. */
TK_API int tk_mesh_vertex_normals(const float* vertices, const int32_t* faces, const int32_t* first, const int32_t* corners,
                                  int64_t num_vertices, int by_angle, float* normals, int device, void* stream);

/* first and corners as above; normals float[F][3][3], one for each corner of each face: the angle-weighted mean over the
 * faces at its vertex that turn away from its own face by at most the angle whose cosine is cos_crease. leaders
 * int32[F][3]: the first corner 3 * face + i at the same vertex whose normal has the same bits. */
TK_API int tk_mesh_corner_normals(const float* vertices, const int32_t* faces, const int32_t* first, const int32_t* corners,
                                  int64_t num_vertices, double cos_crease, float* normals, int32_t* leaders, int device,
                                  void* stream);

/* ---- Cleaning --------------------------------------------------------------------------------------------------
 * vertices float[V][3]; faces int32[F][3] with each index in [0, num_vertices). */

/* keep uint8[F]: 1 for the first face of each set of three vertices, in whatever order these stand. */
TK_API int tk_mesh_unique_faces(const int32_t* faces, int64_t num_faces, int64_t num_vertices, uint8_t* keep,
                                void* scratch, int64_t* scratch_bytes, int device, void* stream);
/* keep uint8[F]: 1 for faces of three vertices and a finite area above 0 and of at least
 * min(absolute, relative * longest side squared). */
TK_API int tk_mesh_proper_faces(const float* vertices, const int32_t* faces, int64_t num_faces, double absolute,
                                double relative, uint8_t* keep, int device, void* stream);
/* representative int32[V]: the smallest vertex at exactly the same place. */
TK_API int tk_mesh_weld_vertices(const float* vertices, int64_t num_vertices, int32_t* representative, void* scratch,
                                 int64_t* scratch_bytes, int device, void* stream);
/* Gives each fan of faces around a vertex (faces joined across edges of exactly two) a vertex of its own:
 * split_faces int32[F][3] with indices in [0, num_vertices + *num_added). */
TK_API int tk_mesh_split_fans(const int32_t* faces, int64_t num_faces, int64_t num_vertices, int32_t* split_faces,
                              int64_t* num_added, void* scratch, int64_t* scratch_bytes, int device, void* stream);
/* flip uint8[F]: faces to turn over so that neighbours across edges of exactly two faces agree; the majority
 * of each component stays, or with `outward` the component's signed volume becomes positive (vertices may be null
 * without it). *num_conflicts: edges left in disagreement, on surfaces with one side. */
TK_API int tk_mesh_unify_orientation(const float* vertices, const int32_t* faces, int64_t num_faces,
                                     int64_t num_vertices, int outward, uint8_t* flip, int64_t* num_conflicts,
                                     void* scratch, int64_t* scratch_bytes, int device, void* stream);
/* Marks the faces that may have boundary edges, without sorting edges. mark uint64[V]: other than 0 at the ends of every
 * boundary edge, 0 at vertices that have no edge of an odd number of faces (src/rim.hpp); touching uint8[F]: 1 for faces that name
 * no vertex twice and have one with a mark. */
TK_API int tk_mesh_rim_faces(const int32_t* faces, int64_t num_faces, int64_t num_vertices, uint64_t* mark, uint8_t* touching,
                             int device, void* stream);
/* The boundary edges of the mesh that those faces come from, given the faces alone with their order and the marks: edges
 * int32[3 F][2], smaller vertex first, rows ascending, of which the first counts[0] are written; closed uint8[3 F]: 1 for
 * edges in closed chains, which go from fan to fan (tk_mesh_split_fans); counts int64[2] on the host: edges, those in
 * closed chains. */
TK_API int tk_mesh_rim_chains(const int32_t* faces, int64_t num_faces, int64_t num_vertices, const uint64_t* mark, int32_t* edges,
                              uint8_t* closed, int64_t* counts, void* scratch, int64_t* scratch_bytes, int device,
                              void* stream);
/* CPU only. Closes the simple loops of boundary edges not longer than max_perimeter. With rim uint8[V] not null, only
 * edges that touch a vertex of a byte other than 0 are boundary edges: the mesh is then the part of a larger one that
 * touches such a vertex. counts int64[6]: loops, loops closed, loops longer than that, boundary edges in open chains,
 * new vertices N, new faces M. */
TK_API int tk_mesh_fill_holes_begin(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices,
                                    const uint8_t* rim, double max_perimeter, void** state, int64_t* counts, int device,
                                    void* stream);
/* new_vertices float[N][3], numbered from num_vertices on; new_faces int32[M][3]. */
TK_API int tk_mesh_fill_holes_fill(void* state, float* new_vertices, int32_t* new_faces, int device, void* stream);
TK_API int tk_mesh_fill_holes_end(void* state);

/* ---- Simplification --------------------------------------------------------------------------------------------- */

/* Edge collapse to at most target_faces faces if that can be reached. Vertices float[V][3] that faces name
 * are finite. regularization: weight of each face's attraction to its centroid against that to its plane;
 * boundary_weight: of the planes across boundary edges against those of faces; min_quality: least
 * 4 sqrt(3) area / sum of squared sides of new faces. counts int64[5]: vertices W, faces G, rounds, collapses,
 * collapses that changed the topology. errors double[3]: largest quadric error as a distance, largest distance of an
 * input vertex to the result, largest distance of an input vertex to its image. counts and errors are on the host;
 * the call returns when they are known. The CPU needs no scratch (null for both); on CUDA a null scratch sets
 * *scratch_bytes and does nothing else, and what is given then must stay until tk_mesh_simplify_fill has run. */
TK_API int tk_mesh_simplify_begin(const float* vertices, const int32_t* faces, int64_t num_faces, int64_t num_vertices,
                                  int64_t target_faces, double regularization, double boundary_weight, double min_quality,
                                  void** state, int64_t* counts, double* errors, void* scratch, int64_t* scratch_bytes,
                                  int device, void* stream);
/* vertices float[W][3], faces int32[G][3]; image int32[V]: the vertex that each input vertex became part of, -1 for
 * those that no face named or whose faces vanished. */
TK_API int tk_mesh_simplify_fill(void* state, float* vertices, int32_t* faces, int32_t* image, int device, void* stream);
TK_API int tk_mesh_simplify_end(void* state);

/* ---- Bounding volume hierarchy (csrc/mesh/src/bvh.hpp) ----
 *
 * Over F faces it is three arrays: leaves float[L][3][3][8], ids int32[L][8] and nodes float[N][2][3][8], where
 * L = ceil(F / 8), and N is the number of nodes: ceil(L / 8) above the leaves, and so on up to a single one.
 * Faces with a corner that is not finite are in no leaf: no query finds them.
 */

/* keys int64[F]: where along a space-filling curve each face lies within bounds float[6] (lowest x, y, z, then
 * highest); the largest int64 for a face with a corner that is not finite. vertices float[V][3], faces int32[F][3]
 * with indices in [0, V). */
TK_API int tk_mesh_bvh_keys(const float* vertices, const int32_t* faces, int64_t num_faces, const float* bounds,
                            int64_t* keys, int device, void* stream);
/* order int32[F]: the faces by their keys int64[F], and on the CPU within spans of 32768 faces by recursive cuts in
 * space. */
TK_API int tk_mesh_bvh_order(const float* vertices, const int32_t* faces, int64_t num_faces, const int64_t* keys,
                             int32_t* order, void* scratch, int64_t* scratch_bytes, int device, void* stream);
/* Fills leaves, ids and nodes; order int32[F] is a permutation of [0, F). */
TK_API int tk_mesh_bvh_fill(const float* vertices, const int32_t* faces, int64_t num_faces, const int32_t* order,
                            float* leaves, int32_t* ids, float* nodes, int device, void* stream);
/* For each of points float[P][3] the closest face not farther than max_distance (inf for no limit), of equally
 * distant ones (as floats) that of smallest number: distance float[P], face int64[P], barycentric float[P][3].
 * No face: inf, -1, zeros. A point that is not finite: NaN, -1, zeros. */
TK_API int tk_mesh_bvh_closest_point(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                     const float* points, int64_t num_points, float max_distance, float* distance,
                                     int64_t* face, float* barycentric, void* scratch, int64_t* scratch_bytes,
                                     int device, void* stream);
/* For each ray (origins, directions float[R][3]; directions of any length but 0) the first face met at a distance in
 * [t_min, t_max], of equally distant ones (as floats) that of smallest number: distance float[R], face int64[R],
 * barycentric float[R][3]. No face: inf, -1, zeros. A ray that is not finite or has no direction: NaN, -1, zeros. */
TK_API int tk_mesh_bvh_ray_cast(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                const float* origins, const float* directions, int64_t num_rays, float t_min,
                                float t_max, float* distance, int64_t* face, float* barycentric, void* scratch,
                                int64_t* scratch_bytes, int device, void* stream);
/* count int32[R]: faces that each ray crosses at a distance in [t_min, t_max]; of faces that share an edge or corner
 * which the ray meets exactly, as many count as for a ray beside it. -1 for a ray that is not finite or has no
 * direction. */
TK_API int tk_mesh_bvh_count_hits(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                  const float* origins, const float* directions, int64_t num_rays, float t_min,
                                  float t_max, int32_t* count, void* scratch, int64_t* scratch_bytes, int device,
                                  void* stream);

/* ---- UV unwrapping ---------------------------------------------------------------------------------------------- */

/* CPU only. Cuts the mesh into charts and lays them out in [0, 1]^2 without overlaps or turned faces. vertices
 * float[V][3], those that faces name are finite; faces int32[F][3]. resolution, padding: texels along a side of the
 * texture, and between charts. max_stretch: of any face that is not degenerate, largest singular value or inverse of
 * the smallest. sizes int64[2]: new vertices N, charts. */
TK_API int tk_mesh_unwrap_begin(const float* vertices, const int32_t* faces, int64_t num_vertices, int64_t num_faces,
                                int resolution, double padding, double max_stretch, void** state, int64_t* sizes,
                                int device, void* stream);
/* new_faces int32[F][3], vertex_map int32[N]: the vertex that each new one copies; uv float[N][2], multiples of 2^-24;
 * face_chart int32[F]: -1 only where the mesh has no chart. */
TK_API int tk_mesh_unwrap_fill(void* state, int32_t* new_faces, int32_t* vertex_map, float* uv, int32_t* face_chart,
                               int device, void* stream);
TK_API int tk_mesh_unwrap_end(void* state);
/* out float[F][4], for each face: largest and smallest singular value of the map from texture to surface (infinite and
 * 0 for a face without texture area, 0 and 0 if it has none on the surface either), area on the surface, signed area
 * in the texture. vertices float[V][3], uv float[V][2], faces int32[F][3] with indices in [0, V). */
TK_API int tk_mesh_uv_stretch(const float* vertices, const int32_t* faces, const float* uv, int64_t num_faces, float* out,
                              int device, void* stream);
/* CPU only. out double[10]: charts that have texture area (faces that share an edge are of one chart); of those, the
 * mirrored (most of their area is turned over) and those of fewer than small_chart_texels texels; L2 and L-infinity
 * stretch, 1 for an undistorted layout of even density, over faces that have both areas; texture area, overlapping
 * places counted twice; faces turned against their chart, overlapped by another, outside [0, 1]^2, without texture
 * area though not degenerate. face_chart int32[F]; face_fault uint8[F]: a bit for each of those four, from the lowest.
 * Overlaps and turns of a depth below 2^-22 are rounding and do not count. |uv| <= 2^20. */
TK_API int tk_mesh_measure_uv(const float* vertices, const int32_t* faces, const float* uv, int64_t num_vertices,
                              int64_t num_faces, int resolution, double small_chart_texels, double* out,
                              int32_t* face_chart, uint8_t* face_fault, int device, void* stream);

/* ---- UV unwrapping, flat path --------------------------------------------------------------------------------------
 * Steps on arrays that the caller owns, the same on the CPU and on CUDA; trellis_mesh/_flat.py composes them. Faces
 * F = num_faces, vertices of charts V = num_vertices. position double[points][3], point int32[F][3], normal and centre
 * double[F][3], area double[F], kind uint8[F], twin int32[3F]: the half-edge glued to half-edge 3 face + k, or -1; label
 * int32[F]: chart, -1 for none. */

/* Normal, area and kind (0 regular, 1 thin, 2 collapsed: two corners at one point) of each face. */
TK_API int tk_mesh_flat_measure_faces(const double* position, const int32_t* point, int64_t num_faces, double* normal,
                                      double* area, uint8_t* kind, int device, void* stream);
/* twin int32[3F], -1 before: half-edges glued in pairs. key int64[count] ascending, equal for the half-edges of
 * one edge and INT64_MAX for those left out; half int32[count] in that order. Where more than two meet, the
 * flattest pairs. */
TK_API int tk_mesh_flat_glue(const int64_t* key, const int32_t* half, int64_t count, const int32_t* point, const
                             double* normal, int32_t* twin, int device, void* stream);
/* Averages normals over glued neighbours that face a similar way, twice a round. scratch as normal. */
TK_API int tk_mesh_flat_smooth_normals(const double* area, const int32_t* twin, int64_t num_faces, int rounds, double*
                                       normal, double* scratch, int device, void* stream);
/* root int32[F]: smallest face of those that glued edges connect within one label. parent int32[F]: scratch. */
TK_API int tk_mesh_flat_components(const int32_t* twin, const int32_t* label, int64_t num_faces, int32_t* parent,
                                   int32_t* root, int device, void* stream);
/* root int32[3F]: smallest corner of those around a point that glued edges of one label connect; with uv
 * double[F][3][2], which may be null, only edges at one place. parent int32[3F]: scratch. */
TK_API int tk_mesh_flat_corner_sets(const int32_t* twin, const int32_t* label, const double* uv, int64_t num_faces,
                                    int32_t* parent, int32_t* root, int device, void* stream);
/* nodes double[F][5]: area-weighted normal, area, perimeter; length double[3F] of the half-edges. */
TK_API int tk_mesh_flat_first_clusters(const double* normal, const double* area, const double* position, const
                                       int32_t* point, int64_t num_faces, double* nodes, double* length, int device,
                                       void* stream);
/* One round of joining mutually best pairs of clusters. ends int64[count]: smaller cluster times num_faces plus
 * larger one, ascending; renamed afterwards, INT64_MAX for edges within a cluster. shared double[count]: length.
 * nodes and parent int32[F] are brought up to date. Scratch: cost int64[count], best int64[F]. */
TK_API int tk_mesh_flat_join(int64_t* ends, const double* shared, int64_t count, int64_t num_faces, double max_spread,
                             double* nodes, int32_t* parent, int64_t* cost, int64_t* best, int device, void* stream);
/* Edges of equal ends as one: first[i] marks the first of each run of ends int64[count], ascending, and sum[i] is
 * the total of shared[order] over the run. INT64_MAX has no first. */
TK_API int tk_mesh_flat_sum_shared(const int64_t* ends, const int64_t* order, const double* shared, int64_t count,
                                   double* sum, uint8_t* first, int device, void* stream);
/* root int32[count]: where the chain of parents ends. */
TK_API int tk_mesh_flat_roots(int32_t* parent, int64_t count, int32_t* root, int device, void* stream);
/* Adds area-weighted normals and areas in units of 2^-44 to sums int64[charts][4]. */
TK_API int tk_mesh_flat_chart_sums(const double* normal, const double* area, const int32_t* label, int64_t num_faces,
                                   int64_t* sums, int device, void* stream);
/* distance double[F] of faces on a border of their label to it, infinite for the others. */
TK_API int tk_mesh_flat_border_distance(const double* area, const double* length, const int32_t* twin, const int32_t*
                                        label, int64_t num_faces, double* distance, int device, void* stream);
/* Shortest ways over neighbouring faces, two steps a round, from where distance double[F] is finite; owner
 * int32[F] follows. Without sums within labels; with sums (of the owners) at the pace of each chart. *changed:
 * whether the last step did. */
TK_API int tk_mesh_flat_relax(const double* centre, const double* normal, const int32_t* twin, const int32_t* label,
                              const int64_t* sums, int64_t num_faces, int rounds, double* distance, int32_t* owner,
                              double* distance_scratch, int32_t* owner_scratch, int32_t* changed, int device, void*
                              stream);
/* core int64[charts]: of each label the face of greatest distance in the lower 32 bits; distance 0 and owner =
 * label there. core comes as INT64_MAX. */
TK_API int tk_mesh_flat_cores(const double* old_distance, const int32_t* label, int64_t num_faces, int64_t num_charts,
                              int64_t* core, double* distance, int32_t* owner, int device, void* stream);
/* Moves faces to the chart that holds more of their border if it faces the same way within tolerance. wish
 * int32[F]: scratch. */
TK_API int tk_mesh_flat_straighten(const double* normal, const double* length, const int32_t* twin, const int64_t*
                                   sums, double tolerance, int64_t num_faces, int rounds, int32_t* wish, int32_t*
                                   label, int device, void* stream);
/* rest double[F][4]: inverse length of the first edge, where the third corner lies along it, inverse height, area. */
TK_API int tk_mesh_flat_rest_shapes(const double* position, const int32_t* point, const uint8_t* kind, int64_t
                                    num_faces, double* rest, int device, void* stream);
/* uv double[V][2]: along the mean normal of the chart. vertex_point, vertex_chart int32[V]. */
TK_API int tk_mesh_flat_project(const double* position, const int32_t* vertex_point, const int32_t* vertex_chart,
                                const int64_t* sums, int64_t num_vertices, double* uv, int device, void* stream);
/* colour int32[V], -1 before: no two vertices of one face have the same. ring int32[3F]: corners by vertex, those
 * of v from ring_first[v] on; corner int32[F][3]: vertices. *left: whether any has none yet. */
TK_API int tk_mesh_flat_colour(const int32_t* corner, const int32_t* ring_first, const int32_t* ring, int64_t
                               num_vertices, int rounds, int32_t* colour, int32_t* left, int device, void* stream);
/* For each softness (0: no face may turn over) every vertex moves once to where the symmetric Dirichlet energy of
 * its faces is lower, colour by colour. colour_first int64[colours + 1] and softness are on the host; list int32:
 * vertices by colour; pinned uint8[V], may be null; active uint8[F]: scratch. */
TK_API int tk_mesh_flat_move(const int64_t* colour_first, int colours, const int32_t* list, const int32_t* corner,
                             const int32_t* ring_first, const int32_t* ring, const double* rest, const uint8_t* kind,
                             const uint8_t* pinned, int64_t num_faces, const double* softness, int sweeps, double* uv,
                             uint8_t* active, int device, void* stream);
/* Scales the layout of each chart to its area on the surface. sums int64[charts][3] comes as zero. */
TK_API int tk_mesh_flat_rescale(const double* rest, const double* area, const int32_t* corner, const int32_t* label,
                                const uint8_t* kind, const int32_t* vertex_chart, int64_t num_faces, int64_t
                                num_vertices, int64_t* sums, double* uv, int device, void* stream);
/* out uint8[F]: faces turned by more than tolerance or stretched by more than max_stretch. sums int64[charts][3],
 * zero before: texture area, surface area and energy of the others. */
TK_API int tk_mesh_flat_judge(const double* rest, const double* area, const int32_t* corner, const int32_t* label,
                              const uint8_t* kind, const double* uv, int64_t num_faces, double max_stretch, double
                              tolerance, int64_t* sums, uint8_t* out, int device, void* stream);
/* keys int64[count]: places along a Morton curve of triangles corners double[count][3][2], all within 2^32 / scale
 * of the lowest point. */
TK_API int tk_mesh_flat_tree_keys(const double* corners, int64_t count, double low_x, double low_y, double scale,
                                  int64_t* keys, int device, void* stream);
/* boxes double[2 * leaves][4], leaves the power of two at or above count / 4, of triangles in order int32[count];
 * those no taller than tolerance are left out. */
TK_API int tk_mesh_flat_tree_build(const double* corners, const int32_t* order, int64_t count, double tolerance,
                                   double* boxes, int device, void* stream);
/* other int32[count]: a triangle that each reaches into by more than tolerance, or -1. */
TK_API int tk_mesh_flat_tree_find(const double* corners, const int32_t* order, int64_t count, double tolerance, const
                                  double* boxes, int32_t* other, int device, void* stream);
/* boxes double[charts][angles][4]: lowest corner and size of each chart turned back by angles in a quarter turn.
 * uv double[faces][3][2] by chart, those of chart c from chart_first[c] on. */
TK_API int tk_mesh_flat_boxes(const double* uv, const int64_t* chart_first, int64_t num_charts, int angles, double*
                              boxes, int device, void* stream);
/* Spans of cells within margin of the charts at each scale: for each scale and chart size int32[2] (columns, rows)
 * and offset, from which on low and high hold its rows, then its columns; low comes larger than any, high as 0. */
TK_API int tk_mesh_flat_draw(const double* uv, const int32_t* chart, int64_t num_faces, int64_t num_charts, const
                             double* scales, int64_t num_scales, double margin, const int32_t* size, const int64_t*
                             offset, int32_t* low, int32_t* high, int device, void* stream);
/* Packs the charts at each scale in each order int32[orders][charts]; fits uint8[scales]: whether all are within
 * the grid. found int32[scales * orders]; place int32[scales * orders][charts][3]: cell of the lowest corner and
 * counterclockwise quarter turns. Scratch: taken uint32[scales * orders][grid][grid / 32]; grid is a multiple of
 * 32, at most 8160. */
TK_API int tk_mesh_flat_place(const int32_t* size, const int64_t* offset, const int32_t* low, const int32_t* high,
                              const int32_t* order, const uint8_t* fits, int64_t num_charts, int64_t num_scales,
                              int64_t num_orders, int grid, uint32_t* taken, int32_t* place, int32_t* found, int
                              device, void* stream);

/* ---- Remeshing ---- */

/* A closed mesh around the mesh of a tree (its three arrays, see above): dual contouring of the distance to
 * it at `band` cells on a grid of resolution^3 cells of size `cell` from (origin_x, origin_y, origin_z), which must
 * hold the mesh; vertices then go the share `project` of their way to the mesh. fill other than 0: what the band cuts
 * off from the border of the grid is solid, so that there is no inner surface. On success *state owns the result
 * (*num_vertices and *num_new_faces say its size) until tk_mesh_remesh_end; *held_back counts the vertices that went
 * less far, because a triangle would have turned over. allocate: on CUDA, void* (*)(int64_t bytes), asked for each piece
 * of device memory (null if there is none), all of which the result refers to until tk_mesh_remesh_end; null on the CPU. */
TK_API int tk_mesh_remesh_begin(const float* nodes, const float* leaves, const int32_t* ids, int64_t num_faces,
                                double origin_x, double origin_y, double origin_z, double cell, int resolution,
                                double band, double project, int fill, void** state, int64_t* num_vertices,
                                int64_t* num_new_faces, int64_t* held_back, void* allocate, int device,
                                void* stream);
/* Copies the result of begin to vertices float[num_vertices][3] and faces int32[num_new_faces][3]. */
TK_API int tk_mesh_remesh_fill(const void* state, float* vertices, int32_t* faces, int device, void* stream);
/* Frees what begin made. */
TK_API int tk_mesh_remesh_end(void* state);

#endif
