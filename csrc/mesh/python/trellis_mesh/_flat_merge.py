"""Small charts are laid against the border of a larger neighbour where they fit; that one's layout stays as it is.

The flat form of src/unwrap_merge.cpp: all guests of a round at once.
"""

from __future__ import annotations

import torch

from ._flat_charts import (
    LAYOUT_TOLERANCE,
    Charts,
    chart_sums,
    coloured,
    folds,
    judged,
    move,
    overlapped,
    rest_shapes,
    spread_out,
    topology,
)
from ._flat_surface import Surface, inverted, lengths, next_half, number, remainder, summed

_ROUNDS = 3
_GUEST_SHARE = 0.15  # of the host's area, at most
_LENGTH_UNIT = float(1 << 30)
_SOFTEN = [0.2] * 2 + [0.05] * 2 + [0.02] * 2
_FLATTEN = [0.0] * 10


def merge(surface: Surface, charts: Charts, max_stretch: float) -> Charts:
    """Joins small charts to neighbours. Charts are at the area that they have on the surface, before and after."""
    label, uv, count = charts.label, charts.uv, charts.count
    if count < 2:
        return charts
    refused = torch.empty(0, dtype=torch.int64, device=surface.device)
    for _ in range(_ROUNDS):
        host = _hosts(surface, label, count, refused)
        guest = host >= 0
        if not bool(guest.any()):
            break
        uv, taken = _try(surface, label, uv, host, max_stretch)
        index = torch.arange(count, device=surface.device)
        refused = torch.cat([refused, (index * count + host)[guest & inverted(taken)]])
        label = torch.where(label >= 0, torch.where(taken, host, index)[label.long()], -1).int()
    # Numbers by first face, without those that are gone.
    first = torch.full((count,), len(label), dtype=torch.int64, device=surface.device)
    faces = (label >= 0).nonzero().view(-1)
    first = first.scatter_reduce(0, label[faces].long(), faces, "amin")
    root = torch.where(label >= 0, first[label.long()], -1)
    root = torch.where(label >= 0, root, torch.arange(len(label), device=surface.device))
    label, count = number(root, label >= 0)
    return Charts(label, count, uv)


def _hosts(surface: Surface, label: torch.Tensor, count: int, refused: torch.Tensor) -> torch.Tensor:
    """int64 [C]: the neighbour that each small chart shares most border with and has not been refused by, or -1.

    No chart is host and guest at once.
    """
    device = surface.device
    area = chart_sums(surface, surface.normal, label, count)[:, 3]
    h = (surface.twin >= 0).nonzero().view(-1)
    t = surface.twin[h].long()
    own, other = label[h // 3].long(), label[t // 3].long()
    small = (own != other) & (area[own].double() <= _GUEST_SHARE * area[other].double())
    h, own, other = h[small], own[small], other[small]
    keys, pair = torch.unique(own * count + other, return_inverse=True)
    corner, end = surface.point.view(-1)[h].long(), surface.point.roll(-1, 1).view(-1)[h].long()
    length = lengths(surface.position[end] - surface.position[corner])
    shared = summed((length * _LENGTH_UNIT).long(), pair, len(keys))
    known = torch.cat([torch.sort(refused).values, refused.new_full((1,), count * count)])
    keep = known[torch.searchsorted(known, keys)] != keys
    keys, shared = keys[keep], shared[keep]
    guest, wanted = keys // count, remainder(keys, count)
    # The longest border first, of equals the smaller number.
    most = torch.full((count,), -1, device=device).scatter_reduce(0, guest, shared, "amax")
    best = shared == most[guest]
    host = torch.full((count,), count, device=device).scatter_reduce(0, guest[best], wanted[best], "amin")
    host = torch.where(host < count, host, -1)
    # Hosts are larger than their guests, so this ends: a chart is a guest if its host is none.
    state = torch.where(host < 0, 1, 0)  # 0 open, 1 stays, 2 goes
    for _ in range(6):
        above = state[host.clamp(min=0)]
        state = torch.where((state == 0) & (above == 1), 2, torch.where((state == 0) & (above == 2), 1, state))
    return torch.where(state == 2, host, -1)


def _try(
    surface: Surface, label: torch.Tensor, uv: torch.Tensor, host: torch.Tensor, max_stretch: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lays the guests out along their hosts' borders: the new layout, and bool [C] of those that fit."""
    device, count = surface.device, len(host)
    guest = host >= 0
    faces = ((label >= 0) & guest[label.long()]).nonzero().view(-1)
    part, own = surface.part(faces), label[faces]
    shape = topology(part, own, uv[faces])
    place, pinned, fits = _pinned(surface, label, uv, host, faces, shape.corner, len(shape))
    taken = guest.clone()
    bad = torch.zeros_like(guest)
    bad[shape.chart[inverted(fits)].long()] = True
    taken &= inverted(bad)
    start = uv[faces].view(-1, 2)[shape.ring[shape.ring_first[:-1].long()].long()]
    place = torch.where(pinned[:, None], place, _moved(start, place, pinned, shape.chart.long(), count))
    rest = rest_shapes(part)
    colours = coloured(shape)
    fixed = pinned.to(torch.uint8)
    folded = torch.zeros(count, dtype=torch.uint8, device=device)
    folded[own[folds(part, place[shape.corner.long()])].long()] = 1
    move(part, shape, rest, colours, place, _SOFTEN, 1 - (1 - fixed) * folded[shape.chart.long()])
    move(part, shape, rest, colours, place, _FLATTEN, fixed)
    out = judged(part, shape, rest, own, count, place, max_stretch)[0]
    bad = torch.zeros_like(guest)
    bad[own[out].long()] = True
    taken &= inverted(bad)

    tried = uv.clone()
    tried[faces] = place[shape.corner.long()]
    for attempt in range(3):
        at = torch.where(taken, host, torch.arange(count, device=device))
        busy = torch.zeros(count, dtype=torch.bool, device=device).index_fill(0, host[taken], True)
        some = ((label >= 0) & busy[at[label.long()]]).nonzero().view(-1)
        if not len(some):
            break
        cell = at[label[some].long()]
        names, cell = torch.unique(cell, return_inverse=True)
        other = overlapped(spread_out(tried[some].contiguous(), cell, len(names)), LAYOUT_TOLERANCE)
        hit = other >= 0
        if not bool(hit.any()):
            break
        mine, theirs = label[some][hit].long(), label[some[other[hit].long()]].long()
        # Of two guests in one place the later goes, until it is clear that this does not end.
        go = torch.where(taken[mine] & (inverted(taken[theirs]) | (mine >= theirs) | (attempt == 2)), mine, theirs)
        taken = taken.index_fill(0, go[taken[go]], False)
        if attempt == 2:
            taken = taken.index_fill(0, torch.cat([mine, theirs]), False)
    moved = faces[taken[own.long()]]
    uv = uv.clone()
    uv[moved] = tried[moved]
    return uv, taken


def _pinned(
    surface: Surface,
    label: torch.Tensor,
    uv: torch.Tensor,
    host: torch.Tensor,
    faces: torch.Tensor,
    corner: torch.Tensor,
    vertices: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where vertices on the common border lie in the host, which those are, and False for those in two places."""
    half = (3 * faces[:, None] + torch.arange(3, device=faces.device)).view(-1)
    twin = surface.twin[half].long()
    common = (twin >= 0) & (label[twin.clamp(min=0) // 3] == host[label[half // 3].long()])
    twin, flat = twin[common], uv.view(-1, 2)
    after = next_half(twin)
    vertex = torch.cat([corner.view(-1)[common], corner.roll(-1, 1).view(-1)[common]]).long()
    at = torch.cat([flat[after], flat[twin]])
    index = vertex[:, None].expand(-1, 2)
    low = flat.new_full((vertices, 2), torch.inf).scatter_reduce(0, index, at, "amin")
    high = flat.new_full((vertices, 2), -torch.inf).scatter_reduce(0, index, at, "amax")
    pinned = high[:, 0] > -torch.inf
    return low, pinned, inverted(pinned) | (low == high).all(1)


def _moved(
    start: torch.Tensor, place: torch.Tensor, pinned: torch.Tensor, chart: torch.Tensor, count: int
) -> torch.Tensor:
    """`start` after the rigid motion of each chart that brings its pinned vertices closest to their places."""

    def sums(values: torch.Tensor) -> torch.Tensor:
        return summed((values.clamp(-1e4, 1e4) * _LENGTH_UNIT).long(), chart, count).double() / _LENGTH_UNIT

    weight = pinned.double()[:, None]
    at = torch.where(pinned[:, None], place, 0.0)
    total = sums(torch.cat([weight, start * weight, at], 1))
    number_of = total[:, :1].clamp(min=1)
    old, new = (total[:, 1:3] / number_of)[chart], (total[:, 3:5] / number_of)[chart]
    a, b = (start - old) * weight, (at - new) * weight
    turn = sums(torch.stack([(a * b).sum(1), a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]], 1) * 1024.0)
    turn = turn / lengths(turn)[:, None].clamp(min=1e-12)
    c, s = turn[chart].unbind(1)
    x, y = (start - old).unbind(1)
    return new + torch.stack([c * x - s * y, s * x + c * y], 1)


__all__ = ["merge"]
