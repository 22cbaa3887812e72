"""Which side of a surface the outside sees."""

from __future__ import annotations

import math

import torch
import trellis_mesh as mesh

# Directions over the whole sphere, each with its opposite, so that both sides of any face are asked as often.
_DIRECTIONS = 12
# How far a ray begins from its face, in sides of the cube: beyond the rounding of coordinates, within any voxel.
_LIFT = 1e-5
_AT_ONCE = 1 << 18


def front_seen(tree: mesh.Bvh, corners: torch.Tensor) -> torch.Tensor:
    """How much more of a face's front than of its back the outside sees, by rays from its middle: float32 [N], -1 to 1.

    Args:
        tree: search structure over the surface.
        corners: float32 [N, 3, 3] of the faces that ask, on the device of the surface.
    """
    if not len(corners):
        return corners.new_zeros(0)
    rays = _sphere().to(corners)
    return torch.cat([_asked(tree, part, rays) for part in corners.split(max(1, _AT_ONCE // len(rays)))])


def _sphere() -> torch.Tensor:
    """Evenly spread directions float32 [2 * _DIRECTIONS, 3], the second half opposite to the first."""
    i = (torch.arange(_DIRECTIONS, dtype=torch.float64) + 0.5) / _DIRECTIONS
    angle = math.pi * (1 + 5**0.5) * torch.arange(_DIRECTIONS, dtype=torch.float64)
    radius = (1 - i * i).sqrt()
    half = torch.stack([radius * angle.cos(), radius * angle.sin(), i], 1).float()
    return torch.cat([half, -half])


def _asked(tree: mesh.Bvh, corners: torch.Tensor, rays: torch.Tensor) -> torch.Tensor:
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normal = torch.nn.functional.normalize(normal, dim=1)
    side = (normal[:, None] * rays).sum(2).sign()  # 0 along the face, and for a face without area
    start = corners.mean(1)[:, None] + side[..., None] * normal[:, None] * _LIFT
    _, met, _ = tree.ray_cast(start.reshape(-1, 3).contiguous(), rays.repeat(len(corners), 1))
    return torch.where(met.view(side.shape) < 0, side, 0.0).sum(1) / (len(rays) // 2)
