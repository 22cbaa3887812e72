"""Plans of submanifold convolution on tensor cores: made once for a neighbour map, used by every layer on it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import torch
from trellis_native import check

from ._library import EXTENSION, MAX_ROWS, OPS

MAX_TAPS = 125
_GROUP = 64
_TILE = 128


@dataclass(frozen=True)
class ConvPlan:
    """How `submanifold_conv3d` goes through one neighbour map. Made by `conv_plan`; nothing in it is for the caller.

    Attributes:
        neighbors: the map.
        forward: order int32 [parts, N], masks int32 [parts, ceil(N / 64)] and tiles int32 [T]; empty where no plan
            is needed (on the CPU, for kernels of more than 125 taps).
    """

    neighbors: torch.Tensor
    forward: list[torch.Tensor]
    _backward: list[torch.Tensor] = field(default_factory=list, repr=False)

    def backward(self) -> list[torch.Tensor]:
        """The map's transpose and the plan of that, for the gradient of feats; computed once. Synchronises on CUDA."""
        if self.forward and not self._backward:
            self._backward.extend(transposed(self.neighbors, len(self.neighbors)))
        return self._backward


def conv_plan(neighbors: torch.Tensor) -> ConvPlan:
    """Plans convolutions over a neighbour map.

    Rows are sorted by which neighbours they have, so that a tile of rows goes through few taps in vain; where rows
    are few, for a third or half of the taps at a time. The order changes no result but rounding, and is the same
    whenever the map is. A plan costs about as much as the map and serves any number of calls and channels;
    without one, each call on CUDA makes its own.

    Args:
        neighbors: int32 [N, kx * ky * kz] from `neighbor_map`; it must not be changed afterwards.

    Raises:
        ValueError: on CUDA, a neighbour that is not a row (the check synchronises).
    """
    neighbors = check.tensor("neighbors", neighbors, dtype=torch.int32, shape=["N", "taps"])
    if neighbors.device.type == "cpu" or not plannable(neighbors):
        return ConvPlan(neighbors, [])
    return ConvPlan(neighbors, planned(neighbors, len(neighbors)))


def plannable(neighbors: torch.Tensor) -> bool:
    return len(neighbors) > 0 and 1 <= neighbors.shape[1] <= MAX_TAPS


def parts_and_chunk(rows: int, taps: int) -> tuple[int, int]:
    """The table: into how many parts the taps of `rows` rows are cut, and how many rows sorting may mix.

    Measured on an H100 with surfaces of voxels, whose rows have about 14 of 27 neighbours in 10,000 combinations.
    Few rows sorted by 27 taps at once would go through half as many taps again as they have, which costs more than
    adding up two parts. More rows gain less from parts than the traffic of the sums costs, and mixing all rows was
    never slower than keeping near ones together.
    """
    parts = 2 if rows <= 20_000 else 1
    parts = min(taps, max(parts, 1 if taps == 27 else -(-taps // 26)))
    return parts, max(rows, 1)


def planned(neighbors: torch.Tensor, rows_in: int) -> list[torch.Tensor]:
    """Order, masks and tiles of a map whose entries are rows in [-1, rows_in). Synchronises on CUDA."""
    order, masks, tiles, wrong = _conv_plan(neighbors, rows_in, *parts_and_chunk(*neighbors.shape))
    refuse_wrong(neighbors, rows_in, int(wrong))
    return [order, masks, tiles]


def planned_unchecked(neighbors: torch.Tensor, rows_in: int) -> list[torch.Tensor]:
    """`planned` of a map that was made here and needs no check; does not synchronise."""
    return list(_conv_plan(neighbors, rows_in, *parts_and_chunk(*neighbors.shape))[:3])


def refuse_wrong(neighbors: torch.Tensor, rows_in: int, place: int) -> None:
    if place < neighbors.numel():
        row, tap = divmod(place, neighbors.shape[1])
        value = int(neighbors[row, tap])
        raise ValueError(f"neighbors: expected rows in [-1, {rows_in}), got {value} at [{row}, {tap}]")


def transposed(neighbors: torch.Tensor, rows_in: int) -> list[torch.Tensor]:
    """The transpose [rows_in, taps] of a map and its plan; more such four tensors where rows are read more than once
    at a tap. Synchronises on CUDA."""
    found: list[torch.Tensor] = []
    remaining, left = neighbors.clone(), 1
    while left:
        inverse, count = _invert_map(remaining, rows_in)
        left = int(count)
        found += [inverse, *planned(inverse, len(neighbors))]
    return found


@OPS.define(
    "conv_plan(Tensor neighbors, SymInt rows_in, int parts, SymInt chunk_rows) -> (Tensor, Tensor, Tensor, Tensor)"
)
def _conv_plan(
    neighbors: torch.Tensor, rows_in: int, parts: int, chunk_rows: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    neighbors = neighbors.contiguous()
    rows, taps = neighbors.shape
    if rows >= MAX_ROWS:
        raise ValueError(f"neighbors: expected fewer than {MAX_ROWS} rows, got {rows}")
    device, groups, tiles_of_part = neighbors.device, -(-rows // _GROUP), -(-rows // _TILE)
    size = ctypes.c_int64()
    EXTENSION.call("conv_plan_scratch", rows, taps, parts, chunk_rows, ctypes.addressof(size), device=device)
    scratch = torch.empty(size.value, dtype=torch.uint8, device=device)
    order = torch.empty((parts, rows), dtype=torch.int32, device=device)
    masks = torch.empty((parts, groups), dtype=torch.int32, device=device)
    tiles = torch.empty(parts * tiles_of_part, dtype=torch.int32, device=device)
    wrong = torch.empty((), dtype=torch.int64, device=device)
    EXTENSION.call(
        "conv_plan", neighbors, rows_in, rows, taps, parts, chunk_rows, scratch, order, masks, tiles, wrong,
        device=device,
    )  # fmt: skip
    return order, masks, tiles, wrong


@OPS.fake("conv_plan")
def _(
    neighbors: torch.Tensor, rows_in: int, parts: int, chunk_rows: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = neighbors.shape[0]
    return (
        neighbors.new_empty((parts, rows)),
        neighbors.new_empty((parts, -(-rows // _GROUP))),
        neighbors.new_empty((parts * -(-rows // _TILE),)),
        neighbors.new_empty((), dtype=torch.int64),
    )


def _invert_map(remaining: torch.Tensor, rows_in: int) -> tuple[torch.Tensor, torch.Tensor]:
    inverse = torch.empty((rows_in, remaining.shape[1]), dtype=torch.int32, device=remaining.device)
    left = torch.empty((), dtype=torch.int64, device=remaining.device)
    EXTENSION.call("invert_map", remaining, rows_in, *remaining.shape, inverse, left, device=remaining.device)
    return inverse, left
