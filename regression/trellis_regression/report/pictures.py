"""The report's pictures: golden, candidate and heat map from every camera; a word where a picture would say nothing."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from PIL import Image

from ..check import Result
from ..compare import VIEWS
from ..measure.pictures import MODES, SIZE, View, measure, one_thread, renderer
from ..render import NOTHING

_LABEL = {"shaded": "shaded", "base_color": "base colour", "normal": "normals"}
_VIEWER = {"shaded": "shaded", "base_color": "base", "normal": "normals"}
_SIDE: dict[tuple[float, float], str] = {
    (0, 0): "front", (90, 0): "its left (+x)", (180, 0): "back", (270, 0): "its right (−x)", (0, 90): "above",
    (0, -90): "below", (45, 35): "front, left, above", (225, -35): "back, right, below",
}  # fmt: skip
_HEAT = np.array([[0, 0, 4], [60, 15, 112], [150, 42, 120], [228, 84, 86], [252, 165, 60], [252, 253, 191]], np.float32)

SAME = 0.05
"""FLIP's error up to which a picture is not worth looking at; the largest error is 1."""
_INSIDE = ("double-shell", {"cut": 0.5, "mode": "sides"}, "Cut it open", "the second layer lies inside")
_ELSEWHERE = {
    "second-run": "it is in the second file, which is not drawn here",
    "validator": "it is in how the file is written",
    "sliver-charts": "it is in how the texture is cut up",
    "over-decimated": "it is in the number of faces",
    "alpha-holes": "it is in how a program blends the surface",
}


@dataclass(frozen=True)
class _Card:
    """One camera in one mode: what is shown side by side, and the worst tile of the difference (None without a golden)."""

    azimuth: float
    elevation: float
    tiles: tuple[tuple[str, torch.Tensor | str], ...]
    worst: float | None = None


def first(result: Result) -> str:
    """A picture of the candidate's front as a data URI, for the index; "" when it has no surface."""
    if not result.asset.has_surface:
        return ""
    for view in result.evidence.views:
        if view.mode == "shaded" and view.candidate is not None:
            return _png(view.candidate)
    with one_thread():
        return _png(renderer(result.asset).draw_modes(*VIEWS[0], SIZE, ("shaded",))[0].rgb.cpu())


def cards(result: Result) -> str:
    """Every camera in every mode, and what there is to say where all pictures are the same."""
    rows = _compared(result.evidence.views) or _drawn(result)
    if not rows:
        return '<p class="quiet">there is no surface to draw</p>'
    order = [m for m in _LABEL if m in rows]
    buttons = "".join(
        f'<button type="button" value="{m}" aria-pressed="{"true" if m == order[0] else "false"}">{_LABEL[m]}</button>'
        for m in order
    )
    sets = "".join(_set(m, rows[m], hidden=m != order[0]) for m in order)
    legend = ""
    if result.evidence.views:
        legend = '<span class="legend">same <i></i> wholly different (FLIP), or only one has surface there</span>'
    return f'{_same(result)}{_missing(result.evidence.views)}<div class="bar modes">{buttons}{legend}</div><div class="sets">{sets}</div>'


def _same(result: Result) -> str:
    """For a candidate that looks like its golden: that it does, and where a fault that fired is to be looked for."""
    views = result.evidence.views
    if not views or any(v.candidate is None or float(v.error.max()) > SAME for v in views):
        return ""
    said = "Golden and candidate look the same from every side."
    causes = {x.name for x in result.verdict.fired}
    gate, look, label, where = _INSIDE
    if gate in causes:
        button = f"<button type=\"button\" data-look='{json.dumps(look)}'>{label}</button>"
        return f'<p class="note">{said} {gate}: {where}. {button}</p>'
    hints = [f"{escape(n)}: {_ELSEWHERE.get(n, 'look at its figure below')}." for n in sorted(causes)]
    return f'<p class="note">{" ".join([said, *hints])}</p>'


def _missing(views: Sequence[View]) -> str:
    """For a candidate of which nothing is to be seen: that it is so, and what the heat maps show then."""
    if not views or any(_shows(v) for v in views):
        return ""
    return (
        '<p class="note">The candidate shows nothing from any side: it has no surface where the golden has its own. All that the '
        "golden covers is missing, and counts as wholly different.</p>"
    )


def _shows(view: View) -> bool:
    """Whether a candidate is to be seen at all."""
    return view.candidate is not None and bool((view.candidate != torch.tensor(NOTHING, dtype=torch.uint8)).any())


def _compared(views: Sequence[View]) -> dict[str, list[_Card]]:
    rows: dict[str, list[_Card]] = {}
    for place in dict.fromkeys((v.azimuth, v.elevation) for v in views):
        of_camera = [v for v in views if (v.azimuth, v.elevation) == place]
        figures = measure(of_camera)
        for v in of_camera:
            same = v.candidate is not None and float(v.error.max()) <= SAME
            seen = v.candidate if v.candidate is not None and _shows(v) else None
            tiles = (
                ("golden", v.golden),
                ("candidate", ("no surface" if v.candidate is None else "nothing in sight") if seen is None else seen),
                ("difference", "no visible difference" if same else torch.from_numpy(_heat(v.error.numpy()))),
            )
            rows.setdefault(v.mode, []).append(_Card(*place, tiles, figures[f"flip_{v.mode}_worst_tile"]))
    return rows


def _drawn(result: Result) -> dict[str, list[_Card]]:
    if not result.asset.has_surface:
        return {}
    rows: dict[str, list[_Card]] = {}
    with one_thread():
        drawer = renderer(result.asset)
        for place in VIEWS:
            for mode, picture in zip(MODES, drawer.draw_modes(*place, SIZE, MODES), strict=True):
                rows.setdefault(mode, []).append(_Card(*place, (("candidate", picture.rgb.cpu()),)))
    return rows


def _set(mode: str, cards_of_mode: list[_Card], *, hidden: bool) -> str:
    worst = max(cards_of_mode, key=lambda c: c.worst or 0.0)
    compared = len(worst.tiles) > 1
    made = "".join(_card(c, mode, is_worst=c is worst and (c.worst or 0.0) > SAME) for c in cards_of_mode)
    return (
        f'<div class="cards {"compared" if compared else "single"}" data-mode="{mode}"{" hidden" if hidden else ""}>'
        f"{made}</div>"
    )


def _card(card: _Card, mode: str, *, is_worst: bool) -> str:
    side = _SIDE.get((card.azimuth, card.elevation), f"{card.azimuth:g}° round, {card.elevation:g}° up")
    figure = "" if card.worst is None else f" worst tile {card.worst:.2f}"
    tiles = "".join(_tile(name, what, f"{side}, {_LABEL[mode]}", figure) for name, what in card.tiles)
    figure = figure.strip()
    look = json.dumps({"azimuth": card.azimuth, "elevation": card.elevation, "mode": _VIEWER[mode]})
    return (
        f'<figure class="card{" worst" if is_worst else ""}"><figcaption>'
        f'<button type="button" data-look=\'{look}\' title="turn the view above to this side">{side}</button>'
        f'<span class="quiet">{"differs most here, " if is_worst else ""}{figure}</span></figcaption>'
        f'<div class="tiles">{tiles}</div></figure>'
    )


def _tile(name: str, what: torch.Tensor | str, of: str, figure: str) -> str:
    if isinstance(what, str):
        shown = f'<div class="word"><p>{what}</p></div>'
    else:
        more = f":{figure} of 1" if name == "difference" else ""
        shown = f'<img alt="{name}, {escape(of)}{more}" src="{_png(what)}" width="{SIZE}" height="{SIZE}">'
    return f'<div class="tile">{shown}<span class="quiet name">{name}</span></div>'


def _png(rgb: torch.Tensor) -> str:
    data = io.BytesIO()
    Image.fromarray(rgb.numpy()).save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _heat(error: np.ndarray) -> np.ndarray:
    at = np.clip(error, 0, 1) * (len(_HEAT) - 1)
    low = np.floor(at).astype(int).clip(0, len(_HEAT) - 2)
    mixed = _HEAT[low] * (1 - (at - low))[..., None] + _HEAT[low + 1] * (at - low)[..., None]
    return np.asarray(mixed.round().astype(np.uint8))
