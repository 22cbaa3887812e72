"""A foreign GLB -> the unit cube of the road -> dual grid and voxel attributes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import trellis_voxel as voxel
from trellis_regression.glb import Glb, GlbError, check_geometry, read_glb

from .stages import UNIT_AABB, Placement, VoxelAsset

if TYPE_CHECKING:  # it is slow to import: a second and more, with all that it uses
    import trimesh

# glTF is y-up, the road is z-up as the TRELLIS.2 training data is: (x, y, z) -> (x, -z, y).
Y_UP_TO_Z_UP = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64)

# The longest side is scaled to just under 1, so that no coordinate lands on the far face of the cube.
_FIT = 0.99999


@dataclass(frozen=True)
class SourceAsset:
    """A scene fitted into the unit cube.

    Attributes:
        scene: triangle meshes with their materials, in road space.
        vertices, faces: the same triangles as one mesh, float32 [V, 3] and int32 [F, 3].
        placement: how to put the result back where the source was.
    """

    scene: trimesh.Scene
    vertices: torch.Tensor
    faces: torch.Tensor
    placement: Placement


def load_source(path: str | Path) -> SourceAsset:
    """Reads a GLB and fits its triangles into the unit cube.

    Raises:
        GlbError: not a GLB, broken, empty, without faces, with positions that are not finite, or flat in all axes.
    """
    glb = read_glb(path)
    try:
        check_geometry(glb)
        return _fit(_triangles_only(glb))
    except GlbError as error:
        raise GlbError(f"{path}: {error}") from error.__cause__


def _triangles_only(glb: Glb) -> trimesh.Scene:
    import trimesh
    import trimesh.visual

    try:
        loaded = trimesh.load_scene(io.BytesIO(glb.data), file_type="glb", process=False)
    except Exception as error:  # trimesh raises many types; the structure was checked, so this is unusual content
        raise GlbError(f"its content cannot be read: {type(error).__name__}: {error}") from error
    scene = trimesh.Scene()
    for node in loaded.graph.nodes_geometry:
        transform, name = loaded.graph[node]
        geometry = loaded.geometry[name]
        if isinstance(geometry, trimesh.Trimesh) and len(geometry.faces):
            placed = geometry.copy()
            placed.apply_transform(transform)
            scene.add_geometry(placed, node_name=node, geom_name=node)
    if not scene.geometry:
        raise GlbError("the scene has no faces")
    return scene


def _fit(scene: trimesh.Scene) -> SourceAsset:
    low, high = (np.asarray(b, np.float64) for b in scene.bounds)
    centre, extent = (low + high) / 2, float((high - low).max())
    if not np.isfinite(extent) or extent <= 0:
        raise GlbError(f"its extent is {extent}; a shape needs a size")
    fit = np.eye(4)
    fit[:3, :3] *= _FIT / extent
    fit[:3, 3] = -centre * _FIT / extent
    scene.apply_transform(Y_UP_TO_Z_UP @ fit)
    whole = cast("trimesh.Trimesh", scene.to_geometry())
    return SourceAsset(
        scene,
        torch.from_numpy(np.array(whole.vertices, np.float32)),
        torch.from_numpy(np.array(whole.faces, np.int32)),
        Placement(extent / _FIT, (float(centre[0]), float(centre[1]), float(centre[2]))),
    )


def voxelize(source: SourceAsset, resolution: int, device: torch.device) -> VoxelAsset:
    """The dual grid (shape) and the voxel attributes (materials) of a source at `resolution`^3."""
    aabb = [list(UNIT_AABB[0]), list(UNIT_AABB[1])]
    grid = voxel.mesh_to_dual_grid(
        source.vertices.to(device), source.faces.to(device), grid_size=resolution, aabb=aabb,
        face_weight=1.0, boundary_weight=0.2, regularization_weight=0.01,
    )  # fmt: skip
    # The mean over the surface inside each voxel: a single sample a triangle can read across the seams of the texture.
    coords, attrs = voxel.voxelize_attributes(
        source.scene, grid_size=resolution, aabb=aabb, average="area", device=device
    )
    local = grid.dual_vertices * resolution - grid.coords
    return VoxelAsset(
        grid.coords,
        local,
        grid.intersected,
        None,
        coords.to(device),
        {k: v.to(device) for k, v in attrs.items()},
        resolution,
    )
