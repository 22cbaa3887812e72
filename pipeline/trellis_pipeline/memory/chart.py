"""The memory of a run as a picture: for each stage what was there before, its peak, and what the plan expected."""

from __future__ import annotations

from html import escape
from typing import Any

GIB = 1 << 30
_ROW, _LEFT, _WIDTH = 30, 130, 640


def chart(manifest: dict[str, Any]) -> str:
    """An SVG of a manifest's ledger: one row a stage.

    Raises:
        ValueError: the manifest has no ledger, or it has no device bytes (a run on the CPU).
    """
    memory = manifest.get("memory")
    if not isinstance(memory, dict) or not memory.get("stages"):
        raise ValueError("manifest: it holds no memory ledger; `trellis generate --manifest` writes one")
    stages = memory["stages"]
    if not any("peak" in s for s in stages):
        raise ValueError(f"manifest: its run was on {memory.get('device')}, where device memory is not measured")
    budget = (manifest.get("plan") or {}).get("budget")
    top = max(max(s.get("peak_reserved", 0), s.get("planned") or 0) for s in stages)
    if budget and budget < 2 * top:
        top = max(top, budget)
    top = max(top, GIB // 1024)
    height = _ROW * len(stages) + 90

    def x(value: float) -> float:
        return float(_LEFT + _WIDTH * value / top)

    size = f'width="{_LEFT + _WIDTH + 90}" height="{height}"'
    font = 'font-family="system-ui, sans-serif" font-size="13" fill="#1f2430"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="16" y="26" font-size="15">Device memory, {escape(str(memory.get("device")))}, GiB</text>',
    ]
    ticks = _ticks(top / GIB)
    for tick in ticks:
        out.append(
            f'<path d="M{x(tick * GIB):.1f} 44V{height - 40}" stroke="#e3e6ec"/>'
            f'<text x="{x(tick * GIB):.1f}" y="{height - 22}" text-anchor="middle" fill="#6b7280">{tick:g}</text>'
        )
    for i, stage in enumerate(stages):
        y = 52 + _ROW * i
        peak, before = stage.get("peak", 0), stage.get("before", 0)
        out.append(f'<text x="{_LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(str(stage["stage"]))}</text>')
        out.append(_bar(x(0), y, x(stage.get("peak_reserved", 0)) - x(0), "#dbe4f5"))
        out.append(_bar(x(0), y, x(peak) - x(0), "#5b8def"))
        out.append(_bar(x(0), y, x(before) - x(0), "#26457f"))
        planned = stage.get("planned")
        if planned:
            out.append(f'<path d="M{x(planned):.1f} {y - 2}v22" stroke="#d9480f" stroke-width="2"/>')
        out.append(f'<text x="{x(max(peak, planned or 0)) + 8:.1f}" y="{y + 14}">{peak / GIB:.2f}</text>')
    if budget and budget <= top:
        out.append(
            f'<path d="M{x(budget):.1f} 40V{height - 40}" stroke="#c92a2a" stroke-dasharray="4 3"/>'
            f'<text x="{x(budget):.1f}" y="{height - 6}" text-anchor="middle" fill="#c92a2a">budget</text>'
        )
    legend = (
        ("#26457f", "before the stage"),
        ("#5b8def", "peak"),
        ("#dbe4f5", "reserved"),
        ("#d9480f", "planned peak"),
    )
    left = _LEFT + 260
    for colour, text in legend:
        out.append(_bar(left, 15, 12, colour, 12) + f'<text x="{left + 18}" y="26">{text}</text>')
        left += 36 + 8 * len(text)
    return "\n".join([*out, "</svg>", ""])


def _bar(x: float, y: float, width: float, colour: str, height: float = 18) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{max(0.0, width):.1f}" height="{height}" fill="{colour}"/>'


def _ticks(top: float) -> list[float]:
    step = next((s for s in (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 50) if top / s <= 10), 100)
    return [round(step * i, 6) for i in range(int(top / step) + 1)]
