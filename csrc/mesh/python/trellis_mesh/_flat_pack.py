"""Places charts in the unit square: src/unwrap_flat_pack.hpp, on CPU and CUDA tensors."""

from __future__ import annotations

from typing import Any

import torch

from ._flat_surface import UNIT, lengths, summed
from ._library import EXTENSION

_ANGLES = 32
_LEAST_GRID = 512.0  # cells along a side, for however few charts
_FAST_GRID = 1312.0  # the largest whose bitmap fits the shared memory of an H100
_FEW = 64  # charts that are quickly packed: in many orders, to the last thousandth
_ORDERS = 32  # of few charts on a device
_MANY = 20_000  # charts that need a finer grid whatever it costs
_MAX_SPANS = 1 << 26  # of all scales tried at once


def _call(verb: str, *arguments: Any, device: torch.device) -> None:
    EXTENSION.call(f"flat_{verb}", *arguments, device=device)


def _no_room(charts: int, resolution: int, padding: float) -> ValueError:
    return ValueError(
        f"padding: {charts} charts with {padding:g} texels between them do not fit a texture of "
        f"{resolution} x {resolution}; raise the resolution or lower the padding"
    )


def aligned(
    uv: torch.Tensor, chart: torch.Tensor, first: torch.Tensor, charts: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turns each chart so that the least box around it lies along the axes, its lowest corner at the origin."""
    boxes = uv.new_empty(charts, _ANGLES, 4)
    _call("boxes", uv, first, charts, _ANGLES, boxes, device=uv.device)
    angle = (boxes[..., 2] * boxes[..., 3]).argmin(1)
    box = boxes[torch.arange(charts, device=uv.device), angle]
    turn = angle.double() * (torch.pi / 2 / _ANGLES)
    cosine, sine = turn.cos()[chart][:, None], turn.sin()[chart][:, None]
    x, y = uv.unbind(-1)
    turned = torch.stack([cosine * x + sine * y, cosine * y - sine * x], -1)
    return (turned - box[chart, None, :2]).clamp(min=0), box[:, 2:]


def _orders(extent: torch.Tensor, area: torch.Tensor, count: int) -> torch.Tensor:
    """int32 [orders, C]: by falling size, by area, and by sizes shaken more and more, always the same way."""
    index = torch.arange(len(area), device=area.device)
    keys = [extent.sum(1), area]
    for variant in range(count - len(keys)):
        shake = (index + 1) * (2 * variant + 3) * 2654435761 >> 9
        amount = min(0.2 + 0.02 * variant, 0.8)
        keys.append(extent.sum(1) * (1 + amount * ((shake & 1023).double() / 512 - 1)))
    return torch.stack([torch.sort(k, descending=True, stable=True).indices.int() for k in keys[:count]])


def _chart_sums(values: torch.Tensor, chart: torch.Tensor, charts: int) -> torch.Tensor:
    return summed((values * UNIT).long(), chart, charts).double() / UNIT


def pack(
    uv: torch.Tensor,
    label: torch.Tensor,
    first: torch.Tensor,
    area: torch.Tensor,
    seam: torch.Tensor,
    resolution: int,
    padding: float,
) -> torch.Tensor:
    """float64 [F, 3, 2] in [0, 1]^2 of faces in the order of charts: all at one scale, turned and moved.

    Args:
        uv: float64 [F, 3, 2], layout of each face in its chart.
        label: int32 [F], ascending.
        first: int64 [C + 1], first face of each chart.
        area: float64 [F], of each face in the layout.
        seam: bool [F, 3], edges on the border of a chart.
        resolution: texels along a side.
        padding: texels between charts, half of it along the edges of the texture.
    """
    device, charts, chart = uv.device, len(first) - 1, label.long()
    uv, extent = aligned(uv.contiguous(), chart, first, charts)
    wanted = _chart_sums(area, chart, charts)
    length = lengths(uv.roll(-1, 1) - uv)
    length = torch.where(seam, length, 0.0)
    few, many = charts < _FEW, charts > _MANY
    grid = 32 * round(min(max(28 * charts**0.5, _LEAST_GRID), 4096.0 if many else _FAST_GRID) / 32)
    margin = 0.5 * padding * grid / resolution
    alone = charts * (2 * margin) ** 2
    if not (alone < grid * grid and 2 * margin < grid):
        raise _no_room(charts, resolution, padding)
    total, half, longest = torch.stack(
        [wanted.sum(), 0.5 * margin * _chart_sums(length.sum(1), chart, charts).sum(), extent.max()]
    ).tolist()
    # No scale beyond this fits: the cells of the charts with their margins would be more than there are.
    most = (-half + (half * half + total * (grid * grid - alone)) ** 0.5) / total if total > 0 else float("inf")
    whole = (grid - 2 * margin) / longest if longest > 0 else float(grid)
    if charts == 1:
        most = whole
    top = (1 - 1e-9) * min(most, whole)
    ratio = 0.985 if few else 0.992
    count = (_ORDERS if few else 1 if many else 4) if device.type == "cuda" else 4 if few else 1
    orders = _orders(extent, wanted, count)
    border = seam.any(1).nonzero().view(-1)  # the faces within a chart do not widen it
    drawn = (uv[border].contiguous(), label[border].contiguous(), len(border), charts)
    at_once = 32 if device.type == "cuda" and not many else 4
    fails = min(most, whole)
    best: tuple[float, torch.Tensor, torch.Tensor] | None = None  # scale, sizes, places
    while best is None:
        tried = [top * ratio**i for i in range(at_once)]
        fails, best = _attempt(drawn, extent, tried, fails, margin, grid, orders)
        if best is None and top * longest < 1e-3:
            raise _no_room(charts, resolution, padding)
        top, ratio = tried[-1] * ratio, max(0.5, ratio * ratio)
    for _ in range(2):  # where steps are long, or had grown so
        if fails < (1.005 if few else 1.02) * best[0]:
            break
        tried = [fails * (best[0] / fails) ** ((i + 1) / (at_once + 1)) for i in range(at_once)]
        fails, better = _attempt(drawn, extent, tried, fails, margin, grid, orders)
        best = better or best
    scale, size, place = best
    width, height = size.double().unbind(1)
    x, y, quarters = place.unbind(1)
    w, h, left, low, turn = (t[chart][:, None].double() for t in (width, height, x, y, quarters))
    px, py = (uv * scale + margin).unbind(-1)
    rx = torch.where(turn == 0, px, torch.where(turn == 1, h - py, torch.where(turn == 2, w - px, py)))
    ry = torch.where(turn == 0, py, torch.where(turn == 1, px, torch.where(turn == 2, h - py, w - px)))
    placed: torch.Tensor = torch.stack([rx + left, ry + low], -1) / grid
    return placed


def _attempt(
    drawn: tuple[torch.Tensor, torch.Tensor, int, int],
    extent: torch.Tensor,
    tried: list[float],
    fails: float,
    margin: float,
    grid: int,
    orders: torch.Tensor,
) -> tuple[float, tuple[float, torch.Tensor, torch.Tensor] | None]:
    """Packs at each scale, which fall, in each order.

    Returns the least scale above the best that fails, at most `fails`, and of the best the scale, the size of each
    chart in cells int32 [C, 2] and its place int32 [C, 3]: x, y, counterclockwise quarter turns.
    """
    device, charts = extent.device, drawn[3]
    scales = torch.tensor(tried, dtype=torch.float64, device=device)
    size = (extent * scales[:, None, None] + 2 * margin).ceil().clamp(min=1)
    fits = (size <= grid).all(2).all(1)
    size = size.clamp(max=grid).int().contiguous()
    ends = size.sum(2, dtype=torch.int64).view(-1).cumsum(0)
    offset = ends - size.sum(2).view(-1)
    spans = int(ends[-1])
    if spans > _MAX_SPANS and len(tried) > 1:
        half = len(tried) // 2
        fails, best = _attempt(drawn, extent, tried[:half], fails, margin, grid, orders)
        return (fails, best) if best else _attempt(drawn, extent, tried[half:], fails, margin, grid, orders)
    low = torch.full((spans,), grid, dtype=torch.int32, device=device)
    high = torch.zeros(spans, dtype=torch.int32, device=device)
    _call("draw", *drawn, scales, len(tried), margin, size, offset, low, high, device=device)
    attempts = len(tried) * len(orders)
    taken = torch.empty(attempts, grid, grid // 32, dtype=torch.int32, device=device)
    place = torch.zeros(attempts, charts, 3, dtype=torch.int32, device=device)
    found = torch.zeros(attempts, dtype=torch.int32, device=device)
    arguments = (orders, fits.to(torch.uint8), charts, len(tried), len(orders), grid, taken, place, found)
    _call("place", size, offset, low, high, *arguments, device=device)
    hits = found.nonzero()
    if not len(hits):
        return tried[-1], None
    first = int(hits[0])  # the largest scale, then the first order
    scale = first // len(orders)
    return tried[scale - 1] if scale else fails, (tried[scale], size[scale], place[first])
