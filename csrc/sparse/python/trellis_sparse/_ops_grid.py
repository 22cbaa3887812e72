"""Sampling of sparse voxel features at points."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch
from trellis_native import check

from ._index import VoxelIndex, indexed, refuse_outside, table_of
from ._library import EXTENSION, OPS, REAL, grid_shape, precision, working

_MODES = ("trilinear", "nearest")


def grid_sample_3d(
    feats: torch.Tensor,
    coords: torch.Tensor,
    shape: Sequence[int],
    points: torch.Tensor,
    mode: str = "trilinear",
    *,
    index: VoxelIndex | None = None,
) -> torch.Tensor:
    """Samples sparse voxel features at points.

    Voxel (x, y, z) fills [x, x + 1) on each axis and has its centre at + 0.5; the order of axes is x, y, z.
    "trilinear" weighs the up to eight voxels whose centres surround a point and divides by the sum of the weights
    of those that exist, so that a point near the surface of a shell reads the shell alone; a point exactly on the
    far border of the grid reads the voxels inside it. "nearest" takes the voxel that contains the point, so on the
    far border, which belongs to no voxel, it gives 0. Where nothing is found, far outside the grid, and for
    a point with a NaN, the sample is 0. Differentiable once in feats.

    Args:
        feats: [N, C], float32, float16, bfloat16 or float64.
        coords: int32 [N, 4], (batch, x, y, z) of each row, inside `shape`; where they repeat the first row counts.
        shape: size of the grid (B, W, H, D), each 1 to 65535.
        points: float32 [B, L, 3] in voxel units; points of batch b see voxels of batch b.
        mode: "trilinear" or "nearest".
        index: `voxel_index(coords, shape)`, to make it once for several calls.

    Returns:
        [B, L, C] in the dtype of feats; sums are in float32 (float64 for float64).

    Raises:
        ValueError: sizes that do not fit together, a coordinate outside `shape` (the check synchronises on CUDA),
            or an unknown mode.
    """
    size = grid_shape(shape)
    feats = check.tensor("feats", feats, dtype=REAL, shape=["N", "C"])
    coords = check.tensor("coords", coords, dtype=torch.int32, shape=[feats.shape[0], 4], like=feats)
    points = check.tensor("points", points, dtype=torch.float32, shape=[size[0], "L", 3], like=feats)
    mode = check.choice("mode", mode, _MODES)
    operator = _grid_sample_3d if torch.is_grad_enabled() and feats.requires_grad else _grid_sample_3d_values
    result: torch.Tensor = operator(feats, coords, size, points, mode, table_of(index, coords, size))
    return result


def _sampled(
    feats: torch.Tensor,
    coords: torch.Tensor,
    shape: list[int],
    points: torch.Tensor,
    mode: str,
    table: torch.Tensor | None,
) -> torch.Tensor:
    coords, table, outside = indexed(coords, shape, table)
    points, x = points.contiguous(), working(feats)
    (rows, channels), (batch, count, _) = x.shape, points.shape
    out = x.new_empty((batch, count, channels))
    EXTENSION.call(
        "grid_sample_3d", x, coords, rows, channels, *shape, points, count, _MODES.index(mode),
        precision(x.dtype), table, out, device=x.device,
    )  # fmt: skip
    refuse_outside(coords, shape, outside)
    return out if x.dtype is feats.dtype else out.to(feats.dtype)


_SCHEMA = "(Tensor feats, Tensor coords, int[] shape, Tensor points, str mode, Tensor? table) -> Tensor"
_grid_sample_3d = OPS.define(f"grid_sample_3d{_SCHEMA}")(_sampled)
# The same without a gradient: the way through autograd takes as long as the kernel.
_grid_sample_3d_values = OPS.define(f"grid_sample_3d_values{_SCHEMA}")(_sampled)


@OPS.fake("grid_sample_3d")
@OPS.fake("grid_sample_3d_values")
def _(
    feats: torch.Tensor,
    coords: torch.Tensor,
    shape: list[int],
    points: torch.Tensor,
    mode: str,
    table: torch.Tensor | None,
) -> torch.Tensor:
    return feats.new_empty((points.shape[0], points.shape[1], feats.shape[1]))


@OPS.define(
    "grid_sample_3d_grad(Tensor grad, Tensor coords, int[] shape, Tensor points, str mode, Tensor? table) -> Tensor"
)
def _grid_sample_3d_grad(
    grad: torch.Tensor,
    coords: torch.Tensor,
    shape: list[int],
    points: torch.Tensor,
    mode: str,
    table: torch.Tensor | None,
) -> torch.Tensor:
    coords, table, outside = indexed(coords, shape, table)
    points, g, device = points.contiguous(), working(grad), grad.device
    size = ctypes.c_int64()
    EXTENSION.call(
        "grid_sample_3d_grad_scratch", len(coords), shape[0], points.shape[1], ctypes.addressof(size), device=device
    )
    scratch = torch.empty(size.value, dtype=torch.uint8, device=device)
    out = torch.empty((len(coords), g.shape[2]), dtype=g.dtype, device=device)
    EXTENSION.call(
        "grid_sample_3d_grad", g, coords, *out.shape, *shape, points, points.shape[1], _MODES.index(mode),
        precision(g.dtype), table, scratch, out, device=device,
    )  # fmt: skip
    refuse_outside(coords, shape, outside)
    return out.to(grad.dtype)


@OPS.fake("grid_sample_3d_grad")
def _(
    grad: torch.Tensor,
    coords: torch.Tensor,
    shape: list[int],
    points: torch.Tensor,
    mode: str,
    table: torch.Tensor | None,
) -> torch.Tensor:
    return grad.new_empty((coords.shape[0], grad.shape[2]))


def _save_sample(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, coords, ctx.shape, points, ctx.mode, table = inputs
    ctx.save_for_backward(coords, points, *([] if table is None else [table]))


def _sample_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    coords, points, *table = ctx.saved_tensors
    grad_feats = _grid_sample_3d_grad(grad, coords, ctx.shape, points, ctx.mode, table[0] if table else None)
    return grad_feats, None, None, None, None, None


OPS.autograd("grid_sample_3d", _sample_backward, setup_context=_save_sample)
