"""From a surface to charts with a valid layout each: clusters, their layouts, and the division of what has none."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, replace
from typing import Any

import torch

from ._flat_surface import COLLAPSED, UNIT, Surface, call, connected, edge_keys, inverted, number, remainder, summed

_SWEEPS_PER_LOOK = 16
LAYOUT_TOLERANCE = 2.0**-24
# A chart that loses more than this share of its area to turned, stretched or overlapping faces is divided instead.
_MAX_REJECTED = 0.15
_MAX_ENERGY = 4.5  # mean symmetric Dirichlet energy; 4 is an isometry
_ROUNDS = 7  # of laying out and dividing
_STRICT_ROUNDS = 3  # of those, in which charts may be divided for more than overlaps


def _united(ends: torch.Tensor, shared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    ends, order = torch.sort(ends, stable=True)
    total, first = torch.empty_like(shared), torch.empty(len(ends), dtype=torch.uint8, device=ends.device)
    call("sum_shared", ends, order, shared, len(ends), total, first, device=ends.device)
    keep = first.nonzero().view(-1)
    return ends[keep], total[keep]


@dataclass(frozen=True)
class Clusters:
    """What clustering knows of the faces."""

    normal: torch.Tensor  # float64 [F, 3], smoothed
    length: torch.Tensor  # float64 [3F] of each half-edge
    centre: torch.Tensor  # float64 [F, 3]


def cluster(surface: Surface, max_spread: float) -> tuple[torch.Tensor, int]:
    """Charts of faces that face one way: int32 [F] labels, -1 for collapsed faces, and their count."""
    device, faces = surface.device, len(surface)
    normal, scratch = surface.normal.clone(), torch.empty_like(surface.normal)
    call("smooth_normals", surface.area, surface.twin, faces, 2, normal, scratch, device=device)
    nodes, length = scratch.new_empty(faces, 5), scratch.new_empty(3 * faces)
    call("first_clusters", normal, surface.area, surface.position, surface.point, faces, nodes, length, device=device)

    half = torch.arange(3 * faces, device=device)
    half = half[surface.twin > half]
    one, other = half // 3, surface.twin[half].long() // 3
    ends, shared = _united(edge_keys(one, other, faces), length[half])
    parent = torch.arange(faces, dtype=torch.int32, device=device)
    best = torch.empty(faces, dtype=torch.int64, device=device)
    cost = torch.empty_like(ends)
    while (before := len(ends)) > 0:
        call("join", ends, shared, before, faces, max_spread, nodes, parent, cost, best, device=device)
        ends, shared = _united(ends, shared)
        if len(ends) == before:
            break
    root = torch.empty_like(parent)
    call("roots", parent, faces, root, device=device)
    label = torch.where(surface.kind == COLLAPSED, -1, root)
    label, charts = connected(surface, label)
    centre = surface.position[surface.point.long()].sum(1) / 3
    known = Clusters(normal, length, centre)
    for _ in range(2):
        label, charts = connected(surface, _regrown(surface, known, label, charts))
    sums = chart_sums(surface, normal, label, charts)
    wish = torch.empty_like(label)
    call("straighten", normal, length, surface.twin, sums, max(0.1, max_spread), faces, 12, wish, label, device=device)
    return connected(surface, label)


def chart_sums(surface: Surface, normal: torch.Tensor, label: torch.Tensor, charts: int) -> torch.Tensor:
    """int64 [C, 4], fixed point: area-weighted normal and area of each chart."""
    sums = torch.zeros(charts, 4, dtype=torch.int64, device=surface.device)
    call("chart_sums", normal, surface.area, label, len(surface), sums, device=surface.device)
    return sums


def _relax(
    surface: Surface,
    known: Clusters,
    label: torch.Tensor,
    sums: torch.Tensor | None,
    distance: torch.Tensor,
    owner: torch.Tensor,
) -> None:
    changed = torch.ones(1, dtype=torch.int32, device=surface.device)
    scratch = torch.empty_like(distance), torch.empty_like(owner)
    arguments = (known.centre, known.normal, surface.twin, label, sums, len(surface), _SWEEPS_PER_LOOK)
    while True:
        call("relax", *arguments, distance, owner, *scratch, changed, device=surface.device)
        if not int(changed):
            return


def _farthest(
    surface: Surface, distance: torch.Tensor, label: torch.Tensor, charts: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The face of each chart at the greatest distance, and distances and owners for growing from there."""
    core = torch.full((charts,), torch.iinfo(torch.int64).max, device=surface.device)
    new, owner = torch.full_like(distance, torch.inf), torch.full_like(label, -1)
    call("cores", distance, label, len(surface), charts, core, new, owner, device=surface.device)
    return core & 0xFFFFFFFF, new, owner


def _regrown(surface: Surface, known: Clusters, label: torch.Tensor, charts: int) -> torch.Tensor:
    """Lets the charts grow anew, all at once, from the faces farthest from their borders."""
    distance = torch.empty_like(surface.area)
    call(
        "border_distance", surface.area, known.length, surface.twin, label, len(surface), distance,
        device=surface.device,
    )  # fmt: skip
    _relax(surface, known, label, None, distance, label.clone())
    _, distance, owner = _farthest(surface, distance, label, charts)
    _relax(surface, known, label, chart_sums(surface, known.normal, label, charts), distance, owner)
    return owner


def halves(surface: Surface, label: torch.Tensor, charts: int) -> torch.Tensor:
    """Divides each chart between the two faces that lie farthest apart: labels c and charts + c."""
    centre = surface.position[surface.point.long()].sum(1) / 3
    known = Clusters(surface.normal, surface.area, centre)
    _, distance, owner = _farthest(surface, torch.zeros_like(surface.area), label, charts)
    _relax(surface, known, label, None, distance, owner)
    _, distance, owner = _farthest(surface, distance, label, charts)
    start = distance.clone()
    _relax(surface, known, label, None, distance, owner)
    other, _, _ = _farthest(surface, distance, label, charts)
    start[other] = 0
    owner = torch.where(start == 0, label, -1)
    owner[other] = torch.arange(charts, 2 * charts, dtype=torch.int32, device=surface.device)
    _relax(surface, known, label, None, start, owner)
    return owner


# ---- layout ----------------------------------------------------------------------------------------------------------


Colours = tuple[torch.Tensor, Any, int]


@dataclass(frozen=True)
class Topology:
    """Vertices of charts: corners around a point that glued edges of one chart connect."""

    corner: torch.Tensor  # int32 [F, 3]: vertex of each corner
    point: torch.Tensor  # int32 [V]
    chart: torch.Tensor  # int32 [V]
    ring_first: torch.Tensor  # int32 [V + 1]
    ring: torch.Tensor  # int32 [3F]: corners by vertex

    def __len__(self) -> int:
        return len(self.point)


def topology(surface: Surface, label: torch.Tensor, uv: torch.Tensor | None = None) -> Topology:
    """All faces of `surface` have a label. With float64 `uv` [F, 3, 2] only edges at one place connect."""
    device, corners = surface.device, 3 * len(surface)
    parent = torch.empty(corners, dtype=torch.int32, device=device)
    root = torch.empty_like(parent)
    call("corner_sets", surface.twin, label, uv, len(surface), parent, root, device=device)
    corner, count = number(root, torch.ones_like(root, dtype=torch.bool))
    by_vertex, ring = torch.sort(corner, stable=True)
    ring_first = torch.searchsorted(
        by_vertex, torch.arange(count + 1, dtype=torch.int32, device=device), out_int32=True
    )
    first = ring[ring_first[:-1].long()]
    return Topology(corner.view(-1, 3), surface.point.view(-1)[first], label[first // 3], ring_first, ring.int())


def coloured(shape: Topology) -> Colours:
    """Vertices by colour, and where each colour starts (on the host): no two of a colour share a face."""
    device = shape.point.device
    colour = torch.full((len(shape),), -1, dtype=torch.int32, device=device)
    left = torch.ones(1, dtype=torch.int32, device=device)
    while True:
        call("colour", shape.corner, shape.ring_first, shape.ring, len(shape), 16, colour, left, device=device)
        if not int(left):
            break
    by_colour, order = torch.sort(colour, stable=True)
    bounds = torch.searchsorted(by_colour, torch.arange(64, dtype=torch.int32, device=device)).tolist()
    colours = next((c for c in range(64) if bounds[c] == len(shape)), 63)  # the 64th, crowded vertices, stays
    return order.int(), (ctypes.c_int64 * 64)(*bounds), colours


@dataclass(frozen=True)
class Layout:
    """Where the faces of charts lie, and which of them may not."""

    uv: torch.Tensor  # float64 [F, 3, 2]
    out: torch.Tensor  # bool [F]: turned, stretched or overlapping
    failed: torch.Tensor  # bool [C]: charts that should be divided


_UNFOLD = [0.5] * 4 + [0.2] * 4 + [0.1] * 4 + [0.05] * 4 + [0.02] * 4
_FLATTEN = [0.0] * 24
_FOLD_RINGS = 4


def rest_shapes(surface: Surface) -> torch.Tensor:
    """float64 [F, 4]: the shape of each face on the surface, as src/unwrap_flat_layout.hpp has it."""
    rest = surface.area.new_empty(len(surface), 4)
    call(
        "rest_shapes", surface.position, surface.point, surface.kind, len(surface), rest, device=surface.device
    )  # fmt: skip
    return rest


def move(
    surface: Surface,
    shape: Topology,
    rest: torch.Tensor,
    colours: Colours,
    uv: torch.Tensor,
    softness: list[float],
    pinned: torch.Tensor | None,
) -> None:
    """Moves the vertices of float64 uv [V, 2] downhill, a sweep for each softness; those `pinned` (uint8 [V]) rest."""
    order, first, count = colours
    active = torch.empty(len(surface), dtype=torch.uint8, device=surface.device)
    call(
        "move", first, count, order, shape.corner, shape.ring_first, shape.ring, rest, surface.kind, pinned,
        len(surface), (ctypes.c_double * len(softness))(*softness), len(softness), uv, active, device=surface.device,
    )  # fmt: skip


def judged(
    surface: Surface,
    shape: Topology,
    rest: torch.Tensor,
    label: torch.Tensor,
    charts: int,
    uv: torch.Tensor,
    max_stretch: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """bool [F] of faces that are turned or stretched, and the mean energy float64 [C] of the others."""
    sums = torch.zeros(charts, 3, dtype=torch.int64, device=surface.device)
    out = torch.empty(len(surface), dtype=torch.uint8, device=surface.device)
    call(
        "judge", rest, surface.area, shape.corner, label, surface.kind, uv, len(surface), max_stretch,
        LAYOUT_TOLERANCE, sums, out, device=surface.device,
    )  # fmt: skip
    return out.bool(), sums[:, 2].double() / sums[:, 1].clamp(min=1)


def folds(surface: Surface, corners: torch.Tensor) -> torch.Tensor:
    """bool [F]: faces that are turned over or on edge."""
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return (surface.kind == 0) & ((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2 <= 0.02 * surface.area)


def _near_folds(surface: Surface, shape: Topology, uv: torch.Tensor) -> torch.Tensor:
    """uint8 [V]: vertices within a few rings of a fold."""
    corner = shape.corner.long()
    faces = folds(surface, uv[corner])
    near = torch.zeros(len(shape), dtype=torch.bool, device=uv.device)
    for _ in range(_FOLD_RINGS):
        near = summed(faces.long().repeat_interleave(3), corner.view(-1), len(shape)) > 0
        faces = near[corner].any(1)
    return near.to(torch.uint8)


def lay_out(surface: Surface, label: torch.Tensor, charts: int, max_stretch: float, lenient: bool = False) -> Layout:
    """Flattens each chart from its projection along its mean normal.

    A `lenient` judge fails only charts that still overlap; faces that may not stay leave the others in peace.
    """
    device = surface.device
    shape = topology(surface, label)
    rest = rest_shapes(surface)
    sums = chart_sums(surface, surface.normal, label, charts)
    uv = surface.area.new_empty(len(shape), 2)
    call("project", surface.position, shape.point, shape.chart, sums, len(shape), uv, device=device)
    colours = coloured(shape)
    move(surface, shape, rest, colours, uv, _UNFOLD, 1 - _near_folds(surface, shape, uv))
    move(surface, shape, rest, colours, uv, _FLATTEN, None)
    scale = torch.zeros(charts, 3, dtype=torch.int64, device=device)
    call(
        "rescale", rest, surface.area, shape.corner, label, surface.kind, shape.chart, len(surface), len(shape),
        scale, uv, device=device,
    )  # fmt: skip
    out, energy = judged(surface, shape, rest, label, charts, uv, max_stretch)
    failed = torch.zeros(charts, dtype=torch.bool, device=device)
    if not lenient:
        failed = (energy > _MAX_ENERGY) | _lost_too_much(surface, label, out, sums)
    corners = uv[shape.corner.long()]
    out, failed = _drop_overlaps(surface, label, corners, out, failed, 8 if lenient else 4)
    if not lenient:
        failed |= _lost_too_much(surface, label, out, sums)
    return Layout(corners, out, failed)


def _lost_too_much(surface: Surface, label: torch.Tensor, out: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    lost = summed((surface.area * out * UNIT).long(), label.long(), len(sums))
    return lost > (_MAX_REJECTED * sums[:, 3].double())


def overlapped(corners: torch.Tensor, tolerance: float) -> torch.Tensor:
    """int32 [F]: another of the triangles float64 [F, 3, 2] that each reaches into by more than `tolerance`, or -1."""
    device, count = corners.device, len(corners)
    other = torch.full((count,), -1, dtype=torch.int32, device=device)
    if count == 0:
        return other
    low, high = corners.view(-1, 2).aminmax(dim=0)
    low_x, low_y, side = (*low.tolist(), float((high - low).max()))
    keys = torch.empty(count, dtype=torch.int64, device=device)
    scale = 4294967295.0 / max(side, 1e-300)
    call("tree_keys", corners, count, low_x, low_y, scale, keys, device=device)
    order = torch.sort(keys, stable=True).indices.int()
    leaves = 1 << max(0, (-(-count // 4) - 1).bit_length())
    boxes = corners.new_empty(2 * leaves, 4)
    call("tree_build", corners, order, count, tolerance, boxes, device=device)
    call("tree_find", corners, order, count, tolerance, boxes, other, device=device)
    return other


def spread_out(corners: torch.Tensor, cell: torch.Tensor, cells: int) -> torch.Tensor:
    """The triangles float64 [F, 3, 2] with those of each cell (int64 [F]) moved apart from those of the others."""
    index = cell[:, None].expand(-1, 2)
    low = corners.new_full((cells, 2), torch.inf).scatter_reduce(0, index, corners.amin(1), "amin")
    high = corners.new_full((cells, 2), -torch.inf).scatter_reduce(0, index, corners.amax(1), "amax")
    size = 1.01 * (high - low).clamp(min=0).max() + 1e-9
    columns = int(cells**0.5) + 1
    at = torch.stack([remainder(cell, columns), torch.div(cell, columns, rounding_mode="floor")], 1).double() * size
    return corners + (at - low[cell])[:, None]


def _drop_overlaps(
    surface: Surface, label: torch.Tensor, corners: torch.Tensor, out: torch.Tensor, failed: torch.Tensor, attempts: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rejects faces until nothing overlaps within a chart; charts where that takes long fail.

    Of faces over each other the one that lies lower along the chart's mean normal goes, so that a sheet goes as a whole.
    """
    axes = chart_sums(surface, surface.normal, label, len(failed))[:, :3].double()
    height = (surface.position[surface.point.long()].sum(1) / 3 * axes[label.long()]).sum(1)
    index = torch.arange(len(surface), device=surface.device)
    apart = spread_out(corners, label.long(), len(failed))
    left_out = out | failed[label.long()]
    for attempt in range(attempts):
        shown = torch.where(left_out[:, None, None], apart[:, :1], apart)  # without extent
        other = overlapped(shown, LAYOUT_TOLERANCE)
        if not bool((other >= 0).any()):
            break
        if attempt == attempts - 1:
            failed = failed.index_fill(0, label[other >= 0].long(), True)
            break
        under = other.clamp(min=0).long()
        lower = (height < height[under]) | ((height == height[under]) & (index > under))
        drop = (other >= 0) & lower
        out, left_out = out | drop, left_out | drop
    return out, failed


# ---- charts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Charts:
    label: torch.Tensor  # int32 [F], -1 for collapsed faces
    count: int
    uv: torch.Tensor  # float64 [F, 3, 2]: area of each chart as on the surface


def make_charts(surface: Surface, max_spread: float, max_stretch: float) -> Charts:
    """Clusters, lays out, and divides what has no valid layout until all have one."""
    label, _ = cluster(surface, max_spread)
    uv = surface.position.new_zeros(len(surface), 3, 2)
    done = torch.full_like(label, -1)
    offset, todo = 0, label
    for attempt in range(_ROUNDS):
        faces = (todo >= 0).nonzero().view(-1)
        if not len(faces):
            break
        part, last = surface.part(faces), attempt == _ROUNDS - 1
        if last:  # a face by itself always has a layout
            part = replace(part, twin=torch.full_like(part.twin, -1))
        own, charts = connected(part, todo[faces])
        layout = lay_out(part, own, charts, max_stretch, attempt >= _STRICT_ROUNDS)
        failed = layout.failed[own.long()]
        good = torch.ones_like(failed) if last else inverted(failed | layout.out)
        uv[faces] = layout.uv
        done[faces] = torch.where(good, own + offset, -1)
        offset += charts
        todo = torch.full_like(label, -1)
        todo[faces] = torch.where(good, -1, own)
        if not last and bool(failed.any()):
            bad = failed.nonzero().view(-1)
            worse = part.part(bad)
            names, count = connected(worse, own[bad])
            todo[faces[bad]] = charts + halves(worse, names, count)
    label, count = connected(surface, done)
    return Charts(label, count, uv)


def rescaled(surface: Surface, charts: Charts) -> torch.Tensor:
    """The layout with each chart at the area that it has on the surface."""
    faces = charts.label >= 0
    corners = charts.uv
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    texture = ((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2).clamp(min=0)
    regular = faces & (surface.kind == 0)
    values = torch.stack([texture, surface.area], 1) * regular[:, None] * UNIT
    sums = summed(values.long(), torch.where(faces, charts.label, charts.count).long(), charts.count + 1)
    scale = (sums[:, 1].double() / sums[:, 0].clamp(min=1)).sqrt()
    scale = torch.where((sums > 0).all(1), scale, 1.0)
    return corners * scale[charts.label.long()][:, None, None]
