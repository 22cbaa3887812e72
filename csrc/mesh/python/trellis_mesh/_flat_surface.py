"""Faces over welded points as flat arrays, and what hangs together on them; the native steps are those of src/unwrap_flat*.hpp.

Sorting, numbering and gathering are torch's; everything else is a native step. Whatever adds up over many faces does so
in integers, so results do not depend on the order of threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from ._library import EXTENSION

COLLAPSED = 2
UNIT = float(1 << 44)
"""What 1 is in sums of integers."""


# torch loads the kernels of an operation at its first call in a process, which takes 10 to 40 ms for some; so what follows
# is done with operations that are in use anyway.


def summed(values: torch.Tensor, index: torch.Tensor, count: int) -> torch.Tensor:
    """int64 [count] or [count, C]: sums of int64 `values`, [N] or [N, C], with the same int64 `index`, [N]."""
    index = index if values.ndim == 1 else index[:, None].expand_as(values)
    return values.new_zeros(count, *values.shape[1:]).scatter_add_(0, index, values)


def lengths(vectors: torch.Tensor) -> torch.Tensor:
    """Of the vectors along the last dimension."""
    return (vectors * vectors).sum(-1).sqrt()


def inverted(flags: torch.Tensor) -> torch.Tensor:
    return flags == 0


def remainder(values: torch.Tensor, divisor: int) -> torch.Tensor:
    """Of integers that are not negative."""
    return values - torch.div(values, divisor, rounding_mode="floor") * divisor


def next_half(half: torch.Tensor) -> torch.Tensor:
    """The half-edge after each, around its face."""
    return torch.where(remainder(half, 3) == 2, half - 2, half + 1)


def edge_keys(start: torch.Tensor, end: torch.Tensor, count: int) -> torch.Tensor:
    """int64: one number for an edge, whichever way it goes; of ends in [0, count)."""
    up = start < end
    return torch.where(up, start, end) * count + torch.where(up, end, start)


def call(verb: str, *arguments: Any, device: torch.device) -> None:
    EXTENSION.call(f"flat_{verb}", *arguments, device=device)


@dataclass(frozen=True)
class Surface:
    """Faces over welded points; total area 1 where there is one. Half-edge h = 3 face + k."""

    position: torch.Tensor
    """float64 [P, 3]"""
    point: torch.Tensor
    """int32 [F, 3]"""
    normal: torch.Tensor
    """float64 [F, 3]"""
    area: torch.Tensor
    """float64 [F]"""
    kind: torch.Tensor
    """uint8 [F]: regular, thin or collapsed"""
    twin: torch.Tensor
    """int32 [3F]: the half-edge glued to this one, or -1"""

    def __len__(self) -> int:
        return len(self.point)

    @property
    def device(self) -> torch.device:
        return self.position.device

    def part(self, faces: torch.Tensor) -> Surface:
        """The surface of some of the faces (int64, ascending)."""
        place = torch.full((len(self),), -1, dtype=torch.int64, device=self.device)
        place[faces] = torch.arange(len(faces), device=self.device)
        twin = self.twin.view(-1, 3)[faces].long()
        there = place[twin.clamp(min=0) // 3]
        twin = torch.where((twin >= 0) & (there >= 0), 3 * there + remainder(twin, 3), -1).int().view(-1)
        return Surface(self.position, self.point[faces], self.normal[faces], self.area[faces], self.kind[faces], twin)


def make_surface(vertices: torch.Tensor, faces: torch.Tensor) -> Surface:
    """Welds vertices at one position, measures faces and glues their edges."""
    device, count = vertices.device, len(vertices)
    used = torch.zeros(count, dtype=torch.bool, device=device)
    used[faces.view(-1).long()] = True
    if bool((bad := used & inverted(vertices.isfinite().all(1))).any()):
        vertex = int(bad.nonzero()[0])
        value = next(x for x in vertices[vertex].tolist() if not abs(x) < float("inf"))
        raise ValueError(f"vertices: expected finite coordinates, got {value} in vertex {vertex}")
    bits = (vertices + 0.0).view(torch.int32)  # -0 and 0 are one coordinate
    order = torch.sort(bits[:, 2], stable=True).indices
    keys = bits[:, 0].long() * (1 << 32) + (bits[:, 1].long() & 0xFFFFFFFF)
    order = order[torch.sort(keys[order], stable=True).indices]
    ordered = bits[order]
    differs = torch.ones(count, dtype=torch.int32, device=device)
    differs[1:] = (ordered[1:] != ordered[:-1]).any(1)
    point_of = torch.empty(count, dtype=torch.int32, device=device)
    point_of[order] = differs.cumsum(0, dtype=torch.int32) - 1
    point = point_of[faces.long()]

    wide = vertices.double()
    low = torch.where(used[:, None], wide, torch.inf).amin(0)
    high = torch.where(used[:, None], wide, -torch.inf).amax(0)
    extent = (high - low).max()
    position = torch.zeros(count, 3, dtype=torch.float64, device=device)
    position[point_of.long()] = (wide - (low + high) / 2) / torch.where(extent > 0, extent, 1.0)

    normal, area = position.new_empty(len(faces), 3), position.new_empty(len(faces))
    kind = faces.new_empty(len(faces), dtype=torch.uint8)
    call("measure_faces", position, point, len(faces), normal, area, kind, device=device)
    total = area.sum()
    position *= torch.where(total > 1e-13, total.rsqrt(), 1.0)  # below, the area is what rounding makes of a line
    call("measure_faces", position, point, len(faces), normal, area, kind, device=device)

    start, end = point.long().view(-1), point.roll(-1, 1).long().view(-1)
    keys = edge_keys(start, end, count)
    keys = torch.where((kind == COLLAPSED).repeat_interleave(3), torch.iinfo(torch.int64).max, keys)
    keys, half = torch.sort(keys, stable=True)
    twin = torch.full((3 * len(faces),), -1, dtype=torch.int32, device=device)
    call("glue", keys, half.int(), len(keys), point, normal, twin, device=device)
    return Surface(position, point, normal, area, kind, twin)


def number(root: torch.Tensor, valid: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Labels 0, 1, ... by first member, -1 where not `valid`; and their count."""
    first = (root == torch.arange(len(root), device=root.device)) & valid
    index = first.cumsum(0, dtype=torch.int32)
    label = torch.where(valid, index[root.long()] - 1, -1)
    return label, int(index[-1]) if len(root) else 0


def connected(surface: Surface, label: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Numbers the connected parts of faces of one label."""
    parent, root = torch.empty_like(label), torch.empty_like(label)
    call("components", surface.twin, label, len(surface), parent, root, device=surface.device)
    return number(root, label >= 0)


def connected_by_edges(faces: torch.Tensor, vertices: int) -> tuple[torch.Tensor, int]:
    """Numbers the parts of a mesh whose faces share edges, by vertex numbers, in the order of their first faces."""
    start, end = faces.long().view(-1), faces.roll(-1, 1).long().view(-1)
    keys, half = torch.sort(edge_keys(start, end, vertices), stable=True)
    same = (keys[1:] == keys[:-1]).nonzero().view(-1)
    twin = torch.full_like(start, -1, dtype=torch.int32)
    twin[half[same]] = half[same + 1].int()
    return connected_by_twins(twin)


def connected_by_twins(twin: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Numbers the parts that hang together where half-edges have a twin, int32 [3F] with -1 for none."""
    label = torch.zeros(len(twin) // 3, dtype=torch.int32, device=twin.device)
    parent, root = torch.empty_like(label), torch.empty_like(label)
    call("components", twin, label, len(label), parent, root, device=twin.device)
    return number(root, label >= 0)


# ---- clustering ------------------------------------------------------------------------------------------------------
