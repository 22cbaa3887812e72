"""Halving and doubling the resolution of sparse voxels, as the decoders and encoders of TRELLIS.2 do it."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import torch
from trellis_native import check

from ._library import EXTENSION, HALVES, MAX_ROWS, OPS, REAL, require_range, voxels

_MAX_COORD = 65535


class Resampled(NamedTuple):
    """Voxels of another resolution, and how they are tied to the ones they came from.

    coords: int32 [M, 4], the new voxels. For `downsample` they are the parents, ascending in (batch, x, y, z);
        for `upsample` the children, in order of their parents, then of their slots.
    parent: int64, for each child the row of its parent; [N] for `downsample`, [M] for `upsample`.
    slot: int64, for each child its place in its parent, x + 2 y + 4 z of its offset; shaped as `parent`.
    """

    coords: torch.Tensor
    parent: torch.Tensor
    slot: torch.Tensor


def downsample(coords: torch.Tensor) -> Resampled:
    """The voxels of half the resolution that hold the given ones. Synchronises on CUDA, to learn how many.

    Args:
        coords: int32 [N, 4], (batch, x, y, z), each in [0, 65535].

    Returns:
        The parents, and each given voxel's parent and slot.
    """
    coords = check.tensor("coords", coords, dtype=torch.int32, shape=["N", 4])
    return Resampled(*_downsample(coords))


def upsample(coords: torch.Tensor, mask: torch.Tensor) -> Resampled:
    """The chosen children of voxels at twice the resolution. Synchronises on CUDA, to learn how many.

    Args:
        coords: int32 [N, 4], (batch, x, y, z), each in [0, 65535].
        mask: bool [N, 8], which children each voxel gets; column x + 2 y + 4 z is the child at that offset.

    Returns:
        The children, and each child's parent and slot.
    """
    coords = check.tensor("coords", coords, dtype=torch.int32, shape=["N", 4])
    mask = check.tensor("mask", mask, dtype=torch.bool, shape=[coords.shape[0], 8], like=coords)
    return Resampled(*_upsample(coords, mask))


def channel_to_space(feats: torch.Tensor, parent: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """Hands each child its share of its parent's channels. Differentiable.

    Args:
        feats: [P, 8 C]; channels slot * C to slot * C + C - 1 belong to child `slot`.
        parent: int64 [M], each in [0, P).
        slot: int64 [M], each in [0, 8).

    Returns:
        [M, C].
    """
    feats = check.tensor("feats", feats, dtype=REAL, shape=["P", "8 C"])
    if feats.shape[1] % 8:
        raise ValueError(f"feats: expected a number of channels divisible by 8, got {feats.shape[1]}")
    at = _places(parent, slot, feats.shape[0], feats)
    return feats.reshape(feats.shape[0] * 8, feats.shape[1] // 8).index_select(0, at)


def space_to_channel(feats: torch.Tensor, parent: torch.Tensor, slot: torch.Tensor, num_parents: int) -> torch.Tensor:
    """Lines up the channels of each parent's children, with 0 for children that are absent. Differentiable.

    Args:
        feats: [M, C].
        parent: int64 [M], each in [0, num_parents).
        slot: int64 [M], each in [0, 8). No (parent, slot) may come twice: which one counts is not defined.
        num_parents: P.

    Returns:
        [P, 8 C], child `slot` in channels slot * C to slot * C + C - 1.
    """
    feats = check.tensor("feats", feats, dtype=REAL, shape=["M", "C"])
    rows = check.positive_int("num_parents", num_parents, minimum=0)
    at = _places(parent, slot, rows, feats)
    if len(at) != len(feats):
        raise ValueError(f"parent: expected one entry for each of {len(feats)} rows of feats, got {len(at)}")
    return feats.new_zeros((rows * 8, feats.shape[1])).index_copy(0, at, feats).reshape(rows, 8 * feats.shape[1])


def add_shares(update: torch.Tensor, shares: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Adds to each row a row of `shares`, each channel of which serves C / D channels in succession.

    out[i, c] = update[i, c] + shares[source[i], c // (C // D)]

    Args:
        update: [M, C], float32, float16 or bfloat16.
        shares: [P, D] of the same dtype, D a divisor of C.
        source: int64 [M], each in [0, P). On CUDA another row adds NaN.

    Returns:
        [M, C], summed in float32. Differentiable in update and shares.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit; on the CPU, a row that `shares` does not have.
    """
    update = check.tensor("update", update, dtype=list(HALVES), shape=["M", "C"])
    shares = check.tensor("shares", shares, dtype=update.dtype, shape=["P", "D"], like=update)
    source = check.tensor("source", source, dtype=torch.int64, shape=[len(update)], like=update)
    if not shares.shape[1] or update.shape[1] % shares.shape[1]:
        raise ValueError(f"shares: expected a divisor of {update.shape[1]} channels, got {shares.shape[1]}")
    if not update.is_cuda:
        require_range("source", source[:, None], [len(shares) - 1])
    result: torch.Tensor = _add_shares(update, shares, source)
    return result


def _places(parent: torch.Tensor, slot: torch.Tensor, rows: int, like: torch.Tensor) -> torch.Tensor:
    parent = check.tensor("parent", parent, dtype=torch.int64, shape=["M"], like=like)
    slot = check.tensor("slot", slot, dtype=torch.int64, shape=[parent.shape[0]], like=like)
    # On CUDA the gather itself checks, without a synchronisation.
    if not like.is_cuda:
        require_range("parent", parent[:, None], [rows - 1])
        require_range("slot", slot[:, None], [7])
    return parent * 8 + slot


@OPS.define("downsample(Tensor coords) -> (Tensor, Tensor, Tensor)")
def _downsample(coords: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    coords = voxels(coords, [_MAX_COORD] * 4)
    if coords.is_cuda:
        return _downsample_by_sorting(coords)
    parents = torch.empty_like(coords)
    parent = torch.empty(len(coords), dtype=torch.int64)
    slot = torch.empty_like(parent)
    count = ctypes.c_int64()
    EXTENSION.call(
        "downsample", coords, len(coords), parents, parent, slot, ctypes.addressof(count), device=coords.device
    )
    return parents[: count.value].clone(), parent, slot


def _downsample_by_sorting(coords: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same with torch's own sort, which on CUDA is a radix sort."""
    halves = coords[:, 1:] >> 1
    # The top bit is flipped so that the signed order is that of the batch.
    batch = (coords[:, 0].long() - 32768) << 48
    keys = batch + (halves[:, 0].long() << 32) + (halves[:, 1].long() << 16) + halves[:, 2].long()
    unique, parent = torch.unique(keys, sorted=True, return_inverse=True)
    columns = [(unique >> 48) + 32768, unique >> 32 & 0xFFFF, unique >> 16 & 0xFFFF, unique & 0xFFFF]
    odd = (coords[:, 1:] & 1).long()
    return torch.stack(columns, 1).to(torch.int32), parent, odd[:, 0] + 2 * odd[:, 1] + 4 * odd[:, 2]


@OPS.fake("downsample")
def _(coords: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    parents = coords.new_empty((torch.library.get_ctx().new_dynamic_size(), 4))
    parent = coords.new_empty((coords.shape[0],), dtype=torch.int64)
    return parents, parent, torch.empty_like(parent)


@OPS.define("upsample(Tensor coords, Tensor mask) -> (Tensor, Tensor, Tensor)")
def _upsample(coords: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if len(coords) >= MAX_ROWS:
        raise ValueError(f"coords: expected fewer than {MAX_ROWS} voxels, got {len(coords)}")
    coords, mask = coords.contiguous(), mask.contiguous()
    counts = mask.sum(1)
    after = counts.cumsum(0)
    total = low = high = 0
    if len(coords):  # one wait for the device tells both how many there are and that all lie in range
        total, low, high = torch.stack([after[-1], *(v.long() for v in torch.aminmax(coords))]).tolist()
    if low < 0 or high > _MAX_COORD:
        require_range("coords", coords, [_MAX_COORD] * 4)
    children = torch.empty((total, 4), dtype=torch.int32, device=coords.device)
    parent = torch.empty(total, dtype=torch.int64, device=coords.device)
    slot = torch.empty_like(parent)
    EXTENSION.call("upsample", coords, mask, after - counts, len(coords), children, parent, slot, device=coords.device)
    return children, parent, slot


@OPS.fake("upsample")
def _(coords: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    total = torch.library.get_ctx().new_dynamic_size()
    parent = coords.new_empty((total,), dtype=torch.int64)
    return coords.new_empty((total, 4)), parent, torch.empty_like(parent)


@OPS.define("add_shares(Tensor update, Tensor shares, Tensor source) -> Tensor")
def _add_shares(update: torch.Tensor, shares: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    dtype = update.dtype
    if not update.is_cuda:
        update, shares = update.float(), shares.float()
    out = torch.empty_like(update)
    EXTENSION.call(
        "add_shares", update, shares, source, *update.shape, *shares.shape, HALVES[update.dtype], out,
        device=update.device,
    )  # fmt: skip
    return out.to(dtype)


@OPS.fake("add_shares")
def _(update: torch.Tensor, shares: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(update)


def _save_shares(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    _, shares, source = inputs
    ctx.save_for_backward(source)
    ctx.shape = shares.shape


def _shares_backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (source,) = ctx.saved_tensors
    rows, channels = ctx.shape
    per_share = grad.unflatten(1, (channels, -1)).sum(2, dtype=torch.float32)
    total = torch.zeros((rows, channels), dtype=torch.float32, device=grad.device).index_add_(0, source, per_share)
    return grad, total.to(grad.dtype), None


OPS.autograd("add_shares", _shares_backward, setup_context=_save_shares)
