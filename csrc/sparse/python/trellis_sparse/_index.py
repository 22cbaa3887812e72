"""The index by which voxels are found: made once for a set of voxels where several operations search it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from trellis_native import check

from ._library import EXTENSION, MAX_ROWS, OPS, grid_shape, require_range


@dataclass(frozen=True)
class VoxelIndex:
    """Finds the rows of voxels. Made by `voxel_index`; pass it as `index` beside the same coords and shape.

    Attributes:
        coords: int32 [N, 4], as given.
        shape: size of the grid (B, W, H, D).
        table: the lookup table, about 60 bytes a voxel; empty on the CPU, whose operations make their own.
    """

    coords: torch.Tensor
    shape: tuple[int, ...]
    table: torch.Tensor


def voxel_index(coords: torch.Tensor, shape: Sequence[int]) -> VoxelIndex:
    """Indexes the voxels of one grid for `neighbor_map` and `grid_sample_3d`.

    Args:
        coords: int32 [N, 4], (batch, x, y, z), inside `shape`; it must not be changed afterwards.
        shape: size of the grid (B, W, H, D), each 1 to 65535.

    Raises:
        ValueError: a coordinate outside `shape` (the check synchronises on CUDA).
    """
    coords = check.tensor("coords", coords, dtype=torch.int32, shape=["N", 4])
    size = grid_shape(shape)
    return VoxelIndex(coords, tuple(size), _build(coords, size))


def table_of(index: VoxelIndex | None, coords: torch.Tensor, shape: list[int]) -> torch.Tensor | None:
    """The table of an index that a caller gave, after checking that it is one of these voxels."""
    if index is None:
        return None
    if not isinstance(index, VoxelIndex):
        raise TypeError(f"index: expected a VoxelIndex, got {type(index).__name__}")
    same = index.coords.data_ptr() == coords.data_ptr() and index.coords.shape == coords.shape
    if not same or list(index.shape) != shape or index.coords.device != coords.device:
        raise ValueError("index: expected one made for `coords` and `shape`, got one for other voxels")
    return index.table


def indexed(
    coords: torch.Tensor, shape: list[int], table: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """`coords` as kernels take them, a table for them (the given one, or one made now), and what `refuse_outside`
    wants once the table's readers are on their way: they never find voxels outside, and the device need not wait."""
    coords = _readable(coords)
    return (coords, table, None) if table is not None else (coords, *_built(coords, shape))


def refuse_outside(coords: torch.Tensor, shape: list[int], outside: torch.Tensor | None) -> None:
    """Raises ValueError if `outside`, from `indexed`, tells of a voxel. Synchronises on CUDA unless it is None."""
    if outside is not None and outside.item() < coords.shape[0]:
        require_range("coords", coords, [size - 1 for size in shape])


def _build(coords: torch.Tensor, shape: list[int]) -> torch.Tensor:
    table, outside = _voxel_index(coords, shape)
    refuse_outside(coords, shape, outside)
    result: torch.Tensor = table
    return result


def _readable(coords: torch.Tensor) -> torch.Tensor:
    """`coords` as kernels take them: contiguous, on CUDA at a multiple of 16 bytes."""
    if coords.shape[0] >= MAX_ROWS:
        raise ValueError(f"coords: expected fewer than {MAX_ROWS} voxels, got {coords.shape[0]}")
    coords = coords.contiguous()
    return coords.clone() if coords.is_cuda and coords.data_ptr() % 16 else coords


def _built(coords: torch.Tensor, shape: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    rows, device = coords.shape[0], coords.device
    size = ctypes.c_int64()
    EXTENSION.call("index_bytes", rows, ctypes.addressof(size), device=device)
    table = torch.empty(size.value, dtype=torch.uint8, device=device)
    outside = torch.empty((), dtype=torch.int64, device=device)
    EXTENSION.call("index_build", coords, rows, *shape, table, outside, device=device)
    return table, outside


@OPS.define("voxel_index(Tensor coords, int[] shape) -> (Tensor, Tensor)")
def _voxel_index(coords: torch.Tensor, shape: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The table uint8 [bytes], and the first row outside the grid or a number beyond all."""
    return _built(_readable(coords), shape)


@OPS.fake("voxel_index")
def _(coords: torch.Tensor, shape: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    size = torch.library.get_ctx().new_dynamic_size()
    return coords.new_empty((size,), dtype=torch.uint8), coords.new_empty((), dtype=torch.int64)
