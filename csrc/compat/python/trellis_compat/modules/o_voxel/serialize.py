"""As o_voxel.serialize: orders along space-filling curves of ten levels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import trellis_sparse

__all__ = ["decode_seq", "encode_seq"]

_CURVES = {"z_order": "morton", "hilbert": "hilbert"}
_BITS = 10


def encode_seq(coords: torch.Tensor, permute: Sequence[int] = (0, 1, 2), mode: str = "z_order") -> torch.Tensor:
    """int32 [N] codes of coords [N, 3], each in [0, 1024), their axes taken in the order `permute`."""
    return trellis_sparse.encode_order(coords.int()[:, list(permute)], _curve(mode), bits=_BITS).int()


def decode_seq(code: torch.Tensor, permute: Sequence[int] = (0, 1, 2), mode: str = "z_order") -> torch.Tensor:
    """The inverse of `encode_seq`: int32 [N, 3]."""
    coords = trellis_sparse.decode_order(code.long(), _curve(mode), bits=_BITS)
    return coords[:, [list(permute).index(axis) for axis in range(3)]]


def _curve(mode: str) -> str:
    if mode not in _CURVES:
        raise ValueError(f"mode: expected {' or '.join(_CURVES)}, got {mode!r}")
    return _CURVES[mode]
