"""The report's table of gates: figure, threshold, and a ruler with the clean assets on it."""

from __future__ import annotations

from html import escape

from ..check import Result
from ..gate import CONSEQUENCE, FIRED, NOT_JUDGED, PASSED, Finding

_KIND = {"golden": "against the golden", "alone": "by itself"}
_ORDER = {FIRED: 0, CONSEQUENCE: 1, PASSED: 2, NOT_JUDGED: 3}
_RULER_END, _BEYOND = 93.0, 97.0
"""Where the ruler's largest figure lies, and what is larger still, in percent of its width."""


def table(result: Result) -> str:
    """Every gate, those that fired first."""
    rows = [_row(x) for x in sorted(result.verdict.findings, key=lambda x: _ORDER[x.status])]
    return (
        '<p class="quiet key"><i class="clean"></i> a clean asset <i class="limit"></i> threshold '
        '<i class="dot"></i> this one</p>'
        '<table class="gates"><thead><tr><th scope="col">gate</th><th scope="col">verdict</th><th scope="col">figure</th>'
        '<th scope="col">threshold</th><th scope="col">among clean assets</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _row(x: Finding) -> str:
    name = f'<th scope="row">{escape(x.name)}</th>'
    if x.value is None or x.limit is None:
        return (
            f'<tr class="unjudged">{name}<td>not judged</td><td class="number"></td><td class="number"></td>'
            f'<td class="ruler">{escape(x.sentence)}</td></tr>'
        )
    state = f"follows from {x.explained_by}" if x.explained_by else x.status
    return (
        f'<tr class="{x.status}">{name}<td>{escape(state)} <span class="quiet">{_KIND.get(x.kind, "")}</span></td>'
        f'<td class="number" data-name="figure">{x.value:.4g}</td>'
        f'<td class="number" data-name="threshold">{x.limit:.4g}</td><td class="ruler">{_ruler(x)}</td></tr>'
    )


def _ruler(x: Finding) -> str:
    """A tick for each clean asset, the threshold, and the candidate. In percent, so that it fits any width."""
    assert x.value is not None and x.limit is not None
    if not x.clean:
        return '<span class="quiet">yes or no: it has no clean distribution</span>'
    low = min(0.0, *x.clean)
    high = max(x.limit * 1.5, *x.clean, 1e-9)

    def at(value: float) -> str:
        return f"{1.5 + (_RULER_END - 1.5) * (min(max(value, low), high) - low) / (high - low):.2f}%"

    ticks = "".join(f'<line class="clean" x1="{at(c)}" x2="{at(c)}" y1="6" y2="18"/>' for c in x.clean)
    beyond = x.value > high
    place = f"{_BEYOND}%" if beyond else at(x.value)
    text = (
        f"{x.value:.3g}, {'above' if x.value > x.limit else 'not above'} the threshold {x.limit:.3g}; "
        f"{len(x.clean)} clean assets from {min(x.clean):.3g} to {max(x.clean):.3g}"
    )
    gap = '<path class="gap" d="M0 12h1m3 0h1m3 0h1" transform="translate(-8 0)"/>' if beyond else ""
    return (
        f'<svg class="{"over" if x.value > x.limit else "under"}" width="100%" height="24" role="img" aria-label="{text}">'
        f"<title>{text}</title>"
        f'<line class="axis" x1="1.5%" x2="{_RULER_END}%" y1="12" y2="12"/>{ticks}'
        f'<line class="limit" x1="{at(x.limit)}" x2="{at(x.limit)}" y1="2" y2="22"/>'
        f'<svg x="{_RULER_END + 1}%" y="0" overflow="visible">{gap}</svg>'
        f'<circle cx="{place}" cy="12" r="5.5"/></svg>'
    )
