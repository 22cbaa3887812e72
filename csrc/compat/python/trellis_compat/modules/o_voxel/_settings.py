"""The grid that upstream's functions take as voxel_size, grid_size and aabb in many forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from trellis_voxel import Grid

__all__: list[str] = []


def grid_of(
    voxel_size: Any, grid_size: Any, aabb: Any, bounds: tuple[npt.ArrayLike, npt.ArrayLike] | None = None
) -> Grid:
    """The grid of `grid_size` voxels, or of voxels of `voxel_size`, over `aabb`.

    Args:
        bounds: lowest and highest corner of the content. Without `aabb` the box is fitted to it: its middle, and wide
            enough that half a voxel is free on each side (grid_size), or that a whole number of voxels fits.

    Raises:
        ValueError: neither size given, or both and they disagree.
    """
    if voxel_size is None and grid_size is None:
        raise ValueError("voxel_size, grid_size: expected one of them, got None for both")
    voxel = None if voxel_size is None else _three(voxel_size)
    count = None if grid_size is None else _three(grid_size)
    if aabb is None:
        if bounds is None:
            raise ValueError("aabb: expected [[x, y, z], [x, y, z]], got None")
        low, high = (np.asarray(b, dtype=np.float64) for b in bounds)
        size = high - low
        if count is not None:
            wide = size * count / np.maximum(count - 1, 1)
        else:
            assert voxel is not None
            wide = np.ceil(size / voxel) * voxel
        box = np.stack([low - (wide - size) / 2, high + (wide - size) / 2])
    else:
        box = _array(aabb)
    if voxel is not None:
        fitting = np.rint((box[1] - box[0]) / voxel)
        if count is not None and not np.array_equal(fitting, count):
            raise ValueError(f"voxel_size, grid_size: {voxel.tolist()} makes {fitting.tolist()} voxels, not {count}")
        count = fitting
    assert count is not None
    return Grid.of([int(c) for c in count], box)


def _array(value: Any) -> npt.NDArray[np.float64]:
    return np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, dtype=np.float64)


def _three(value: Any) -> npt.NDArray[np.float64]:
    return np.broadcast_to(_array(value).reshape(-1), 3)
