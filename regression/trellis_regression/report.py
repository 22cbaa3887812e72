"""The HTML report: one self-contained file that a person looks at before any number.

What is wrong stands on top in a sentence; then candidate beside golden to turn around, the same views side by side with
heat maps of the difference, and every gate with its figure, its threshold and where it lies among clean assets.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from html import escape

import numpy as np
import torch
from PIL import Image

from . import viewer
from .check import Result
from .compare import VIEWS
from .gate import CONSEQUENCE, FIRED, NOT_JUDGED, PASSED, Finding
from .measure.pictures import MODES, SIZE, one_thread, renderer

MAX_EMBEDDED = 24 << 20
"""A larger GLB is not put into the page; `trellis view` shows it."""
_LABEL = {"base_color": "base colour", "normal": "normals", "shaded": "shaded"}
_HEAT = np.array([[0, 0, 4], [60, 15, 112], [150, 42, 120], [228, 84, 86], [252, 165, 60], [252, 253, 191]], np.float32)


def page(results: Sequence[Result], *, title: str = "Gate report") -> str:
    """The report on one or more checked assets."""
    body = [f"<h1>{escape(title)}</h1>"]
    if len(results) > 1:
        links = "".join(
            f'<a href="#a{i}" class="{"" if r.verdict.ok else "bad"}">{"✓" if r.verdict.ok else "✗"} {escape(_name(r))}</a>'
            for i, r in enumerate(results)
        )
        bad = sum(not r.verdict.ok for r in results)
        body.append(f"<p>{len(results)} assets, {bad} failed</p><nav>{links}</nav>")
    body += [_section(r, i) for i, r in enumerate(results)]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{viewer.style()}</style></head><body><main>{''.join(body)}</main>"
        f"<script>{viewer.script()}\n{_SWITCH}</script></body></html>\n"
    )


_SWITCH = """
for (const set of document.querySelectorAll('.strips')) {
  const bar = set.previousElementSibling;
  for (const button of bar.children) button.onclick = () => {
    for (const other of bar.children) other.classList.toggle('on', other === button);
    for (const part of set.children) part.hidden = part.dataset.mode !== button.dataset.mode;
  };
}
for (const data of document.querySelectorAll('script.assets')) trellisView(data.previousElementSibling, JSON.parse(data.textContent));
"""


def _name(result: Result) -> str:
    return result.golden.name if result.golden else result.path.name


def _section(result: Result, index: int) -> str:
    facts = result.evidence.container
    textures = ", ".join(facts["texture_sizes"]) or "no textures"
    modes = ", ".join(sorted({m["alpha_mode"] for m in facts["materials"]})) or "no material"
    return (
        f'<section class="asset" id="a{index}"><h1>{escape(_name(result))}</h1>'
        f'<p class="quiet">{escape(result.path.name)}: {facts["triangles"]:,} faces, {textures}, {modes}, '
        f"{facts['bytes'] / 1e6:.2f} MB; thresholds: {result.profile}</p>"
        f"{_verdict(result)}<h2>Turn it</h2>{_three(result)}<h2>From all sides</h2>{_strips(result)}"
        f"<h2>Gates</h2>{_table(result)}</section>"
    )


def _verdict(result: Result) -> str:
    v = result.verdict
    if v.ok:
        judged = sum(x.status == PASSED for x in v.findings)
        return f'<div class="verdict pass"><b class="name">Passed</b><p>All {judged} gates that could judge it are silent.</p></div>'
    parts = []
    for x in v.fired:
        parts.append(
            f'<b class="name">{escape(x.name)}</b><p>{escape(x.sentence)}</p><p class="remedy">→ {escape(x.remedy)}</p>'
        )
    followed = [x.name for x in v.findings if x.status == CONSEQUENCE]
    if followed:
        parts.append(f'<p class="quiet">follows from that: {escape(", ".join(followed))}</p>')
    if v.first_stage:
        parts.append(f"<p>Where it began: {escape(v.first_stage)}</p>")
    return f'<div class="verdict fail">{"".join(parts)}</div>'


def _three(result: Result) -> str:
    assets, notes = [], []
    pairs = [("golden", result.golden_asset)] if result.golden_asset else []
    for name, asset in [*pairs, ("candidate", result.asset)]:
        assert asset is not None
        if not asset.has_surface:
            notes.append(f"{name}: there is no surface to show")
        elif len(asset.glb.data) > MAX_EMBEDDED:
            notes.append(f"{name}: {len(asset.glb.data) / 1e6:.0f} MB, too large for this page; trellis view FILE.glb")
        else:
            data = base64.b64encode(asset.glb.data).decode()
            assets.append({"name": name, "glb": f"data:model/gltf-binary;base64,{data}"})
    note = "".join(f'<p class="quiet">{escape(n)}</p>' for n in notes)
    # In a JSON script element "<" could only come from a name; data is base64.
    content = json.dumps(assets).replace("<", "\\u003c")
    return f'{note}<div class="view"></div><script type="application/json" class="assets">{content}</script>'


def _strips(result: Result) -> str:
    rows: dict[str, list[tuple[str, str]]] = {}
    if result.evidence.views:
        for mode in MODES:
            views = [v for v in result.evidence.views if v.mode == mode]
            blank = torch.full_like(views[0].golden, 62)
            rows[mode] = [
                ("golden", _png(torch.cat([v.golden for v in views], 1))),
                ("candidate", _png(torch.cat([blank if v.candidate is None else v.candidate for v in views], 1))),
                ("difference", _png(torch.from_numpy(_heat(torch.cat([v.error for v in views], 1).numpy())))),
            ]
    elif result.asset.has_surface:
        with one_thread():
            drawer = renderer(result.asset)
            drawn = [drawer.draw_modes(a, e, SIZE, MODES) for a, e in VIEWS]
        for i, mode in enumerate(MODES):
            rows[mode] = [("candidate", _png(torch.cat([d[i].rgb for d in drawn], 1).cpu()))]
    if not rows:
        return '<p class="quiet">there is no surface to draw</p>'
    order = [m for m in ("shaded", "base_color", "normal") if m in rows]
    buttons = "".join(
        f'<button data-mode="{m}" class="{"on" if m == order[0] else ""}">{_LABEL[m]}</button>' for m in order
    )
    sets = "".join(
        f'<div data-mode="{m}"{"" if m == order[0] else " hidden"}>'
        + "".join(
            f'<div class="strip"><span>{n}</span><img alt="{n}, {_LABEL[m]}" src="{u}"></div>' for n, u in rows[m]
        )
        + "</div>"
        for m in order
    )
    return f'<div class="view-bar">{buttons}</div><div class="strips">{sets}</div>'


def _png(rgb: torch.Tensor) -> str:
    data = io.BytesIO()
    Image.fromarray(rgb.numpy()).save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _heat(error: np.ndarray) -> np.ndarray:
    at = np.clip(error, 0, 1) * (len(_HEAT) - 1)
    low = np.floor(at).astype(int).clip(0, len(_HEAT) - 2)
    mixed = _HEAT[low] * (1 - (at - low))[..., None] + _HEAT[low + 1] * (at - low)[..., None]
    return np.asarray(mixed.round().astype(np.uint8))


def _table(result: Result) -> str:
    order = {FIRED: 0, CONSEQUENCE: 1, PASSED: 2, NOT_JUDGED: 3}
    rows = []
    for x in sorted(result.verdict.findings, key=lambda x: order[x.status]):
        if x.value is None or x.limit is None:
            rows.append(
                f'<tr class="unjudged"><td>{escape(x.name)}</td><td>not judged</td><td></td><td></td><td>{escape(x.sentence)}</td></tr>'
            )
            continue
        state = f"follows from {x.explained_by}" if x.explained_by else x.status
        rows.append(
            f'<tr class="{x.status}"><td>{escape(x.name)}</td><td>{escape(state)}</td>'
            f'<td class="number">{x.value:.4g}</td><td class="number">{x.limit:.4g}</td><td>{_plot(x)}</td></tr>'
        )
    return (
        "<table><tr><th>gate</th><th>verdict</th><th>figure</th><th>threshold</th>"
        f"<th>among clean assets (│ each, ┃ threshold, ● this one)</th></tr>{''.join(rows)}</table>"
    )


def _plot(x: Finding) -> str:
    """A ruler: a tick for each clean asset, the threshold, and the candidate."""
    assert x.value is not None and x.limit is not None
    if not x.clean:
        return '<span class="quiet">fixed by definition</span>'
    low = min(0.0, *x.clean)
    high = max(x.limit * 1.5, *x.clean, 1e-9)
    width, beyond = 420, x.value > high

    def at(value: float) -> float:
        return 8 + (width - 40) * (min(max(value, low), high) - low) / (high - low)

    ticks = "".join(
        f'<line x1="{at(c):.1f}" x2="{at(c):.1f}" y1="6" y2="18" stroke="#6d7fa8" opacity=".55"/>' for c in x.clean
    )
    colour = "#ff6b5e" if x.value > x.limit else "#4cc26b"
    place = width - 14 if beyond else at(x.value)
    arrow = f'<text x="{width - 6}" y="16">→</text>' if beyond else ""
    return (
        f'<svg width="{width}" height="24" role="img" aria-label="{x.value:.3g} of {x.limit:.3g}">'
        f'<line x1="8" x2="{width - 32}" y1="12" y2="12" stroke="#3a3c44"/>{ticks}'
        f'<line x1="{at(x.limit):.1f}" x2="{at(x.limit):.1f}" y1="2" y2="22" stroke="#ffb04d" stroke-width="2.5"/>'
        f'<circle cx="{place:.1f}" cy="12" r="5" fill="{colour}"/>{arrow}</svg>'
    )
