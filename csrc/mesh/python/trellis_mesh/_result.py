"""What operations that change a mesh return, and the checks that they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from trellis_native import check

Report = TypeVar("Report")


class MeshResult(tuple[torch.Tensor, torch.Tensor], Generic[Report]):
    """A mesh that unpacks as ``vertices, faces``; `report` says what was done to it."""

    report: Report

    def __new__(cls, vertices: torch.Tensor, faces: torch.Tensor, report: Report) -> MeshResult[Report]:
        result = super().__new__(cls, (vertices, faces))
        result.report = report
        return result

    @property
    def vertices(self) -> torch.Tensor:
        return self[0]

    @property
    def faces(self) -> torch.Tensor:
        return self[1]


@dataclass(frozen=True)
class RemovalReport:
    """What was removed, and where the rest came from."""

    removed_faces: int
    removed_vertices: int
    kept_faces: torch.Tensor
    """int64: for each face of the result, its number before."""
    kept_vertices: torch.Tensor
    """int64: for each vertex of the result, its number before."""


def keep_faces(vertices: torch.Tensor, faces: torch.Tensor, keep: torch.Tensor) -> MeshResult[RemovalReport]:
    """The faces for which bool[F] `keep` holds, in their order, and the vertices that they use, in theirs."""
    kept_faces = keep.nonzero().view(-1)
    left = faces.index_select(0, kept_faces)
    used = torch.zeros(len(vertices), dtype=torch.bool, device=vertices.device)
    used[left.view(-1).long()] = True
    kept_vertices = used.nonzero().view(-1)
    if len(kept_vertices) < len(vertices):
        number = torch.cumsum(used, 0, dtype=torch.int32) - 1
        left = number.index_select(0, left.view(-1)).view(-1, 3)
    report = RemovalReport(len(faces) - len(left), len(vertices) - len(kept_vertices), kept_faces, kept_vertices)
    return MeshResult(vertices.index_select(0, kept_vertices), left, report)


def check_faces(faces: object, num_vertices: int | None = None) -> torch.Tensor:
    """Checks faces int32 or int64 [F, 3] with indices in [0, num_vertices), or from 0 on; returns them as int32."""
    f = check.tensor("faces", faces, dtype=[torch.int32, torch.int64], shape=["F", 3])
    if f.numel():
        low, high = (int(x) for x in torch.aminmax(f))
        limit = 2**31 - 1 if num_vertices is None else num_vertices
        if low < 0 or high >= limit:
            raise ValueError(f"faces: expected vertex indices in [0, {limit}), got {low} to {high}")
    return f.to(torch.int32)


def compact_indices(faces: torch.Tensor) -> tuple[torch.Tensor, int, torch.Tensor | None]:
    """Faces over consecutive vertices, so that memory follows the faces and not the largest index.

    Returns faces, the number of vertices, and the ascending old indices, or None where nothing was renumbered.
    """
    count = int(faces.max()) + 1 if faces.numel() else 0
    if count <= 8 * faces.numel() + 1024:
        return faces, count, None
    old, new = torch.unique(faces, return_inverse=True)
    return new.to(torch.int32), len(old), old
