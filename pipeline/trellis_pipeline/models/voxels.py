"""What the blocks of the sparse autoencoders are made of: a convolution, and the voxels that an upsampling makes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import trellis_sparse
from torch import nn

from ..sparse import SparseTensor


class SparseConv3d(nn.Module):
    """3 x 3 x 3 submanifold convolution; weights are stored [Co, kx, ky, kz, Ci]."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, 3, 3, 3, channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.kaiming_uniform_(self.weight.view(out_channels, -1), a=5**0.5)

    def forward(self, x: SparseTensor) -> SparseTensor:
        feats = trellis_sparse.submanifold_conv3d(x.feats, self.weight, self.bias, x.neighbors, plan=x.plan)
        return x.replace(feats)

    def at(self, x: SparseTensor, rows: slice) -> torch.Tensor:
        """The result [rows, Co] at some voxels alone, bit for bit what all of it has there."""
        return trellis_sparse.submanifold_conv3d(x.feats, self.weight, self.bias, x.neighbors[rows])


class DecoderError(ValueError):
    """A decoder cannot go on with what it computed."""


class NotFiniteError(DecoderError):
    """Logits that choose voxels are not finite: a NaN would be a voxel less, and nothing else would tell."""


@dataclass(frozen=True)
class Growth:
    """Which voxels an upsampling makes.

    Attributes:
        voxels: M of them in the order of their parents, as yet without features.
        row: int64 [M], eight times the row of a voxel's parent, plus its slot there; ascending.
        logits: [N, 8] at the parents, by which they were chosen.
    """

    voxels: SparseTensor
    row: torch.Tensor
    logits: SparseTensor

    @staticmethod
    def by(logits: SparseTensor) -> Growth:
        """The children whose logit is positive."""
        # Compared in float32: a logit that half precision rounds to 0 would lose its voxel.
        finite = torch.isfinite(logits.feats).all()
        coords, parent, slot = trellis_sparse.upsample(logits.coords, logits.feats.float() > 0)
        if not bool(finite):  # known by now, as the number of voxels is
            raise NotFiniteError(
                f"logits of {len(logits.coords):,} voxels, which choose the finer ones, are not all finite"
            )
        return Growth(logits.finer(coords), torch.add(slot, parent, alpha=8), logits)


class Upsampling(nn.Module):
    """A block that ends a decoder's level. It predicts which children there are, where it has a `to_subdiv`, or is told."""

    to_subdiv: nn.Linear

    def grow(self, x: SparseTensor, subdivision: SparseTensor | None = None) -> Growth:
        """The finer voxels: those that the logits [N, 8] choose, this block's own or those given."""
        if subdivision is None:
            if not hasattr(self, "to_subdiv"):
                raise ValueError("subdivision: this decoder does not predict one, so it must be given")
            subdivision = x.replace(self.to_subdiv(x.feats))
        elif not torch.equal(subdivision.coords, x.coords):
            raise ValueError("subdivision: expected logits at the voxels of x")
        return Growth.by(subdivision)


def children_as_channels(x: SparseTensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The parents int32 [M, 4] of voxels, and int64 [N], eight times the row of each one's parent plus its slot there."""
    coords, parent, slot = trellis_sparse.downsample(x.coords)
    return coords, parent.long() * 8 + slot.long()


def gathered(feats: torch.Tensor, row: torch.Tensor, parents: int) -> torch.Tensor:
    """Features [parents, 8, C] of the children in their slots, zeros where there is none."""
    out = feats.new_zeros(parents * 8, feats.shape[1])
    out[row] = feats
    return out.view(parents, 8, -1)
