"""Submanifold convolution and the neighbour maps that it runs on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from trellis_native import check

from . import _conv_cuda
from ._index import VoxelIndex, indexed, refuse_outside, table_of
from ._library import EXTENSION, OPS, REAL, grid_shape, precision, working
from ._plan import ConvPlan, plannable, planned_unchecked

_MAX_KERNEL = 63


def neighbor_map(
    coords: torch.Tensor,
    shape: Sequence[int],
    kernel_size: int | Sequence[int] = 3,
    dilation: int | Sequence[int] = 1,
    *,
    index: VoxelIndex | None = None,
) -> torch.Tensor:
    """For each voxel, the rows of the voxels under a convolution kernel placed on it.

    Args:
        coords: int32 [N, 4], (batch, x, y, z) of each voxel, inside `shape`. Where coordinates repeat, the first
            row stands for the voxel, also in the repeated rows' own centre column.
        shape: size of the grid (B, W, H, D), each 1 to 65535.
        kernel_size: one size or three (x, y, z), each 1 to 63.
        dilation: one spacing of the kernel's taps or three, in voxels.
        index: `voxel_index(coords, shape)`, where it is at hand.

    Returns:
        int32 [N, kx * ky * kz], -1 where there is no voxel. Column (i * ky + j) * kz + k stands for the offset
        (i - kx // 2, j - ky // 2, k - kz // 2) times the dilation.

    Raises:
        ValueError: a coordinate outside `shape` (the check synchronises on CUDA).
    """
    coords = check.tensor("coords", coords, dtype=torch.int32, shape=["N", 4])
    kernel = _triple("kernel_size", kernel_size, _MAX_KERNEL)
    size, spacing = grid_shape(shape), _triple("dilation", dilation, 65535)
    result: torch.Tensor = _neighbor_map(coords, size, kernel, spacing, table_of(index, coords, size))
    return result


def conv_map(
    coords: torch.Tensor,
    shape: Sequence[int],
    kernel_size: int | Sequence[int] = 3,
    dilation: int | Sequence[int] = 1,
) -> ConvPlan:
    """`neighbor_map` and `conv_plan` of it in one go: its `neighbors` and itself are what convolutions take.

    The arguments are those of `neighbor_map`. The device waits for the host once, not after each step.

    Raises:
        ValueError: a coordinate outside `shape` (the check synchronises on CUDA).
    """
    coords = check.tensor("coords", coords, dtype=torch.int32, shape=["N", 4])
    kernel = _triple("kernel_size", kernel_size, _MAX_KERNEL)
    size, spacing = grid_shape(shape), _triple("dilation", dilation, 65535)
    coords, table, outside = indexed(coords, size, None)
    neighbors = _neighbor_map(coords, size, kernel, spacing, table)
    del table  # 60 bytes a voxel, of which the plan's own scratch may take the place
    wanted = neighbors.is_cuda and plannable(neighbors)
    plan = ConvPlan(neighbors, planned_unchecked(neighbors, len(coords)) if wanted else [])
    refuse_outside(coords, size, outside)
    return plan


def submanifold_conv3d(
    feats: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    neighbors: torch.Tensor,
    *,
    plan: ConvPlan | None = None,
) -> torch.Tensor:
    """Submanifold convolution: outputs exist only where inputs do (Graham, Engelcke and van der Maaten, 2018).

    out[i] = bias + sum over taps t with neighbors[i, t] >= 0 of weight[:, t, :] @ feats[neighbors[i, t]]

    Sums are in float32 (float64 for float64 inputs), in an order that depends on neither the number of threads
    nor the processor, and on CUDA on map and device alone. Differentiable once in feats, weight and bias.

    On CUDA float16 and bfloat16 run on tensor cores. float32 is computed in float32 unless torch is told otherwise:
    with `torch.set_float32_matmul_precision("high")` (which `torch.backends.cuda.matmul.allow_tf32 = True` sets too)
    it runs on tensor cores in TF32.

    Args:
        feats: [N, Ci], float32, float16, bfloat16 or float64.
        weight: [Co, kx, ky, kz, Ci] of the same dtype.
        bias: [Co] of the same dtype, or None.
        neighbors: int32 [M, kx * ky * kz], `neighbor_map` with the same kernel size or some of its rows: then the
            result is that at those voxels alone.
        plan: `conv_plan(neighbors)` of a whole map, to make it once for several calls. Without one, calls on CUDA make
            their own and synchronise.

    Returns:
        [M, Co] in the dtype of feats.

    Raises:
        ValueError: sizes that do not fit together, a neighbour that is not a row of feats, or the plan of another map.
    """
    feats = check.tensor("feats", feats, dtype=REAL, shape=["N", "Ci"])
    weight = check.tensor(
        "weight", weight, dtype=feats.dtype, shape=["Co", "kx", "ky", "kz", feats.shape[1]], like=feats
    )
    if bias is not None:
        bias = check.tensor("bias", bias, dtype=feats.dtype, shape=[weight.shape[0]], like=feats)
    taps = weight.shape[1] * weight.shape[2] * weight.shape[3]
    if plan is not None and plan.neighbors is not neighbors and plan.neighbors.data_ptr() != neighbors.data_ptr():
        raise ValueError("plan: expected one made for `neighbors`, got one for another map")
    neighbors = check.tensor("neighbors", neighbors, dtype=torch.int32, shape=["M", taps], like=feats)
    if plan is not None and len(neighbors) != len(feats):
        raise ValueError(f"plan: expected none with {len(neighbors)} rows of the map of {len(feats)} voxels")
    forward = plan.forward if plan else []
    backward = plan.backward() if plan and feats.requires_grad and torch.is_grad_enabled() else []
    tf32 = torch.get_float32_matmul_precision() != "highest"
    result: torch.Tensor = _submanifold_conv3d(feats, weight, bias, neighbors, forward, backward, tf32)
    return result


def _triple(name: str, value: int | Sequence[int], maximum: int) -> list[int]:
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * 3
    if len(values) != 3:
        raise ValueError(f"{name}: expected an int or 3 ints (x, y, z), got {value!r}")
    return [check.positive_int(name, v, maximum=maximum) for v in values]


@OPS.define("neighbor_map(Tensor coords, int[] shape, int[] kernel_size, int[] dilation, Tensor? table) -> Tensor")
def _neighbor_map(
    coords: torch.Tensor, shape: list[int], kernel_size: list[int], dilation: list[int], table: torch.Tensor | None
) -> torch.Tensor:
    coords, table, outside = indexed(coords, shape, table)
    taps = kernel_size[0] * kernel_size[1] * kernel_size[2]
    neighbors = torch.empty((len(coords), taps), dtype=torch.int32, device=coords.device)
    EXTENSION.call(
        "neighbor_map", coords, len(coords), *shape, *kernel_size, *dilation, table, neighbors, device=coords.device
    )
    refuse_outside(coords, shape, outside)
    return neighbors


@OPS.fake("neighbor_map")
def _(
    coords: torch.Tensor, shape: list[int], kernel_size: list[int], dilation: list[int], table: torch.Tensor | None
) -> torch.Tensor:
    return coords.new_empty((coords.shape[0], kernel_size[0] * kernel_size[1] * kernel_size[2]))


def _sizes(neighbors: torch.Tensor, rows_in: int, channels_in: int, channels_out: int) -> tuple[int, ...]:
    return rows_in, len(neighbors), channels_in, channels_out, neighbors.shape[1]


@OPS.define(
    "submanifold_conv3d(Tensor feats, Tensor weight, Tensor? bias, Tensor neighbors, Tensor[] plan, Tensor[] back, "
    "bool tf32) -> Tensor"
)
def _submanifold_conv3d(
    feats: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    neighbors: torch.Tensor,
    plan: list[torch.Tensor],
    back: list[torch.Tensor],
    tf32: bool,
) -> torch.Tensor:
    if feats.device.type == "cuda":
        return _conv_cuda.convolve(feats, weight, bias, neighbors, plan, tf32)
    x, w = working(feats), working(weight)
    sizes = _sizes(neighbors, len(x), x.shape[1], len(w))
    out = torch.empty((len(neighbors), len(w)), dtype=x.dtype, device=x.device)
    EXTENSION.call(
        "submanifold_conv3d",
        x,
        w,
        None if bias is None else working(bias),
        neighbors.contiguous(),
        *sizes,
        precision(x.dtype),
        *(None, None, None, 1, None),
        out,
        device=feats.device,
    )
    return out.to(feats.dtype)


@OPS.fake("submanifold_conv3d")
def _(
    feats: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    neighbors: torch.Tensor,
    plan: list[torch.Tensor],
    back: list[torch.Tensor],
    tf32: bool,
) -> torch.Tensor:
    return feats.new_empty((neighbors.shape[0], weight.shape[0]))


@OPS.define(
    "submanifold_conv3d_grad_feats(Tensor grad, Tensor weight, Tensor neighbors, SymInt rows, Tensor[] back, "
    "bool tf32) -> Tensor"
)
def _grad_feats(
    grad: torch.Tensor, weight: torch.Tensor, neighbors: torch.Tensor, rows: int, back: list[torch.Tensor], tf32: bool
) -> torch.Tensor:
    if grad.device.type == "cuda":
        return _conv_cuda.grad_feats(grad, weight, neighbors, rows, back, tf32)
    g, w = working(grad), working(weight)
    sizes = _sizes(neighbors, rows, w.shape[-1], len(w))
    out = torch.empty((rows, w.shape[-1]), dtype=g.dtype, device=g.device)
    EXTENSION.call(
        "submanifold_conv3d_grad_feats",
        g,
        w,
        neighbors.contiguous(),
        *sizes,
        precision(g.dtype),
        out,
        device=grad.device,
    )
    return out.to(grad.dtype)


@OPS.fake("submanifold_conv3d_grad_feats")
def _(
    grad: torch.Tensor, weight: torch.Tensor, neighbors: torch.Tensor, rows: int, back: list[torch.Tensor], tf32: bool
) -> torch.Tensor:
    return grad.new_empty((rows, weight.shape[-1]))


@OPS.define(
    "submanifold_conv3d_grad_weight(Tensor grad, Tensor feats, Tensor neighbors, SymInt[] kernel_size) "
    "-> (Tensor, Tensor)"
)
def _grad_weight(
    grad: torch.Tensor, feats: torch.Tensor, neighbors: torch.Tensor, kernel_size: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    if grad.device.type == "cuda":
        return _conv_cuda.grad_weight(grad, feats, neighbors, kernel_size)
    g, x = working(grad), working(feats)
    sizes = _sizes(neighbors, len(x), x.shape[1], g.shape[1])
    weight = torch.empty((g.shape[1], *kernel_size, x.shape[1]), dtype=g.dtype, device=g.device)
    bias = torch.empty(g.shape[1], dtype=g.dtype, device=g.device)
    EXTENSION.call(
        "submanifold_conv3d_grad_weight",
        g,
        x,
        neighbors.contiguous(),
        *sizes,
        precision(g.dtype),
        weight,
        bias,
        device=grad.device,
    )
    return weight.to(grad.dtype), bias.to(grad.dtype)


@OPS.fake("submanifold_conv3d_grad_weight")
def _(
    grad: torch.Tensor, feats: torch.Tensor, neighbors: torch.Tensor, kernel_size: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    weight = grad.new_empty((grad.shape[1], *kernel_size, feats.shape[1]))
    return weight, grad.new_empty((grad.shape[1],))


def _save_conv(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    feats, weight, bias, neighbors, plan, back, ctx.tf32 = inputs
    ctx.no_gradients = [None] * len(plan), [None] * len(back)  # integers: the operator wants to hear it
    ctx.save_for_backward(feats, weight, neighbors, *back)
    ctx.has_bias = bias is not None


def _conv_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    feats, weight, neighbors, *back = ctx.saved_tensors
    grad_feats = grad_weight = grad_bias = None
    if ctx.needs_input_grad[0]:
        grad_feats = _grad_feats(grad, weight, neighbors, feats.shape[0], back, ctx.tf32)
    if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
        grad_weight, grad_bias = _grad_weight(grad, feats, neighbors, weight.shape[1:4])
    return grad_feats, grad_weight, grad_bias if ctx.has_bias else None, None, *ctx.no_gradients, None


OPS.autograd("submanifold_conv3d", _conv_backward, setup_context=_save_conv)
