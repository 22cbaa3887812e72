"""What passes between the stages of the export road. Each is frozen, and `artifacts.save` writes it where it can be looked at."""

from __future__ import annotations

from dataclasses import dataclass

import torch

Aabb = tuple[tuple[float, float, float], tuple[float, float, float]]

UNIT_AABB: Aabb = ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5))
"""The cube that every asset lives in on the road: z up, longest side 1."""


@dataclass(frozen=True)
class Placement:
    """Where an asset stood before it was fitted into the unit cube: ``world = scale * road + offset`` (after y-up)."""

    scale: float = 1.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class VoxelAsset:
    """A shape as a flexible dual grid and its surface attributes as voxels, both in `aabb` at `grid_size`^3.

    Attributes:
        coords: int32 [N, 3], voxels that the surface touches.
        local_dual: float32 [N, 3], each voxel's dual vertex relative to its lower corner, in voxels.
        intersected: bool [N, 3], whether the lattice edge of each axis at the voxel's lower corner is crossed.
        split_weight: float32 [N] or None; a generated asset has learned weights, a voxelised one has none.
        attr_coords: int32 [M, 3].
        attrs: uint8 [M, c] by name: base_color 3, metallic 1, roughness 1, alpha 1, emissive 3.
    """

    coords: torch.Tensor
    local_dual: torch.Tensor
    intersected: torch.Tensor
    split_weight: torch.Tensor | None
    attr_coords: torch.Tensor
    attrs: dict[str, torch.Tensor]
    grid_size: int
    aabb: Aabb = UNIT_AABB


@dataclass(frozen=True)
class Mesh:
    """Vertices float32 [V, 3] in road space, faces int32 [F, 3]."""

    vertices: torch.Tensor
    faces: torch.Tensor


@dataclass(frozen=True)
class UnwrappedMesh:
    """A mesh whose vertices are split along chart seams.

    Attributes:
        vertices: float32 [V, 3].
        faces: int32 [F, 3].
        uv: float32 [V, 2] in [0, 1], v = 0 at the first row of the textures.
        normals: float32 [V, 3], unit length.
    """

    vertices: torch.Tensor
    faces: torch.Tensor
    uv: torch.Tensor
    normals: torch.Tensor


@dataclass(frozen=True)
class Textures:
    """Baked maps, uint8, row 0 at v = 0; gaps between charts are filled.

    Attributes:
        base_color: [H, W, 3], sRGB.
        metallic, roughness, alpha: [H, W, 1], linear.
        emissive: [H, W, 3], sRGB.
        covered: bool [H, W], texels that lie in a chart.
    """

    base_color: torch.Tensor
    metallic: torch.Tensor
    roughness: torch.Tensor
    alpha: torch.Tensor
    emissive: torch.Tensor
    covered: torch.Tensor
