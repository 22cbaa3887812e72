"""As cumesh.cuBVH."""

from __future__ import annotations

import math
from typing import Any

import torch
import trellis_mesh
from trellis_compat._missing import Served

__all__: list[str] = []

_MISSED = 1000.0  # the depth that upstream gives a ray that meets nothing
_STABS = 32


class cuBVH(Served):  # noqa: N801  (upstream's name)
    """A tree over triangles, for closest points, distances with a sign, and rays.

    Args:
        vertices: [V, 3], tensor or array.
        triangles: [F, 3], tensor or array. Unlike upstream, any number of faces from one on.

    The tree lies where `vertices` does. Queries from another device get a tree of their own there, once.
    """

    def __init__(self, vertices: Any, triangles: Any) -> None:
        self._vertices = torch.as_tensor(vertices).detach().float()
        self._triangles = torch.as_tensor(triangles, device=self._vertices.device)
        self._trees: dict[torch.device, trellis_mesh.Bvh] = {}
        self.tree_on(self._vertices.device)

    def tree_on(self, device: torch.device) -> trellis_mesh.Bvh:
        """The tree for queries from `device`. (Not upstream's.)"""
        if device not in self._trees:
            self._trees[device] = trellis_mesh.Bvh(self._vertices.to(device), self._triangles.to(device))
        return self._trees[device]

    def unsigned_distance(
        self, positions: torch.Tensor, return_uvw: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """The closest face to each point.

        Args:
            positions: [..., 3].
            return_uvw: also return where on the face.

        Returns:
            distances float32 [...], face_id int64 [...], and uvw float32 [..., 3] or None: the weights of the face's
            three vertices.
        """
        flat = positions.detach().float().reshape(-1, 3)
        distance, face, weights = self.tree_on(flat.device).closest_point(flat)
        lead = positions.shape[:-1]
        return distance.view(lead), face.view(lead), weights.view(*lead, 3) if return_uvw else None

    def signed_distance(
        self, positions: torch.Tensor, return_uvw: bool = False, mode: str = "watertight"
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """As `unsigned_distance`, negative inside.

        Args:
            mode: "watertight": inside is where most of three rays cross the surface an odd number of times (upstream
                asks the faces' winding instead, which must then be right); "raystab": where no ray of 32 pairs of
                opposite ones gets out, which serves open surfaces too.
        """
        if mode not in ("watertight", "raystab"):
            raise ValueError(f"mode: expected 'watertight' or 'raystab', got {mode!r}")
        distance, face, weights = self.unsigned_distance(positions, return_uvw)
        flat = positions.detach().float().reshape(-1, 3)
        inside = self._by_parity(flat) if mode == "watertight" else self._by_stabs(flat)
        return torch.where(inside.view(distance.shape), -distance, distance), face, weights

    def _by_parity(self, points: torch.Tensor) -> torch.Tensor:
        odd = torch.zeros(len(points), dtype=torch.int32, device=points.device)
        for direction in ((0.61, 0.37, 0.70), (-0.53, 0.81, 0.24), (0.13, -0.29, -0.95)):
            rays = points.new_tensor(direction).expand_as(points).contiguous()
            odd += self.tree_on(points.device).count_hits(points, rays) % 2
        return odd >= 2

    def _by_stabs(self, points: torch.Tensor) -> torch.Tensor:
        inside = torch.ones(len(points), dtype=torch.bool, device=points.device)
        for i in range(_STABS):  # evenly over the sphere: a Fibonacci lattice
            height, turn = 1 - (2 * i + 1) / _STABS, i * math.pi * (1 + 5**0.5)
            flat = math.sqrt(1 - height * height)
            rays = points.new_tensor([flat * math.cos(turn), flat * math.sin(turn), height]).expand_as(points)
            for way in (rays, -rays):
                inside &= self.tree_on(points.device).ray_cast(points, way.contiguous())[1] >= 0
        return inside

    def ray_trace(self, rays_o: torch.Tensor, rays_d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The first face that each ray meets, from either side.

        Args:
            rays_o, rays_d: [..., 3].

        Returns:
            position float32 [..., 3] of the hit, face_id int64 [...], and depth float32 [...] in lengths of `rays_d`. A ray
            that meets nothing has -1 and depth 1000.
        """
        origins, directions = (x.detach().float().reshape(-1, 3).contiguous() for x in (rays_o, rays_d))
        distance, face, _ = self.tree_on(origins.device).ray_cast(origins, directions)
        depth = torch.where(face >= 0, distance / directions.norm(dim=1), _MISSED)
        lead = rays_o.shape[:-1]
        return (origins + depth[:, None] * directions).view(*lead, 3), face.view(lead), depth.view(lead)
