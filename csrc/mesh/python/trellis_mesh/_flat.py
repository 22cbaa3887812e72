"""Unwrapping on flat arrays: the same steps on CPU and CUDA tensors, composed here."""

from __future__ import annotations

from dataclasses import replace

import torch

from ._flat_charts import Charts, make_charts, rescaled
from ._flat_halve import halve_large
from ._flat_merge import merge
from ._flat_pack import pack
from ._flat_surface import Surface, call, inverted, make_surface, next_half, remainder

_FEW_CHARTS = 64  # more find their places whatever their shapes
_WELL_FILLED = 0.75  # of the texture
_BETTER = 1.04  # times as much filled, to be worth its seams
_LARGE = ((1 / 3, 0.75), (1 / 5, 0.6), (1 / 8, 0.5))  # area and side of charts that are halved, one after the other

Unwrapped = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def unwrap(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    resolution: int,
    padding: float,
    max_stretch: float,
    max_spread: float = 0.1,
) -> Unwrapped:
    """New faces int32 [F, 3], vertex map int32 [N], uv float32 [N, 2] and the chart of each face int32 [F]."""
    if len(faces) == 0:
        return faces.clone(), faces.new_empty(0), vertices.new_empty(0, 2), faces.new_empty(0)
    surface = make_surface(vertices, faces)
    charts = make_charts(surface, max_spread, max_stretch)
    charts = merge(surface, replace(charts, uv=rescaled(surface, charts)), max_stretch)
    packed = _well_packed(surface, charts, resolution, padding)
    return _new_vertices(vertices, faces, surface, packed)


def _well_packed(surface: Surface, charts: Charts, resolution: int, padding: float) -> Charts:
    """Packed charts; where few of them leave much of the texture empty, large ones are halved, if that fills more."""
    packed = replace(charts, uv=_packed(surface, charts, resolution, padding))
    filled = _filled(packed)
    for area, side in _LARGE:
        if not 0 < charts.count <= _FEW_CHARTS or filled >= _WELL_FILLED:
            break
        halved = halve_large(surface, charts, area, side)
        if halved.count == charts.count:
            continue
        charts = halved
        try:
            other = replace(charts, uv=_packed(surface, charts, resolution, padding))
        except ValueError:  # no room for the margins of so many
            break
        if (more := _filled(other)) > _BETTER * filled:
            packed, filled = other, more
    return packed


def _filled(packed: Charts) -> float:
    """Share of the texture that the charts cover."""
    a, b = packed.uv[:, 1] - packed.uv[:, 0], packed.uv[:, 2] - packed.uv[:, 0]
    areas = torch.where(packed.label >= 0, a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], 0.0)
    return float((areas * (1 << 44)).long().sum()) / (1 << 45)


def _glued(surface: Surface, charts: Charts) -> torch.Tensor:
    """bool [3F]: half-edges that hang together with their twin in the layout (a merged chart may have cuts)."""
    twin, at = surface.twin.long(), charts.uv.view(-1, 2)
    there = twin.clamp(min=0)
    after = next_half(there)
    end = charts.uv.roll(-1, 1).view(-1, 2)
    same = (at == at[after]).all(1) & (end == at[there]).all(1)
    return (twin >= 0) & (charts.label[there // 3] == charts.label.repeat_interleave(3)) & same


def _packed(surface: Surface, charts: Charts, resolution: int, padding: float) -> torch.Tensor:
    """The layout in [0, 1]^2 on the grid of 2^-24, which float32 holds exactly."""
    if charts.count == 0:
        return torch.full_like(charts.uv, 0.5)
    label = charts.label
    by_chart, order = torch.sort(torch.where(label >= 0, label, charts.count), stable=True)
    chart_index = torch.arange(charts.count + 1, dtype=torch.int32, device=surface.device)
    first = torch.searchsorted(by_chart, chart_index)
    order = order[: int(first[-1])]
    seam = inverted(_glued(surface, charts)).view(-1, 3)[order]
    uv = torch.full_like(charts.uv, 0.5)
    uv[order] = pack(charts.uv[order], label[order], first, surface.area[order], seam, resolution, padding)
    return ((uv * (1 << 24)).round() / (1 << 24)).clamp(0, 1)


def _new_vertices(vertices: torch.Tensor, faces: torch.Tensor, surface: Surface, charts: Charts) -> Unwrapped:
    """Corners that have one vertex and one place in a chart share a new vertex."""
    device, corners, count = surface.device, 3 * len(faces), len(vertices)
    parent = torch.empty(corners, dtype=torch.int32, device=device)
    root = torch.empty_like(parent)
    call("corner_sets", surface.twin, charts.label, charts.uv, len(faces), parent, root, device=device)
    place, uv, chart = root.long(), charts.uv.view(-1, 2), charts.label
    collapsed = chart < 0
    if bool(collapsed.any()):
        # They have no texels: all their corners lie at one of a neighbouring chart, or anywhere.
        point = surface.point.view(-1).long()
        live = inverted(collapsed).repeat_interleave(3)
        index = torch.arange(corners, device=device)
        home = torch.full((count,), corners, device=device).scatter_reduce(0, point[live], index[live], "amin")
        at = home[surface.point[collapsed].long()]
        at = torch.where(at[:, 0] < corners, at[:, 0], torch.where(at[:, 1] < corners, at[:, 1], at[:, 2]))
        anywhere = index[live][:1] if charts.count else index[collapsed.repeat_interleave(3)][:1]
        at = torch.where(at < corners, at, anywhere)
        place.view(-1, 3)[collapsed] = root.long()[at][:, None]
        uv = uv.clone()
        uv.view(-1, 3, 2)[collapsed] = charts.uv.view(-1, 2)[at][:, None]
        chart = chart.clone()
        chart[collapsed] = charts.label[at // 3]
    keys, new = torch.unique(place * count + faces.view(-1).long(), return_inverse=True)
    new_uv = torch.empty(len(keys), 2, dtype=torch.float32, device=device)
    new_uv[new] = uv.float()
    return new.int().view(-1, 3), remainder(keys, count).int(), new_uv, chart
