"""Residual blocks that resample by the mean of children and the copy of parents.

No published checkpoint has them, but the architecture knows them by these names, so one that somebody trained may.
"""

from __future__ import annotations

import torch
from torch import nn

from ..sparse import SparseTensor
from .transformer import LayerNorm32
from .voxels import Growth, SparseConv3d, Upsampling, children_as_channels, gathered


class _Residual(nn.Module):
    """Two convolutions beside a skip, which is a linear layer where the width changes."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(channels, eps=1e-6)
        self.norm2 = LayerNorm32(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, out_channels)
        self.conv2 = SparseConv3d(out_channels, out_channels)
        self.skip_connection = nn.Identity() if channels == out_channels else nn.Linear(channels, out_channels)

    def _finish(self, h: SparseTensor, skip: torch.Tensor) -> SparseTensor:
        """From the resampled features to the result; `skip` has those of the input at the same voxels."""
        h = self.conv1(h)
        h = self.conv2(h.replace(self.norm2(h.feats, "silu")))
        return h.replace(h.feats + self.skip_connection(skip))


class SparseResBlock3d(_Residual):
    """At the same voxels."""

    def __init__(self, channels: int, out_channels: int | None = None, use_checkpoint: bool = False) -> None:
        super().__init__(channels, out_channels or channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        return self._finish(x.replace(self.norm1(x.feats, "silu")), x.feats)


class SparseResBlockDownsample3d(_Residual):
    """At half the resolution: a parent has the mean of the children that exist."""

    def __init__(self, channels: int, out_channels: int, use_checkpoint: bool = False) -> None:
        super().__init__(channels, out_channels)

    def forward(self, x: SparseTensor) -> SparseTensor:
        coords, row = children_as_channels(x)
        count = gathered(torch.ones_like(x.feats[:, :1]), row, len(coords)).sum(1)

        def mean(feats: torch.Tensor) -> torch.Tensor:
            return gathered(feats, row, len(coords)).sum(1) / count

        return self._finish(SparseTensor(mean(self.norm1(x.feats, "silu")), coords), mean(x.feats))


class SparseResBlockUpsample3d(Upsampling, _Residual):
    """At twice the resolution: children, of which some exist, have what their parent has."""

    def __init__(
        self, channels: int, out_channels: int, pred_subdiv: bool = True, use_checkpoint: bool = False
    ) -> None:
        super().__init__(channels, out_channels)
        if pred_subdiv:
            self.to_subdiv = nn.Linear(channels, 8)

    def forward(self, x: SparseTensor, growth: Growth) -> SparseTensor:
        """The tensor at the finer voxels."""
        parent = growth.row // 8
        return self._finish(growth.voxels.replace(self.norm1(x.feats, "silu")[parent]), x.feats[parent])
