"""As o_voxel.convert."""

from __future__ import annotations

import os
import time
from typing import Any

import torch
import trellis_voxel

from ._settings import grid_of

__all__ = ["flexible_dual_grid_to_mesh", "mesh_to_flexible_dual_grid", "textured_mesh_to_volumetric_attr"]


@torch.no_grad()
def mesh_to_flexible_dual_grid(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    voxel_size: Any = None,
    grid_size: Any = None,
    aabb: Any = None,
    face_weight: float = 1.0,
    boundary_weight: float = 1.0,
    regularization_weight: float = 0.1,
    timing: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`trellis_voxel.mesh_to_dual_grid`.

    Returns:
        coords int32 [N, 3]; dual vertices float32 [N, 3], relative to the lower corner of aabb; flags bool [N, 3].
    """
    start = time.perf_counter()
    v = vertices.float()
    grid = grid_of(voxel_size, grid_size, aabb, _bounds(v) if aabb is None else None)
    result = trellis_voxel.mesh_to_dual_grid(
        v,
        faces.int(),
        grid_size=grid.size,
        aabb=(grid.aabb_min, grid.aabb_max),
        face_weight=face_weight,
        boundary_weight=boundary_weight,
        regularization_weight=regularization_weight,
    )
    if timing:
        print(f"mesh_to_flexible_dual_grid: {len(result.coords)} voxels in {time.perf_counter() - start:.3f} s")
    return result.coords, result.dual_vertices, result.intersected


def _bounds(vertices: torch.Tensor) -> tuple[list[float], list[float]]:
    if len(vertices) == 0:
        raise ValueError("vertices: expected at least one where aabb is None, got none")
    return vertices.amin(0).tolist(), vertices.amax(0).tolist()


@torch.no_grad()
def flexible_dual_grid_to_mesh(
    coords: torch.Tensor,
    dual_vertices: torch.Tensor,
    intersected_flag: torch.Tensor,
    split_weight: torch.Tensor | None,
    aabb: Any,
    voxel_size: Any = None,
    grid_size: Any = None,
    train: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`trellis_voxel.dual_grid_to_mesh`.

    Args:
        dual_vertices: [N, 3] in voxel units relative to each voxel's lower corner.

    Returns:
        vertices float32 [N, 3] and faces int32 [F, 3].

    Raises:
        NotImplementedError: train, which splits quads at a fifth vertex and passes gradients on.
    """
    if train:
        raise NotImplementedError("flexible_dual_grid_to_mesh: trellis_compat serves train=False only")
    grid = grid_of(voxel_size, grid_size, aabb)
    return trellis_voxel.dual_grid_to_mesh(
        coords.int(),
        dual_vertices,
        intersected_flag,
        split_weight,
        aabb=(grid.aabb_min, grid.aabb_max),
        grid_size=grid.size,
    )


def textured_mesh_to_volumetric_attr(
    mesh: Any,
    voxel_size: Any = None,
    grid_size: Any = None,
    aabb: Any = None,
    mip_level_offset: float = 0.0,
    verbose: bool = False,
    timing: bool = False,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """`trellis_voxel.voxelize_attributes` of a trimesh Scene or Trimesh, or of the file of one.

    Returns:
        coords int32 [N, 3]; and uint8 [N, c] for base_color, metallic, roughness, emissive, alpha and normal.
    """
    start = time.perf_counter()
    if isinstance(mesh, (str, os.PathLike)):
        import trimesh

        mesh = trimesh.load(os.fspath(mesh))
    bounds = None
    if aabb is None:
        if mesh.bounds is None:
            raise ValueError("mesh: expected at least one vertex where aabb is None, got none")
        bounds = (mesh.bounds[0], mesh.bounds[1])
    grid = grid_of(voxel_size, grid_size, aabb, bounds)
    if verbose:
        print(f"textured_mesh_to_volumetric_attr: {grid}")
    coords, attributes = trellis_voxel.voxelize_attributes(
        mesh, grid_size=grid.size, aabb=(grid.aabb_min, grid.aabb_max), mip_bias=mip_level_offset
    )
    if timing:
        print(f"textured_mesh_to_volumetric_attr: {len(coords)} voxels in {time.perf_counter() - start:.3f} s")
    return coords, attributes
