"""As flex_gemm.ops.grid_sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import trellis_sparse

__all__ = ["HASHMAP_RATIO", "grid_sample_3d", "grid_sample_3d_torch", "set_hashmap_ratio"]

HASHMAP_RATIO = 2.0


def set_hashmap_ratio(ratio: float) -> None:
    """Keeps `HASHMAP_RATIO` for those who read it; it decides nothing here."""
    global HASHMAP_RATIO
    HASHMAP_RATIO = ratio


def grid_sample_3d(
    feats: torch.Tensor, coords: torch.Tensor, shape: Sequence[int], grid: torch.Tensor, mode: str = "trilinear"
) -> torch.Tensor:
    """Samples sparse voxels at points; differentiable in feats.

    Args:
        feats: [N, C].
        coords: [N, 4], (batch, x, y, z), any integer dtype.
        shape: (batch, channels, W, H, D).
        grid: [B, L, 3] in voxel units, x, y, z; voxel centres at + 0.5.
        mode: "trilinear" or "nearest".

    Returns:
        [B, L, C].
    """
    batch, *size = shape[0], *shape[-3:]
    return trellis_sparse.grid_sample_3d(feats, coords.int(), (batch, *size), grid.float(), mode)


grid_sample_3d_torch = grid_sample_3d
