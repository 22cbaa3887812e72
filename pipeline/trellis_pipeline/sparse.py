"""Sparse tensors of voxels, as the models see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
import trellis_sparse


@dataclass
class _Grid:
    """What depends on the coordinates alone, computed when first asked for and shared by all tensors on them."""

    neighbors: torch.Tensor | None = None
    plan: trellis_sparse.ConvPlan | None = None
    lengths: list[int] | None = None


@final
@dataclass(frozen=True)
class SparseTensor:
    """Features at voxels.

    Attributes:
        feats: [N, C].
        coords: int32 [N, 4], (batch, x, y, z), each batch's rows consecutive and batches ascending.
    """

    feats: torch.Tensor
    coords: torch.Tensor
    _grid: _Grid = field(default_factory=_Grid, repr=False)

    def __post_init__(self) -> None:
        if self.coords.dim() != 2 or self.coords.shape[1] != 4:
            raise ValueError(f"coords: expected shape [N, 4], got {list(self.coords.shape)}")
        if self.feats.dim() != 2 or len(self.feats) != len(self.coords):
            raise ValueError(f"feats: expected shape [{len(self.coords)}, C], got {list(self.feats.shape)}")

    def replace(self, feats: torch.Tensor) -> SparseTensor:
        """Other features at the same voxels; neighbour map, plan and batch lengths are kept."""
        return SparseTensor(feats, self.coords, self._grid)

    @property
    def lengths(self) -> list[int]:
        """Number of voxels of each batch entry. Reads the coordinates once, so it synchronises on CUDA once."""
        if self._grid.lengths is None:
            batch = self.coords[:, 0]
            if len(batch) and bool((batch[1:] < batch[:-1]).any()):
                raise ValueError("coords: expected batches in ascending order")
            self._grid.lengths = torch.bincount(batch.long()).tolist() if len(batch) else []
        return self._grid.lengths

    @property
    def neighbors(self) -> torch.Tensor:
        """The 3 x 3 x 3 neighbour map int32 [N, 27] of `trellis_sparse.neighbor_map`."""
        if self._grid.neighbors is None:
            b, x, y, z = ((self.coords.amax(0) + 1).tolist()) if len(self.coords) else (1, 1, 1, 1)
            self._grid.neighbors = trellis_sparse.neighbor_map(self.coords, (b, x, y, z))
        return self._grid.neighbors

    @property
    def plan(self) -> trellis_sparse.ConvPlan:
        """The plan of convolutions over `neighbors`."""
        if self._grid.plan is None:
            self._grid.plan = trellis_sparse.conv_plan(self.neighbors)
        return self._grid.plan
