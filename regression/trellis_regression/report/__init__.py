"""The HTML report: one self-contained file that a person looks at before any number.

What is wrong stands on top in a sentence; then candidate beside golden to turn around, the same views side by side with
heat maps of the difference, and every gate with its figure, its threshold and where it lies among clean assets.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from .. import viewer
from ..check import Result
from ..gate import CONSEQUENCE, NOT_JUDGED, PASSED
from . import gates, pictures

MAX_EMBEDDED = 24 << 20
"""A larger GLB is not put into the page; `trellis view` shows it."""


def page(results: Sequence[Result], *, title: str = "Gate report", unusable: Mapping[str, str] | None = None) -> str:
    """The report on one or more checked assets.

    Args:
        unusable: name -> sentence, for what could not be judged.
    """
    unusable = unusable or {}
    sections = [_section(r, i, alone=len(results) == 1) for i, r in enumerate(results)]
    seen = {_anchor(i): pictures.first(r) for i, r in enumerate(results)}
    bad = sum(not r.verdict.ok for r in results) + len(unusable)
    total = len(results) + len(unusable)
    said = "" if total == 1 else f"{bad} of {total} failed" if bad else f"all {total} passed"
    when = f"made {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC{_by()}"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{f"<b>{said}</b>; " if said else ""}{when}</p>',
        '<noscript><p class="note">Without JavaScript: no view to turn, and shaded pictures only.</p></noscript>',
    ]
    if total > 1:
        body.append(_index(results, seen, unusable))
    body += [f'<div class="verdict fail"><h2>{escape(n)}</h2><p>{escape(s)}</p></div>' for n, s in unusable.items()]
    names = [_heading(r) for r in results] + list(unusable)
    return viewer.document(
        f"{'✗' if bad else '✓'} {names[0] if total == 1 else said}: {title}" if total else title,
        "".join(body + sections), style=_text("report.css"), script=_text("report.js"), sound=not bad,
    )  # fmt: skip


def _text(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _by() -> str:
    try:
        return f" by trellis-regression {version('trellis-regression')}"
    except PackageNotFoundError:  # run from its sources
        return ""


def _heading(result: Result) -> str:
    return result.golden.name if result.golden else result.path.name


def _anchor(index: int) -> str:
    return f"a{index}"


def _index(results: Sequence[Result], seen: Mapping[str, str], unusable: Mapping[str, str]) -> str:
    """A card for each asset: its face, its name, and what is wrong."""
    cards = [f'<li><b>✗ {escape(name)}</b><span class="bad">could not be judged</span></li>' for name in unusable]
    for i, r in enumerate(results):
        ok, anchor = r.verdict.ok, _anchor(i)
        picture = f'<img alt="" src="{seen[anchor]}">' if seen[anchor] else ""
        why = "passed" if ok else ", ".join(x.name for x in r.verdict.fired)
        cards.append(
            f'<li><a href="#{anchor}">{picture}<b>{"✓" if ok else "✗"} {escape(_heading(r))}</b>'
            f'<span class="{"good" if ok else "bad"}">{escape(why)}</span></a></li>'
        )
    return f'<nav aria-label="assets"><ul class="index">{"".join(cards)}</ul></nav>'


def _section(result: Result, index: int, *, alone: bool) -> str:
    facts = result.evidence.container
    textures = ", ".join(facts["texture_sizes"]) or "no textures"
    modes = ", ".join(sorted({m["alpha_mode"] for m in facts["materials"]})) or "no material"
    up = "" if alone else ' <a class="up" href="#">all assets</a>'
    return (
        f'<section class="asset" id="{_anchor(index)}"><h2>{escape(_heading(result))}{up}</h2>'
        f'<p class="quiet">{escape(result.path.name)}: {facts["triangles"]:,} faces, {textures}, {modes}, '
        f"{facts['bytes'] / 1e6:.2f} MB; thresholds: {result.profile}; measured on {escape(result.evidence.device)}"
        f"{_golden(result)}</p>"
        f"{_verdict(result)}<h3>Turn it</h3>{_three(result)}<h3>From all sides</h3>{pictures.cards(result)}"
        f"<h3>Gates</h3>{gates.table(result)}</section>"
    )


def _golden(result: Result) -> str:
    if result.golden is None:
        return ""
    approved = result.golden.provenance
    return (
        f"<br>golden {escape(result.golden.name)}/{escape(result.golden.variant)}, approved "
        f"{escape(str(approved.get('approved', 'at no known date')))}: {escape(str(approved.get('reason', 'no reason given')))}"
    )


def _verdict(result: Result) -> str:
    v = result.verdict
    if v.ok:
        judged, rest = (sum(x.status == s for x in v.findings) for s in (PASSED, NOT_JUDGED))
        more = f" {rest} could not judge it; the table says what they need." if rest else ""
        return f'<div class="verdict pass"><b class="name">Passed</b><p>{judged} gates judged it and none fired.{more}</p></div>'
    parts = [
        f'<b class="name">{escape(x.name)}</b><p>{escape(x.sentence)}</p><p class="remedy">→ {escape(x.remedy)}</p>'
        for x in v.fired
    ]
    followed = [x.name for x in v.findings if x.status == CONSEQUENCE]
    if followed:
        parts.append(f'<p class="follows">follows from that: {escape(", ".join(followed))}</p>')
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
    if not assets:
        return note
    # In a JSON script element "<" could only come from a name; data is base64.
    content = json.dumps(assets).replace("<", "\\u003c")
    return f'{note}<div class="view"></div><script type="application/json" class="assets">{content}</script>'
