"""Every call that microsoft/TRELLIS.2 (5565d240, 10 January 2026) makes of the five modules fits what stands in for them.

The table was read from the syntax trees of its `trellis2`, `o-voxel/o_voxel/postprocess.py`, examples and apps: for each
name the number of positional arguments and the keywords. What results are worth is for the other tests.
"""

import importlib
import inspect

import pytest

CALLS = """
cumesh:CuMesh 0
cumesh:CuMesh.compute_vertex_normals 1
cumesh:CuMesh.fill_holes 1 max_hole_perimeter
cumesh:CuMesh.get_boundary_connected_components 1
cumesh:CuMesh.get_boundary_info 1
cumesh:CuMesh.get_boundary_loops 1
cumesh:CuMesh.get_edges 1
cumesh:CuMesh.get_manifold_boundary_adjacency 1
cumesh:CuMesh.get_vertex_boundary_adjacency 1
cumesh:CuMesh.get_vertex_edge_adjacency 1
cumesh:CuMesh.init 3
cumesh:CuMesh.num_boundaries
cumesh:CuMesh.num_boundary_loops
cumesh:CuMesh.num_faces
cumesh:CuMesh.num_vertices
cumesh:CuMesh.read 1
cumesh:CuMesh.read_manifold_boundary_adjacency 1
cumesh:CuMesh.read_vertex_normals 1
cumesh:CuMesh.remove_duplicate_faces 1
cumesh:CuMesh.remove_faces 2
cumesh:CuMesh.remove_small_connected_components 2
cumesh:CuMesh.repair_non_manifold_edges 1
cumesh:CuMesh.simplify 2 verbose options
cumesh:CuMesh.unify_face_orientations 1
cumesh:CuMesh.uv_unwrap 1 compute_charts_kwargs return_vmaps verbose
cumesh:cuBVH 2
cumesh:cuBVH.unsigned_distance 2 return_uvw
cumesh:remeshing.remesh_narrow_band_dc 2 center scale resolution band project_back verbose bvh
flex_gemm.ops.grid_sample:grid_sample_3d 2 shape grid mode
flex_gemm.ops.grid_sample:grid_sample_3d 4 mode
flex_gemm:ops.grid_sample.grid_sample_3d 2 shape grid mode
flex_gemm:ops.spconv.set_algorithm 1
flex_gemm:ops.spconv.set_hashmap_ratio 1
flex_gemm.ops.spconv:sparse_submanifold_conv3d 7
nvdiffrast.torch:DepthPeeler 4
nvdiffrast.torch:DepthPeeler.rasterize_next_layer 1
nvdiffrast.torch:RasterizeCudaContext 0
nvdiffrast.torch:RasterizeCudaContext 0 device
nvdiffrast.torch:antialias 4
nvdiffrast.torch:interpolate 3
nvdiffrast.torch:interpolate 3 rast_db diff_attrs
nvdiffrast.torch:rasterize 3 resolution
nvdiffrast.torch:rasterize 4
nvdiffrast.torch:texture 2 boundary_mode
nvdiffrast.torch:texture 2 filter_mode
nvdiffrast.torch:texture 3 filter_mode boundary_mode
nvdiffrec_render.light:EnvironmentLight 1
nvdiffrec_render.light:EnvironmentLight.build_mips 1
nvdiffrec_render.light:EnvironmentLight.shade 7
o_voxel:convert.flexible_dual_grid_to_mesh 3 split_weight grid_size aabb
o_voxel.convert:flexible_dual_grid_to_mesh 4 aabb grid_size train
o_voxel:convert.mesh_to_flexible_dual_grid 2 grid_size aabb face_weight boundary_weight regularization_weight timing
o_voxel:convert.textured_mesh_to_volumetric_attr 1 grid_size aabb timing
o_voxel:io.read 1
o_voxel:io.read_vxz 1 num_threads
o_voxel:io.write 3
o_voxel:postprocess.to_glb 0 vertices faces attr_volume coords attr_layout grid_size aabb decimation_target texture_size remesh remesh_band remesh_project use_tqdm
o_voxel:postprocess.to_glb 0 vertices faces attr_volume coords attr_layout voxel_size aabb decimation_target texture_size remesh remesh_band remesh_project verbose
o_voxel:rasterize.VoxelRenderer 1
o_voxel:rasterize.VoxelRenderer.render 6
o_voxel:serialize.encode_seq 1
"""  # noqa: E501


@pytest.mark.parametrize("line", CALLS.strip().splitlines())
def test_a_call_of_upstreams_fits(line):
    name, *shape = line.split()
    module, _, path = name.partition(":")
    target = importlib.import_module(module)
    for part in path.split("."):
        target = getattr(target, part)
    if shape:
        inspect.signature(target).bind(*range(int(shape[0])), **dict.fromkeys(shape[1:]))
    else:
        assert isinstance(target, property)
