"""Sparse tensors of voxels, as the models see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import torch
import trellis_sparse

_MAX_SIDE = 65535  # of a grid, which trellis_sparse takes


@dataclass
class _Grid:
    """What depends on the coordinates alone, computed when first asked for and shared by all tensors on them."""

    plan: trellis_sparse.ConvPlan | None = None
    lengths: list[int] | None = None
    shape: tuple[int, ...] | None = None


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

    def finer(self, coords: torch.Tensor) -> SparseTensor:
        """Children of these voxels, as yet without features."""
        shape = (self._shape[0], *(min(2 * side, _MAX_SIDE) for side in self._shape[1:]))
        return SparseTensor(coords.new_empty((len(coords), 0), dtype=self.feats.dtype), coords, _Grid(shape=shape))

    def adopt(self, other: SparseTensor) -> None:
        """Takes over what a tensor that has the same voxels in the same order knows of them."""
        self._grid.plan = self._grid.plan or other._grid.plan
        self._grid.shape = self._grid.shape or other._grid.shape

    @property
    def _shape(self) -> tuple[int, ...]:
        """Exclusive upper bounds of the coordinates. Reads them once where they are no children of known voxels."""
        if self._grid.shape is None:
            self._grid.shape = tuple((self.coords.amax(0) + 1).tolist()) if len(self.coords) else (1, 1, 1, 1)
        return self._grid.shape

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
        return self.plan.neighbors

    @property
    def plan(self) -> trellis_sparse.ConvPlan:
        """The plan of convolutions over `neighbors`."""
        if self._grid.plan is None:
            self._grid.plan = trellis_sparse.conv_map(self.coords, self._shape)
        return self._grid.plan
