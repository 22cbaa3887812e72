"""As cumesh.cuBVH."""

from __future__ import annotations

from typing import Any

import torch
import trellis_mesh
from trellis_compat._missing import Served

__all__: list[str] = []


class cuBVH(Served):  # noqa: N801  (upstream's name)
    """A tree over triangles, for closest points.

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
