"""Halving and doubling the resolution of sparse voxels, as the decoders and encoders of TRELLIS.2 do it."""

from __future__ import annotations

import ctypes
from typing import NamedTuple

import torch
from trellis_native import check

from ._library import EXTENSION, OPS, REAL, require_range, voxels

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
    coords, mask = voxels(coords, [_MAX_COORD] * 4), mask.contiguous()
    counts = mask.sum(1)
    after = counts.cumsum(0)
    total = int(after[-1]) if len(after) else 0
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
