"""Judging: figures against thresholds, and which of the gates that fired is the cause."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import stages
from .detectors import ALL, BY_NAME, Detector
from .profile import Evidence
from .thresholds import Limit

PASSED, FIRED, CONSEQUENCE, NOT_JUDGED = "passed", "fired", "consequence", "not judged"


@dataclass(frozen=True)
class Finding:
    """One gate's verdict.

    Attributes:
        kind: "alone" or "golden", whichever figure decided.
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
    fired = {x.name for x in findings if x.status == FIRED}
    final = []
    for finding in findings:
        cause = _cause(finding.name, fired, evidence) if finding.status == FIRED else ""
        if cause:
            finding = Finding(**{**finding.__dict__, "status": CONSEQUENCE, "explained_by": cause})
        final.append(finding)
    first = None
    if evidence.stages and evidence.golden_stages:
        first = stages.first_difference(evidence.stages, evidence.golden_stages)
    return Verdict(tuple(final), first)


def _cause(name: str, fired: set[str], evidence: Evidence) -> str:
    """Which fired gate explains this one; one that is no consequence itself, where there is one."""
    explaining = _explaining(name, fired, evidence)
    roots = [x for x in explaining if not _explaining(x, fired, evidence)]
    return (roots or explaining or [""])[0]


def _explaining(name: str, fired: set[str], evidence: Evidence) -> list[str]:
    """The fired gates that name this one as following. `empty` and `over-cleaned` do so mutually; the stages decide."""
    found = []
    for detector in ALL:
        if detector.name not in fired or name not in detector.explains:
            continue
        if {detector.name, name} == {"empty", "over-cleaned"}:
            cleaned_away = (BY_NAME["over-cleaned"].alone or (lambda e: None))(evidence)
            if name == ("over-cleaned" if (cleaned_away or 0) > 0.5 else "empty"):
                continue
        found.append(detector.name)
    return found


def _finding(detector: Detector, evidence: Evidence, limits: Mapping[tuple[str, str], Limit]) -> Finding:
    best: tuple[float, str, float, Limit] | None = None
    for kind, figure in (("golden", detector.golden), ("alone", detector.alone)):
        if figure is None or (kind == "golden" and evidence.golden is None):
            continue
        value, limit = figure(evidence), limits.get((detector.name, kind))
        if value is None or limit is None:
            continue
        # How far beyond the limit, on a scale that both kinds share.
        excess = (value - limit.value) / (abs(limit.value) + detector.floor)
        if best is None or excess > best[0]:
            best = (excess, kind, float(value), limit)
    if best is None:
        return Finding(detector.name, NOT_JUDGED, sentence=_why_not(detector, evidence))
    _, kind, value, limit = best
    hit = value > limit.value
    rank = bisect_right(limit.clean, value) / len(limit.clean) if limit.clean else None
    return Finding(
        detector.name, FIRED if hit else PASSED, kind, value, limit.value, rank,
        _sentence(detector, evidence, value, limit) if hit else "", detector.remedy if hit else "",
        clean=limit.clean,
    )  # fmt: skip


def _sentence(detector: Detector, evidence: Evidence, value: float, limit: Limit) -> str:
    return detector.cause.format(value=value, limit=limit.value) + (detector.note(evidence) if detector.note else "")


def _why_not(detector: Detector, evidence: Evidence) -> str:
    if not evidence.shape:
        return "there is no surface to judge"
    return f"needs {detector.needs}" if detector.needs else "nothing to judge it by"
