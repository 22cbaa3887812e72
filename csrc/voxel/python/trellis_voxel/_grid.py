"""The voxel grid: an axis-aligned box cut into equal cells, and the way from world positions to cells and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

GridSize: TypeAlias = int | Sequence[int] | torch.Tensor | npt.NDArray[Any]
Aabb: TypeAlias = Sequence[Sequence[float]] | torch.Tensor | npt.NDArray[Any]

MAX_GRID_SIZE = 65536
"""Cells along an axis, at most: three coordinates and a batch number then fit in one 64-bit key."""

_LARGEST = 1e30  # float32 differences to any float32 position are then finite


@dataclass(frozen=True)
class Grid:
    """A grid of ``size`` voxels over the box from ``aabb_min`` to ``aabb_max`` (world units).

    All numbers are exact float32 values: voxel sizes are the float32 quotient of the box and the grid, since the
    voxels that a surface touches depend on the last bit of it.
    """

    size: tuple[int, int, int]
    aabb_min: tuple[float, float, float]
    aabb_max: tuple[float, float, float]
    voxel_size: tuple[float, float, float]

    @staticmethod
    def of(grid_size: GridSize, aabb: Aabb) -> Grid:
        """The grid with `grid_size` voxels (one number, or one for each axis) over `aabb` ``[[x, y, z], [x, y, z]]``.

        Raises:
            TypeError: a size is not an integer, or the box is not made of numbers.
            ValueError: a size is outside [1, 65536], the box is not 2 x 3 numbers of at most 1e30, or it is empty along an axis.
        """
        size = _size(grid_size)
        low, high = _box(aabb)
        if not bool((high > low).all()):
            raise ValueError(
                f"aabb: expected a maximum above the minimum on each axis, got {[low.tolist(), high.tolist()]}"
            )
        voxel: npt.NDArray[np.float32] = np.divide(high - low, np.asarray(size, dtype=np.float32))
        if not bool((np.isfinite(voxel) & (voxel > 0)).all()):
            raise ValueError(f"aabb: expected a box whose voxels have a float32 size, got voxel size {voxel.tolist()}")
        return Grid(size, _triple(low), _triple(high), _triple(voxel))

    def to_voxel(self, points: torch.Tensor) -> torch.Tensor:
        """World positions [..., 3] in voxel units: voxel (x, y, z) spans [x, x + 1) and so on."""
        return (points - points.new_tensor(self.aabb_min)) / points.new_tensor(self.voxel_size)

    def to_world(self, points: torch.Tensor) -> torch.Tensor:
        """World positions of points [..., 3] in voxel units."""
        return points * points.new_tensor(self.voxel_size) + points.new_tensor(self.aabb_min)


def _triple(values: npt.NDArray[np.float32]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z


def _size(value: GridSize) -> tuple[int, int, int]:
    items: Any = value.tolist() if isinstance(value, (torch.Tensor, np.ndarray)) else value
    sizes = list(items) if isinstance(items, (list, tuple)) else [items] * 3
    if any(isinstance(s, bool) or not isinstance(s, (int, np.integer)) for s in sizes):
        raise TypeError(f"grid_size: expected an int or three ints, got {value!r}")
    if len(sizes) != 3 or not all(1 <= s <= MAX_GRID_SIZE for s in sizes):
        raise ValueError(f"grid_size: expected one or three ints in [1, {MAX_GRID_SIZE}], got {value!r}")
    x, y, z = (int(s) for s in sizes)
    return x, y, z


def _box(value: Aabb) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"aabb: expected [[x, y, z], [x, y, z]], got {value!r}") from None
    if array.shape != (2, 3):
        raise ValueError(f"aabb: expected shape [2, 3], got {list(array.shape)}")
    if not all(abs(v) <= _LARGEST for v in array.ravel().tolist()):
        raise ValueError(f"aabb: expected finite numbers of at most {_LARGEST:g}, got {array.tolist()}")
    box = array.astype(np.float32)
    return box[0], box[1]
