"""Which side of the surface sees the outside: hidden layers and inside-out faces, by rays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..asset import Asset

_POINTS, RAYS = 2048, 24
OFFSET = 1e-4
# The two layers of a double shell lie a few cells of the remeshing grid apart.
_GAP = 0.06
# Within this share of each other, two distances between layers are the same.
_SAME = 0.15


def measure(asset: Asset) -> dict[str, Any]:
    """Shares of the area, from `_POINTS` surface samples with `RAYS` rays to each side.

    ``shell_share``: of what is seen from outside, where at the one distance that is most frequent a surface lies behind
    that nobody sees, that faces the other way and that no edge joins to the first: of a second shell all has the same
    distance, of a hollow body's boards some; the two sides of a closed pot's wall are joined over its rim.
    ``inner_layer_share``: no ray from the front escapes, and a short way behind lies a parallel surface that faces the
    other way and is seen: that shell itself. ``two_walls_share``: such a surface lies there, whatever escapes in front.
    ``inside_out_share``: no ray escapes in front, while most escape behind; ``inside_out_one_sided_share``: of those what
    has a material that shows only its front.
    """
    step = len(asset.samples.points) // _POINTS
    points, normals = asset.samples.points[::step], asset.samples.normals[::step]
    directions = hemisphere(normals)
    front = escapes(asset, points + OFFSET * normals, directions)
    back = escapes(asset, points - OFFSET * normals, -directions)
    enclosed = front == 0
    behind, face, _ = asset.bvh.ray_cast((points - OFFSET * normals).contiguous(), (-normals).contiguous(), t_max=_GAP)
    other = asset.normals[face.clamp_min(0).long()].float()
    twin = (face >= 0) & ((other * normals).sum(1) < -0.7)
    hit = points - (behind.clamp(max=_GAP) + OFFSET)[:, None] * normals
    outside = escapes(asset, hit + OFFSET * other, hemisphere(other)) > 0
    inner = enclosed & twin & outside
    inside_out = enclosed & (back > RAYS // 2)
    own = asset.samples.faces[::step].long()
    one_sided = ~asset.double_sided[own]
    _, component = asset.components
    apart = component[own] != component[face.clamp_min(0).long()]
    return {
        "shell_share": _alike(behind[~enclosed & twin & ~outside & apart]) / max(1, int((~enclosed).sum())),
        "two_walls_share": float(twin.float().mean()),
        "inner_layer_share": float(inner.float().mean()),
        "enclosed_share": float((enclosed & (back == 0)).float().mean()),
        "inside_out_share": float(inside_out.float().mean()),
        "inside_out_one_sided_share": float((inside_out & one_sided).float().mean()),
    }


def _alike(distances: torch.Tensor) -> int:
    """How many of the distances [N] at most lie within `_SAME` of one of them."""
    if not len(distances):
        return 0
    ordered = distances.sort().values
    ends = torch.searchsorted(ordered, ordered * (1 + _SAME), right=True)
    return int((ends - torch.searchsorted(ordered, ordered * (1 - _SAME))).max())


def hemisphere(normals: torch.Tensor) -> torch.Tensor:
    """Directions [N, R, 3] within 80 degrees of each normal, the same pattern for all."""
    i = (np.arange(RAYS) + 0.5) / RAYS
    z = 1 - i * (1 - np.cos(np.radians(80)))
    angle = np.pi * (1 + 5**0.5) * np.arange(RAYS)
    radius = np.sqrt(1 - z * z)
    local = (
        torch.from_numpy(np.stack([radius * np.cos(angle), radius * np.sin(angle), z], 1)).float().to(normals.device)
    )
    helper = torch.zeros_like(normals)
    x, y, z_ = normals.abs().unbind(1)  # of equal ones the first, on every device
    least = torch.where((x <= y) & (x <= z_), 0, torch.where(y <= z_, 1, 2))
    helper.scatter_(1, least[:, None], 1.0)
    tangent = torch.nn.functional.normalize(torch.linalg.cross(normals, helper), dim=1)
    bitangent = torch.linalg.cross(normals, tangent)
    frame = torch.stack([tangent, bitangent, normals], 1)
    # Written out: a matrix product rounds in its own way on every device.
    return (local[None, :, :, None] * frame[:, None]).sum(2)


def escapes(asset: Asset, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """How many of the rays [N, R, 3] from each origin [N, 3] meet nothing."""
    n, r, _ = directions.shape
    starts = origins[:, None].expand(n, r, 3).reshape(-1, 3).contiguous()
    rays = directions.reshape(-1, 3).contiguous()
    usable = rays.norm(dim=1) > 0.5
    rays = torch.where(usable[:, None], rays, torch.tensor([1.0, 0, 0], device=rays.device))
    distance, _, _ = asset.bvh.ray_cast(starts, rays)
    return torch.isinf(distance).view(n, r).sum(1)
