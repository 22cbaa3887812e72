"""Divides charts so large that no packing of them fills the texture.

Two charts of half the surface each, as a sheet has, leave half of a square texture empty; one of them in two halves fills
eight ninths of it.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ._flat_charts import Charts
from ._flat_pack import aligned
from ._flat_surface import Surface, connected

_FILLED = 0.75
"""What good packings fill: a chart is large beside the square that all would have then."""


def halve_large(surface: Surface, charts: Charts, large_area: float, large_side: float) -> Charts:
    """Cuts each large chart across its longer side, along edges of faces; layouts stay as they are.

    Large is a chart whose box has more than `large_area` of that square, or a side longer than `large_side` of its.
    """
    by_chart, order = torch.sort(torch.where(charts.label >= 0, charts.label, charts.count), stable=True)
    index = torch.arange(charts.count + 1, dtype=torch.int32, device=surface.device)
    first = torch.searchsorted(by_chart, index)
    order = order[: int(first[-1])]
    chart = charts.label[order].long()
    uv, extent = aligned(charts.uv[order].contiguous(), chart, first, charts.count)
    square = surface.area[order].sum() / _FILLED
    large = (extent.prod(1) > large_area * square) | (extent.amax(1) > large_side * square.sqrt())
    along = extent.argmax(1)
    centre = (uv.sum(1) / 3).gather(1, along[chart][:, None])[:, 0]
    beyond = large[chart] & (centre > 0.5 * extent.amax(1)[chart])
    label = torch.full_like(charts.label, -1)
    label[order] = (2 * chart + beyond).to(label.dtype)
    label, count = connected(surface, label)
    return replace(charts, label=label, count=count)
