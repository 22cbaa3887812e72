"""Judging: figures against thresholds, and which of the gates that fired is the cause."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import stages
from .detectors import ALL, Detector
from .detectors import figures as f
from .detectors.relations import DECIDED_BY_STAGES, EXPLAINS
from .profile import Evidence
from .thresholds import Limit

PASSED, FIRED, CONSEQUENCE, NOT_JUDGED = "passed", "fired", "consequence", "not judged"


@dataclass(frozen=True)
class Finding:
    """One gate's verdict.

    Attributes:
        kind: "alone" or "golden", whichever figure decided.
        excess: how far the figure is beyond the limit, on a scale that all gates share; below 0 it is within.
        percentile: the share of clean assets whose figure is not larger; None where there is no clean curve.
        explained_by: for a consequence, the gate that is the cause.
    """

    name: str
    status: str
    kind: str = ""
    value: float | None = None
    limit: float | None = None
    percentile: float | None = None
    sentence: str = ""
    remedy: str = ""
    explained_by: str = ""
    excess: float = 0.0
    clean: tuple[float, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """All findings, and what the kept stages say about where it began."""

    findings: tuple[Finding, ...]
    first_stage: str | None = None

    @property
    def fired(self) -> list[Finding]:
        """The causes: gates that fired and are explained by no other."""
        return [x for x in self.findings if x.status == FIRED]

    @property
    def ok(self) -> bool:
        """Whether no gate fired, cause or consequence."""
        return all(x.status not in (FIRED, CONSEQUENCE) for x in self.findings)

    def as_json(self) -> dict[str, Any]:
        """For --json; findings without their clean curves."""
        keys = ("name", "status", "kind", "value", "limit", "percentile", "sentence", "remedy", "explained_by")
        return {
            "ok": self.ok,
            "fired": [x.name for x in self.fired],
            "first_stage_that_differs": self.first_stage,
            "gates": [{k: getattr(x, k) for k in keys} for x in self.findings],
        }


def judge(evidence: Evidence, limits: Mapping[tuple[str, str], Limit]) -> Verdict:
    """The verdict on an asset. Each gate that has a figure against the golden and one of its own fires on either."""
    findings = [_finding(detector, evidence, limits) for detector in ALL]
    excess = {x.name: x.excess for x in findings if x.status == FIRED}
    cleaned = f.lost_in_cleaning(evidence) or 0.0
    causes = causes_of(excess, cleaned, limits["over-cleaned", "alone"].value)
    final = tuple(
        replace(x, status=CONSEQUENCE, explained_by=causes[x.name]) if causes.get(x.name) else x for x in findings
    )
    first = None
    if evidence.stages and evidence.golden_stages:
        first = stages.first_difference(evidence.stages, evidence.golden_stages)
    return Verdict(final, first)


def causes_of(excess: Mapping[str, float], cleaned: float = 0.0, usual: float = 0.0) -> dict[str, str]:
    """For each gate that fired the one that is its cause; "" for those that are causes, of which there is at least one.

    Args:
        excess: how far beyond its limit each gate is that fired.
        cleaned: which share of the area the kept stages say cleaning took; `usual`: at most from sound assets.
    """
    explained = _without_circles(_relations(excess, cleaned, usual), excess)
    found: dict[str, str] = {}
    while len(found) < len(explained):
        for name, explaining in explained.items():
            if name not in found and all(x in found for x in explaining):
                # Only a cause explains: what itself follows from another fault is no fault that something could follow from.
                found[name] = next((x for x in explaining if not found[x]), "")
    return found


def _relations(fired: Iterable[str], cleaned: float, usual: float) -> dict[str, list[str]]:
    """For each fired gate those fired gates that explain it. Of `over-cleaned` and some others the kept stages decide."""
    ordered = [d.name for d in ALL if d.name in set(fired)]
    found: dict[str, list[str]] = {name: [] for name in ordered}
    for cause in ordered:
        for name in ordered:
            if name not in EXPLAINS.get(cause, {}):
                continue
            other = DECIDED_BY_STAGES.get(name if cause == "over-cleaned" else cause if name == "over-cleaned" else "")
            by_cleaning = other is not None and cleaned > max(other, usual)
            if other is None or by_cleaning == (cause == "over-cleaned"):
                found[name].append(cause)
    return found


def _without_circles(explained: Mapping[str, list[str]], excess: Mapping[str, float]) -> dict[str, list[str]]:
    """The relations of which no gate explains itself, whatever the number of steps.

    In a circle only a gate that is farther beyond its limit explains another: a fault moves its own figure most.
    """
    reached = {name: _all_behind(name, explained) for name in explained}
    place = {name: (-excess[name], i) for i, name in enumerate(explained)}
    return {
        name: [x for x in explaining if name not in reached[x] or place[x] < place[name]]
        for name, explaining in explained.items()
    }


def _all_behind(name: str, explained: Mapping[str, list[str]]) -> set[str]:
    found: set[str] = set()
    left = list(explained[name])
    while left:
        found.add(cause := left.pop())
        left += [x for x in explained[cause] if x not in found]
    return found


def _finding(detector: Detector, evidence: Evidence, limits: Mapping[tuple[str, str], Limit]) -> Finding:
    best: tuple[float, str, float, Limit] | None = None
    for kind, figure in (("golden", detector.golden), ("alone", detector.alone)):
        if figure is None or (kind == "golden" and evidence.golden is None):
            continue
        value, limit = figure(evidence), limits.get((detector.name, kind))
        if value is None or limit is None:
            continue
        excess = (value - limit.value) / (abs(limit.value) + detector.floor_of(kind))
        if best is None or excess > best[0]:
            best = (excess, kind, float(value), limit)
    if best is None:
        return Finding(detector.name, NOT_JUDGED, sentence=_why_not(detector, evidence))
    excess, kind, value, limit = best
    hit = value > limit.value
    rank = bisect_right(limit.clean, value) / len(limit.clean) if limit.clean else None
    return Finding(
        detector.name, FIRED if hit else PASSED, kind, value, limit.value, rank,
        _sentence(detector, evidence, value, limit) if hit else "", detector.remedy if hit else "",
        excess=excess, clean=limit.clean,
    )  # fmt: skip


def _sentence(detector: Detector, evidence: Evidence, value: float, limit: Limit) -> str:
    return detector.cause.format(value=value, limit=limit.value) + (detector.note(evidence) if detector.note else "")


def _why_not(detector: Detector, evidence: Evidence) -> str:
    if not evidence.shape:
        return "there is no surface to judge"
    return f"needs {detector.needs}" if detector.needs else "nothing to judge it by"
