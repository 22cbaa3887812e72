"""A foreign GLB -> the unit cube of the road -> dual grid and voxel attributes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trellis_voxel as voxel
from trellis_regression.glb import Glb, GlbError, check_geometry, read_glb
from trellis_regression.scene import Part, load_parts

from .left_out import left_out
from .materials import textured
from .normals import Reference
from .stages import UNIT_AABB, Mesh, Placement, VoxelAsset

# glTF is y-up, the road is z-up as the TRELLIS.2 training data is: (x, y, z) -> (x, -z, y).
Y_UP_TO_Z_UP = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.float64)

# The longest side is scaled to just under 1, so that no coordinate lands on the far face of the cube.
_FIT = 0.99999


@dataclass(frozen=True)
class SourceAsset:
    """A scene fitted into the unit cube.

    Attributes:
        parts: triangles with their materials, in road space.
        vertices, faces, normals: the same triangles as one mesh, float32 [V, 3], int32 [F, 3] and float32 [V, 3].
        placement: how to put the result back where the source was.
        left_out: sentences about what the file has and the voxels have no place for.
    """

    parts: list[Part]
    vertices: torch.Tensor
    faces: torch.Tensor
    normals: torch.Tensor
    placement: Placement
    left_out: tuple[str, ...] = ()

    def reference(self, device: torch.device) -> Reference:
        """The surface itself, for `export_asset`."""
        return Reference(Mesh(self.vertices.to(device), self.faces.to(device)), self.normals.to(device))

    @property
    def blended_double_sided(self) -> bool:
        """Whether what the source blends shows from behind; so it should if nothing is blended yet."""
        blended = [p.material.double_sided for p in self.parts if p.material.alpha_mode == "BLEND"]
        return any(blended) or not blended


def load_source(path: str | Path) -> SourceAsset:
    """Reads a GLB and fits its triangles into the unit cube.

    Raises:
        GlbError: not a GLB, broken, empty, without faces, with positions that are not finite, or flat in all axes.
    """
    glb = read_glb(path)
    try:
        check_geometry(glb)
        return replace(_fit(_surfaces(glb)), left_out=tuple(left_out(glb)))
    except GlbError as error:
        raise GlbError(f"{path}: {error}") from error.__cause__


def _surfaces(glb: Glb) -> list[Part]:
    parts = [p for p in load_parts(glb) if len(p.faces)]
    if not parts:
        raise GlbError("the scene has no faces")
    return parts


def _fit(parts: list[Part]) -> SourceAsset:
    used = np.concatenate([p.positions[np.unique(p.faces)] for p in parts]).astype(np.float64)
    low, high = used.min(0), used.max(0)
    centre, extent = (low + high) / 2, float((high - low).max())
    if not np.isfinite(extent) or extent <= 0:
        raise GlbError(f"its extent is {extent}; a shape needs a size")
    turn = Y_UP_TO_Z_UP[:3, :3].T
    fitted = [
        replace(
            p,
            positions=((p.positions.astype(np.float64) - centre) * (_FIT / extent) @ turn).astype(np.float32),
            normals=(p.normals @ turn).astype(np.float32),
        )
        for p in parts
    ]
    offsets = np.cumsum([0, *(len(p.positions) for p in fitted)])
    return SourceAsset(
        fitted,
        torch.from_numpy(np.concatenate([p.positions for p in fitted])),
        torch.from_numpy(np.concatenate([p.faces + o for p, o in zip(fitted, offsets, strict=False)]).astype(np.int32)),
        torch.from_numpy(np.nan_to_num(np.concatenate([p.normals for p in fitted]))),
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
    attrs: dict[str, torch.Tensor] = {}
    for meshes, names in textured(source.parts):
        # Which voxels there are depends on the triangles alone, so all lists give the same.
        coords, found = voxel.voxelize_attributes(
            meshes, grid_size=resolution, aabb=aabb, average="area", device=device
        )
        attrs |= {name: found[name] for name in names}
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
