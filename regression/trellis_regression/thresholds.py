"""Thresholds, derived from the spread of clean assets and kept in `thresholds.json` with the curve they come from.

The rule: the largest clean value, plus `margin` times the distance from the median to it (at least the detector's
`floor`), but for shares never more than half of what is left up to 1. `default` takes margin 1, `strict` a half.
`trellis-gate calibrate` writes the table anew from a sample.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from .detectors import ALL, Detector

PROFILES = {"default": 1.0, "strict": 0.5}
"""Margins."""
QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 1.0)
DIGITS = 6
TABLE = Path(str(files(__package__) / "thresholds.json"))


@dataclass(frozen=True)
class Limit:
    """A threshold and the clean values it comes from (sorted; empty when it is fixed by definition)."""

    value: float
    clean: tuple[float, ...] = ()


def derive(detector: Detector, kind: str, clean: Sequence[float], margin: float) -> float:
    """The rule above, for one detector and kind of figure."""
    if detector.fixed is not None:
        return detector.fixed
    low, high = float(np.median(clean)), float(np.max(clean))
    distance = margin * max(high - low, detector.floor_of(kind))
    if detector.unit == "share":
        distance = min(distance, (1 - high) / 2)
    return high + distance


def write(values: Mapping[str, Mapping[str, Sequence[float]]], about: Mapping[str, Any], path: Path = TABLE) -> None:
    """Writes the table: for each detector and kind ("alone", "golden") the clean curve and the thresholds.

    Args:
        values: clean figures by detector and kind.
        about: what sample they come from.
    """
    table: dict[str, Any] = {"about": dict(about), "rule": " ".join((__doc__ or "").split("\n\n")[1].split())}
    for detector in ALL:
        entry: dict[str, Any] = {}
        for kind in ("alone", "golden"):
            clean = sorted(round(float(x), DIGITS) for x in values.get(detector.name, {}).get(kind, ()))
            if detector.fixed is not None or not clean:
                continue
            entry[kind] = {
                "clean": clean,
                "quantiles": {f"{q:g}": round(float(np.quantile(clean, q)), DIGITS) for q in QUANTILES},
                **{name: round(derive(detector, kind, clean, margin), DIGITS) for name, margin in PROFILES.items()},
            }
        table[detector.name] = entry if entry else {"fixed": detector.fixed}
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def clean_values(path: Path = TABLE) -> tuple[dict[str, dict[str, list[float]]], dict[str, Any]]:
    """The clean curves that a table holds, by detector and kind, and what sample they come from: what `write` takes."""
    table = json.loads(path.read_text(encoding="utf-8"))
    about = table.pop("about")
    kinds = ("alone", "golden")
    values = {
        d.name: {k: table[d.name][k]["clean"] for k in kinds if k in table.get(d.name, {})} for d in ALL
    }  # fmt: skip
    return values, about


def lines(path: Path = TABLE) -> list[str]:
    """Every threshold of a table with its clean curve and the term of the rule that set it, for a person."""
    table = json.loads(path.read_text(encoding="utf-8"))
    found = [
        f"{'gate':24}{'kind':8}{'clean: min':>12}{'median':>10}{'95 %':>10}{'max':>10}{'default':>10}{'strict':>10}  set by"
    ]
    for d in ALL:
        if d.fixed is not None:
            found.append(f"{d.name:24}{'both':8}{'':42}{d.fixed:>10.4g}{d.fixed:>10.4g}  definition: yes or no")
        for kind, entry in table[d.name].items():
            if d.fixed is not None:
                continue
            q, high = entry["quantiles"], entry["clean"][-1]
            spread = high - float(np.median(entry["clean"]))
            floor = d.floor_of(kind)
            why = f"spread {spread:.4g}" if spread > floor else f"floor {floor:g}, spread {spread:.4g}"
            if d.unit == "share" and max(spread, floor) > (1 - high) / 2:
                why = "half of what is left to 1"
            numbers = (q["0"], q["0.5"], q["0.95"], q["1"], entry["default"], entry["strict"])
            found.append(
                f"{d.name:24}{kind:8}{numbers[0]:>12.4g}" + "".join(f"{x:>10.4g}" for x in numbers[1:]) + f"  {why}"
            )
    return found


def load(profile: str = "default", path: Path = TABLE) -> dict[tuple[str, str], Limit]:
    """Limits by (detector, kind).

    Raises:
        ValueError: an unknown profile.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, got {profile!r}")
    table = json.loads(path.read_text(encoding="utf-8"))
    limits = {}
    for detector in ALL:
        for kind in ("alone", "golden"):
            if detector.fixed is not None:
                limits[detector.name, kind] = Limit(detector.fixed)
            elif kind in table.get(detector.name, {}):
                entry = table[detector.name][kind]
                limits[detector.name, kind] = Limit(float(entry[profile]), tuple(entry["clean"]))
    return limits
