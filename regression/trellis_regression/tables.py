"""The matrix of faults and detectors as text and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .detectors import ALL
from .matrix import Trial


def read(path: Path) -> list[Trial]:
    """Trials kept by `matrix.save`."""
    return [
        Trial(**{**row, "causes": tuple(row["causes"]), "consequences": tuple(row["consequences"])})
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())
    ]


def good(trials: Sequence[Trial]) -> bool:
    """Every fault caught by its own gate at its historic strength in every asset, and no clean control flagged."""
    return all(t.caught if t.fault else not t.causes for t in trials if t.historic or not t.fault)


def _rows(trials: Sequence[Trial]) -> list[tuple[str, str, list[Trial]]]:
    rows: dict[tuple[str, str], list[Trial]] = {}
    for t in trials:
        if t.fault:
            rows.setdefault((t.fault, t.strength), []).append(t)
    order = {d.name: i for i, d in enumerate(ALL)}
    keyed = sorted(rows.items(), key=lambda kv: (order.get(kv[0][0], 99), kv[0][1] == "in the road"))
    return [(fault, strength, found) for (fault, strength), found in keyed]


def _also(trials: Sequence[Trial]) -> str:
    others: dict[str, int] = {}
    for t in trials:
        for name in t.causes:
            if name != t.fault:
                others[name] = others.get(name, 0) + 1
    return ", ".join(f"{name} {n}" for name, n in sorted(others.items(), key=lambda kv: -kv[1]))


def markdown(trials: Sequence[Trial]) -> str:
    """One row a fault and strength: how often its own gate, and only it, named the cause; false alarms below."""
    out = [
        "| fault | strength | caught by its gate | named alone | other causes named |",
        "|---|---|---|---|---|",
    ]
    for fault, strength, found in _rows(trials):
        label = f"**{strength}**" if found[0].historic and strength != "in the road" else strength
        refused = sum(t.sentence.startswith("refused") for t in found)
        caught = f"{sum(t.caught for t in found)}/{len(found)}" + (" (the road refuses)" if refused else "")
        out.append(f"| `{fault}` | {label} | {caught} | {sum(t.exact for t in found)}/{len(found)} | {_also(found)} |")
    clean = [t for t in trials if not t.fault]
    flagged = [t for t in clean if t.causes]
    named = ", ".join(f"{t.asset}: {' '.join(t.causes)}" for t in flagged)
    out += ["", f"Clean controls: {len(clean)}, flagged: {len(flagged)}{f' ({named})' if named else ''}."]
    return "\n".join(out)


def text(trials: Sequence[Trial]) -> str:
    """The same for a terminal."""
    lines = []
    for fault, strength, found in _rows(trials):
        mark = "*" if found[0].historic else " "
        caught, exact = sum(t.caught for t in found), sum(t.exact for t in found)
        lines.append(
            f"{fault:24}{mark}{strength:14} caught {caught}/{len(found)}  alone {exact}/{len(found)}  {_also(found)}"
        )
    clean = [t for t in trials if not t.fault]
    lines.append(f"clean controls: {len(clean)}, flagged: {sum(bool(t.causes) for t in clean)}  (* historic strength)")
    return "\n".join(lines)
