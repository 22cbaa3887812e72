"""The general sparse convolution: outputs wherever the kernel meets a voxel, with stride and padding."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import trellis_sparse
from trellis_compat._missing import Served


class SparseConv3dNeighborCache(Served):
    """``cache["neighbor_map"]``, int32 [M, taps]: for each output the row of the input under each tap, or -1."""

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name, None)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)


def _triple(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value,) * 3 if isinstance(value, int) else tuple(int(v) for v in value)


class _Lattice:
    """Where the taps of a kernel lie: input = output * stride - padding + tap * dilation, each axis for itself."""

    def __init__(self, shape: Sequence[int], kernel: Sequence[int], device: torch.device, **steps: int | Sequence[int]):
        batch, _, *size = (int(s) for s in shape)
        given = {name: _triple(value) for name, value in steps.items()}
        if len(size) != 3 or any(len(v) != 3 for v in given.values()) or min(given["stride"] + given["dilation"]) < 1:
            raise ValueError(f"shape, stride, padding, dilation: expected 3 sizes and steps, got {shape} and {given}")
        self.batch, self.size = batch, size
        reach = [d * (k - 1) for d, k in zip(given["dilation"], kernel, strict=True)]
        self.out_size = [
            (s + 2 * p - r - 1) // step + 1
            for s, p, r, step in zip(size, given["padding"], reach, given["stride"], strict=True)
        ]
        self.stride = torch.tensor(given["stride"], device=device)
        taps = itertools.product(*(range(k) for k in kernel))
        self.offsets = torch.tensor(list(taps), device=device).view(-1, 3) * torch.tensor(
            given["dilation"], device=device
        )
        self.offsets -= torch.tensor(given["padding"], device=device)

    @staticmethod
    def keys(coords: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        c = coords.long()
        return ((c[:, 0] * size[0] + c[:, 1]) * size[1] + c[:, 2]) * size[2] + c[:, 3]

    @staticmethod
    def inside(at: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        return ((at >= 0) & (at < torch.tensor(size, device=at.device))).all(1)

    def outputs(self, coords: torch.Tensor) -> torch.Tensor:
        """int32 [M, 4], ascending: every output at which a tap meets a voxel."""
        if min(self.out_size) < 1:
            return coords[:0]
        found = [torch.empty(0, dtype=torch.int64, device=coords.device)]
        for offset in self.offsets:
            scaled = coords[:, 1:].long() - offset
            at = scaled.div(self.stride, rounding_mode="floor")
            met = (at * self.stride == scaled).all(1) & self.inside(at, self.out_size)
            found.append(self.keys(torch.cat([coords[met, :1].long(), at[met]], 1), self.out_size).unique())
        keys = torch.cat(found).unique()
        axes = []
        for size in reversed(self.out_size):
            axes.append(keys % size)
            keys = keys // size
        return torch.stack([keys, *reversed(axes)], 1).int()

    def neighbors(self, coords: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
        """int32 [M, taps]."""
        known, rows = self.keys(coords, self.size).sort(stable=True)
        table = torch.full((len(outputs), len(self.offsets)), -1, dtype=torch.int32, device=coords.device)
        if not len(coords):
            return table
        base = outputs[:, 1:].long() * self.stride
        for tap, offset in enumerate(self.offsets):
            at = base + offset
            key = self.keys(torch.cat([outputs[:, :1].long(), at], 1), self.size)
            place = torch.searchsorted(known, key).clamp_(max=len(known) - 1)
            there = (known[place] == key) & self.inside(at, self.size)
            table[:, tap] = torch.where(there, rows[place].int(), -1)
        return table


def sparse_conv3d(
    feats: torch.Tensor,
    coords: torch.Tensor,
    shape: Sequence[int],
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    neighbor_cache: SparseConv3dNeighborCache | None = None,
    out_coords: torch.Tensor | None = None,
    stride: int | Sequence[int] = (1, 1, 1),
    padding: int | Sequence[int] = (0, 0, 0),
    dilation: int | Sequence[int] = (1, 1, 1),
) -> tuple[torch.Tensor, torch.Tensor, SparseConv3dNeighborCache]:
    """Sparse convolution; differentiable in feats, weight and bias.

    Args:
        feats: [N, Ci].
        coords: int32 [N, 4], (batch, x, y, z).
        shape: (batch, channels, W, H, D) of the input.
        weight: [Co, kx, ky, kz, Ci].
        bias: [Co] or None.
        neighbor_cache: what an earlier call for the same coordinates and settings returned.
        out_coords: int32 [M, 4], where outputs are wanted; None: wherever a tap meets a voxel.

    Returns:
        [M, Co], the coordinates [M, 4] (ascending where they were not given), and the cache to pass on.
    """
    if neighbor_cache is None:
        steps = {"stride": stride, "padding": padding, "dilation": dilation}
        lattice = _Lattice(shape, weight.shape[1:4], coords.device, **steps)
        out_coords = lattice.outputs(coords) if out_coords is None else out_coords
        neighbor_cache = SparseConv3dNeighborCache(
            neighbor_map=lattice.neighbors(coords, out_coords), out_coords=out_coords
        )
    elif out_coords is None:
        out_coords = neighbor_cache["out_coords"]
    out = trellis_sparse.submanifold_conv3d(feats, weight, bias, neighbor_cache["neighbor_map"])
    return out, out_coords, neighbor_cache


class SparseConv3dFunction:
    """`sparse_conv3d` in upstream's other order of arguments."""

    @staticmethod
    def apply(
        feats: torch.Tensor,
        coords: torch.Tensor,
        shape: Sequence[int],
        neighbor_cache: SparseConv3dNeighborCache | None,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        out_coords: torch.Tensor | None = None,
        stride: int | Sequence[int] = (1, 1, 1),
        padding: int | Sequence[int] = (0, 0, 0),
        dilation: int | Sequence[int] = (1, 1, 1),
    ) -> tuple[torch.Tensor, torch.Tensor, SparseConv3dNeighborCache]:
        return sparse_conv3d(feats, coords, shape, weight, bias, neighbor_cache, out_coords, stride, padding, dilation)
