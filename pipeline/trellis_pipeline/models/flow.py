"""The two flow models: a dense one for the sparse structure, a sparse one for shape and texture latents."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import torch

from ..sparse import SparseTensor
from .transformer import Condition, FlowTransformer


class SparseStructureFlowModel(FlowTransformer):
    """Velocity of the occupancy latent on a dense grid.

    `rope_freq` of a configuration is not used: upstream computes the rotary phases of the dense grid, which its checkpoints
    hold as well, with the default frequencies whatever the configuration says. Upstream's takes arguments of any name and
    does nothing with those that it does not know (configurations of its predecessor have a `patch_size`); here they are
    named in a warning.
    """

    def __init__(self, **arguments: Any) -> None:
        known = inspect.signature(FlowTransformer.__init__).parameters
        if unknown := sorted(set(arguments) - set(known)):
            warnings.warn(f"SparseStructureFlowModel: nothing is done with {', '.join(unknown)}", stacklevel=2)
        super().__init__(**{name: value for name, value in arguments.items() if name in known})
        self.rope_freq = (1.0, 10000.0)

    def forward(self, x: torch.Tensor, t: torch.Tensor, cond: torch.Tensor | Condition) -> torch.Tensor:
        """x [B, C, R, R, R], t [B] in [0, 1000], cond [B, L, D] or a `Condition` -> [B, out_channels, R, R, R].

        Raises:
            ValueError: x of another shape.
        """
        r = self.resolution
        if x.shape[1:] != (self.in_channels, r, r, r):
            raise ValueError(f"x: expected shape [B, {self.in_channels}, {r}, {r}, {r}], got {list(x.shape)}")
        axis = torch.arange(r, device=x.device)
        positions = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3).repeat(len(x), 1)
        tokens = x.flatten(2).transpose(1, 2).flatten(0, 1)
        out = self.run(tokens, positions, [r**3] * len(x), t, cond)
        return out.unflatten(0, (len(x), -1)).transpose(1, 2).unflatten(2, (r, r, r)).contiguous()


class SLatFlowModel(FlowTransformer):
    """Velocity of a structured latent at the active voxels."""

    def forward(
        self, x: SparseTensor, t: torch.Tensor, cond: torch.Tensor | Condition, concat_cond: SparseTensor | None = None
    ) -> SparseTensor:
        """Latent, t [B] in [0, 1000] and cond [B, L, D] or a `Condition` -> velocity at the same voxels.

        Args:
            concat_cond: features at the same voxels that are put behind x's (the shape latent, for texture).

        Raises:
            ValueError: voxels or channels that do not fit.
        """
        tokens = x.feats
        if concat_cond is not None:
            if concat_cond.coords is not x.coords and not torch.equal(concat_cond.coords, x.coords):
                raise ValueError("concat_cond: expected the voxels of x")
            tokens = torch.cat([tokens, concat_cond.feats.to(tokens.dtype)], 1)
        if tokens.shape[1] != self.in_channels:
            raise ValueError(f"x: expected {self.in_channels} channels with concat_cond, got {tokens.shape[1]}")
        return x.replace(self.run(tokens, x.coords[:, 1:], x.lengths, t, cond))
