"""Measured properties of sound assets in which a fault would change nothing, so that no gate could or should see it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import trellis_mesh as mesh

from .look import swapped_to
from .model import Model

IN_THE_ROAD = "in the road"
_SAME_COLOUR, _MET, _NEAR, _ON_AXES = 0.015, 0.01, 0.02, 0.9  # the first is what the gate's floor is
_BLEED, _SEEN = 38, 0.1  # what the gate counts as another colour, and its floor
_FEW = 16  # of fewer texels at a side the gate concludes nothing


def swapped(order: str, road: bool) -> Callable[[Model], str]:
    """Whether another order of the axes gives the same colours (a rotational body), or none at all (in the road)."""

    def reason(model: Model) -> str:
        covered, points = model.coverage()
        there, colour = swapped_to(model, points[covered], order)
        if road:
            bvh = mesh.Bvh(torch.from_numpy(model.positions), torch.from_numpy(model.faces.astype(np.int32)))
            away, _, _ = bvh.closest_point(torch.from_numpy(there))
            met = float((away.numpy() < _NEAR * model.extent).mean())
            if met < _MET:
                return f"only {met:.0%} of its surface meets it in the order {order}: that is a black texture"
        difference = float(np.abs(colour[:, :3].astype(np.float64) - model.base[covered][:, :3]).mean() / 255)
        return f"its colours are the same in the order {order}, but for {difference:.1%}" * (difference < _SAME_COLOUR)

    return reason


def on_the_axes(model: Model) -> str:
    """Whether the surface lies on the axes anyway, so that dual vertices in the middle of their cells are no stairs."""
    corners = model.positions[model.faces].astype(np.float64)
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1)
    share = float(area[np.abs(cross).max(1) > np.cos(np.radians(2)) * np.maximum(area, 1e-30)].sum() / area.sum())
    return f"{share:.0%} of its surface lies on the axes, where cells are no stairs" * (share > _ON_AXES)


def white(model: Model) -> str:
    """Whether nearly all of it has the colour of a white background, so that nothing else can bleed in."""
    covered, _ = model.coverage()
    share = float((model.base[covered][:, :3].min(1) < 255 - _BLEED).mean())
    return f"only {share:.0%} of its texels are not white themselves" * (share < _SEEN)


def black(model: Model) -> str:
    """Whether nearly all of it has the colour of a black background; of two faults the one that leaves a black texture."""
    covered, _ = model.coverage()
    share = float((model.base[covered][:, :3].max(1) > _BLEED).mean())
    return f"only {share:.0%} of its texels are not black themselves" * (share < _SEEN)


def at_the_border(strength: float) -> Callable[[Model], str]:
    """Whether nearly nothing of it lies within `strength` of the far sides of its box, where coordinates are lost."""

    def reason(model: Model) -> str:
        covered, points = model.coverage()
        high = model.positions[model.faces.reshape(-1)].max(0)
        there = int(((high - points[covered]) < strength * model.extent).any(-1).sum())
        return f"only {there} of its {covered.sum():,} texels lie at the far sides of its box" * (there < _FEW)

    return reason


HIDDEN: dict[tuple[str, str], Callable[[Model], str]] = {
    **{("axis-swap", order): swapped(order, False) for order in ("zyx", "yxz", "-xyz")},
    ("axis-swap", IN_THE_ROAD): swapped("yxz", True),  # the road is z-up
    ("blocky", IN_THE_ROAD): on_the_axes,
    ("black-texel-bleed", "white"): white,
    **{("edge-of-grid", f"{depth:.1%}"): at_the_border(depth) for depth in (0.005, 0.015, 0.04)},
    ("edge-of-grid", IN_THE_ROAD): at_the_border(0.015),  # the last voxel of 64
    **{("black-texel-bleed", strength): black for strength in ("half", "black", IN_THE_ROAD)},
}
"""Fault and strength -> why an asset cannot show it, or nothing."""


def why_hidden(model: Model, fault: str, strength: str) -> str:
    """A sentence with the measured number, or nothing where the fault must be caught."""
    reason = HIDDEN.get((fault, strength))
    return reason(model) if reason else ""
