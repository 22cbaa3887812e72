"""As o_voxel.rasterize: pictures of voxels as solid cubes, by trellis_raster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
import trellis_raster
from torch.nn.functional import interpolate
from trellis_compat._missing import Served

__all__ = ["VoxelRenderer"]

_AT_ONCE = 1 << 20  # voxels drawn in one call: six faces each, and 128 bytes of corners

# A cube's corners as bits x, y, z, 1 being the side towards the camera: only those three sides can be seen.
_CORNERS = torch.tensor([[corner >> axis & 1 for axis in range(3)] for corner in range(8)])
_SIDES = torch.tensor([[1, 3, 7], [1, 7, 5], [2, 3, 7], [2, 7, 6], [4, 5, 7], [4, 7, 6]])


class Picture(dict[str, torch.Tensor]):
    """A dictionary whose items are attributes too."""

    def __getattr__(self, name: str) -> torch.Tensor:
        if name not in self:
            raise AttributeError(name)
        return self[name]


class VoxelRenderer(Served):
    """Draws voxels as opaque cubes.

    Args:
        rendering_options: resolution (pixels a side), near, far (default 0.1 and 10), ssaa (1: samples a side of a
            pixel).
    """

    def __init__(self, rendering_options: Mapping[str, Any] | None = None) -> None:
        self.rendering_options = {"resolution": None, "near": 0.1, "far": 10.0, "ssaa": 1, **(rendering_options or {})}

    def render(
        self,
        position: torch.Tensor,
        attrs: torch.Tensor,
        voxel_size: float,
        extrinsics: torch.Tensor,
        intrinsics: torch.Tensor,
    ) -> Picture:
        """One picture.

        Args:
            position: float32 [N, 3], the cubes' centres.
            attrs: float32 [N, C].
            voxel_size: a cube's edge.
            extrinsics: float32 [4, 4], world to camera; the camera looks along z, y points down.
            intrinsics: float32 [3, 3], in fractions of the picture's side.

        Returns:
            attr [C, H, W], depth [H, W] (along the pixel's ray, in units of position) and alpha [H, W] (1 where there is
            a voxel), each 0 where there is none. Row 0 is the top. No gradients.

        Raises:
            ValueError: no resolution was given.
        """
        options = self.rendering_options
        if options["resolution"] is None:
            raise ValueError("rendering_options: expected a resolution, got None")
        side = int(options["resolution"]) * int(options["ssaa"])
        position, attrs = position.detach().float(), attrs.detach().float()
        view, lens = (matrix.detach().to(position) for matrix in (extrinsics, intrinsics))
        camera = torch.linalg.inv(view)[:3, 3]
        near, far = float(options["near"]), float(options["far"])
        nearest, voxel = _nearest(position, float(voxel_size), camera, _projection(lens, near, far) @ view, side)
        seen = torch.isfinite(nearest)
        hit = voxel[seen]
        row, column = seen.nonzero(as_tuple=True)
        ray = torch.stack([column, row], 1).to(position).add(0.5).div(side).sub(lens[:2, 2]) / lens.diagonal()[:2]
        ray = torch.cat([ray, torch.ones_like(ray[:, :1])], 1)
        ray = torch.nn.functional.normalize(ray, dim=1) @ view[:3, :3]
        attr, depth = attrs.new_zeros((attrs.shape[1], side, side)), attrs.new_zeros((side, side))
        attr[:, seen] = attrs[hit].T
        depth[seen] = _entry(camera, ray, position[hit], float(voxel_size))
        pictures = {"attr": attr, "depth": depth[None], "alpha": seen[None].float()}
        if options["ssaa"] > 1:
            size = (int(options["resolution"]),) * 2
            pictures = {
                name: interpolate(p[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
                for name, p in pictures.items()
            }
        return Picture(attr=pictures["attr"], depth=pictures["depth"][0], alpha=pictures["alpha"][0])


def _projection(lens: torch.Tensor, near: float, far: float) -> torch.Tensor:
    """Camera to clip space, [4, 4]; y stays downward, as the rasteriser's rows run."""
    out = lens.new_zeros((4, 4))
    out[0, 0], out[1, 1] = 2 * lens[0, 0], 2 * lens[1, 1]
    out[0, 2], out[1, 2] = 2 * lens[0, 2] - 1, 2 * lens[1, 2] - 1
    out[2, 2], out[2, 3] = (far + near) / (far - near), -2 * far * near / (far - near)
    out[3, 2] = 1
    return out


def _nearest(
    position: torch.Tensor, edge: float, camera: torch.Tensor, project: torch.Tensor, side: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 [side, side] depths in clip space, infinite where nothing is, and int64 [side, side] voxels."""
    nearest = position.new_full((side, side), torch.inf)
    voxel = torch.zeros((side, side), dtype=torch.int64, device=position.device)
    for first, corners, faces in _cubes(position, edge, camera):
        clip = torch.nn.functional.pad(corners, (0, 1), value=1.0) @ project.T
        rast = trellis_raster.rasterize(clip[None], faces, (side, side))[0]
        closer = (rast[..., 3] > 0) & (rast[..., 2] < nearest)
        nearest = torch.where(closer, rast[..., 2], nearest)
        voxel = torch.where(closer, first + (rast[..., 3].long() - 1) // len(_SIDES), voxel)
    return nearest, voxel


def _cubes(
    position: torch.Tensor, edge: float, camera: torch.Tensor
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Voxels a call at a time: the first one's index, corners [8 n, 3], and faces [6 n, 3] of the sides to the camera."""
    towards = (2 * _CORNERS - 1).to(position)
    for first in range(0, len(position), _AT_ONCE):
        centre = position[first : first + _AT_ONCE]
        sign = torch.where(camera >= centre, 1.0, -1.0)
        corners = centre[:, None] + edge / 2 * sign[:, None] * towards
        begin = 8 * torch.arange(len(centre), device=position.device)
        yield first, corners.flatten(0, 1), (begin[:, None, None] + _SIDES.to(position.device)).flatten(0, 1)


def _entry(origin: torch.Tensor, ray: torch.Tensor, centre: torch.Tensor, edge: float) -> torch.Tensor:
    """float32 [n]: how far along its ray each voxel is entered."""
    # The side towards the origin comes first on each axis; a ray along a side's plane does not meet it.
    sign = torch.where(origin >= centre, 1.0, -1.0)
    t = (centre + sign * edge / 2 - origin) / ray
    return torch.where(torch.isfinite(t), t, -torch.inf).amax(1)
