"""The native half of this package, its torch operators, and checks that several topics share."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from trellis_native import Extension, OpLibrary

EXTENSION = Extension("sparse", Path(__file__).parent)
OPS = OpLibrary("trellis_sparse")

REAL = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
HALVES = {torch.float32: 32, torch.float16: 16, torch.bfloat16: 17}
"""Codes of the dtypes that kernels read as they are and compute in float32."""
MAX_GRID = 65535
MAX_ROWS = 2**31 - 1


def grid_shape(value: object) -> list[int]:
    """Checks a grid's size (B, W, H, D)."""
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 4:
        raise ValueError(f"shape: expected 4 sizes (batch, width, height, depth), got {value!r}")
    sizes: list[Any] = []
    for size in value:
        if isinstance(size, bool) or not isinstance(size, (Integral, torch.SymInt)):
            raise TypeError(f"shape: expected 4 ints (batch, width, height, depth), got {value!r}")
        sizes.append(size if isinstance(size, torch.SymInt) else int(size))
        if not 1 <= sizes[-1] <= MAX_GRID:
            raise ValueError(f"shape: expected sizes in [1, {MAX_GRID}], got {tuple(value)}")
    return sizes


def require_range(name: str, values: torch.Tensor, most: Sequence[int]) -> None:
    """Checks that column i of `values` [N, len(most)] is in [0, most[i]]. Synchronises on CUDA."""
    if len(values) == 0:
        return
    if len(set(most)) == 1:
        low, high = ([int(v)] for v in torch.aminmax(values))
    else:
        low, high = (v.tolist() for v in torch.aminmax(values, dim=0))
    if min(low) >= 0 and all(h <= m for h, m in zip(high, most, strict=False)):
        return
    bad = ((values < 0) | (values > torch.tensor(most, device=values.device))).any(1)
    row = int(bad.int().argmax())
    limits = str(most[0]) if len(set(most)) == 1 else str(tuple(most))
    raise ValueError(f"{name}: expected entries from 0 to {limits}, got {values[row].tolist()} in row {row}")


def voxels(coords: torch.Tensor, most: Sequence[int]) -> torch.Tensor:
    """`coords` contiguous, after checking their number and, as `require_range`, their components."""
    if len(coords) >= MAX_ROWS:
        raise ValueError(f"coords: expected fewer than {MAX_ROWS} voxels, got {len(coords)}")
    coords = coords.contiguous()
    require_range("coords", coords, most)
    return coords


def precision(dtype: torch.dtype) -> int:
    return 64 if dtype == torch.float64 else 32


def working(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` in the dtype that native code computes in: float64 stays, all else is float32."""
    if tensor.dtype is not torch.float32 and tensor.dtype is not torch.float64:
        tensor = tensor.to(torch.float32)
    return tensor.contiguous()
