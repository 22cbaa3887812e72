"""Checking one GLB: the one call behind the command, the pytest fixture and the regression session."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from . import khronos, shelf
from .asset import Asset
from .gate import CONSEQUENCE, FIRED, Verdict, judge
from .glb import GlbError
from .profile import Evidence, Looks, gather
from .shelf import Golden
from .thresholds import load


@dataclass(frozen=True)
class Result:
    """A candidate's verdict with all that it rests on."""

    path: Path
    profile: str
    verdict: Verdict
    evidence: Evidence
    asset: Asset
    golden: Golden | None = None
    golden_asset: Asset | None = None

    def as_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "file": self.path.name,
            "profile": self.profile,
            "golden": f"{self.golden.name}/{self.golden.variant}" if self.golden else None,
            **self.verdict.as_json(),
            "measured": self.evidence.as_json(),
        }

    def lines(self) -> list[str]:
        """What a person reads."""
        v = self.verdict
        counted = {s: sum(x.status == s for x in v.findings) for s in ("passed", "not judged")}
        against = f" against {self.golden.name}/{self.golden.variant}" if self.golden else ""
        out = [f"{'PASS' if v.ok else 'FAIL'} {self.path}{against}: {counted['passed']} gates passed"]
        for x in v.findings:
            if x.status == FIRED:
                out += [f"  {x.name}: {x.sentence}", f"      what to do: {x.remedy}"]
            elif x.status == CONSEQUENCE:
                out.append(f"  ({x.name} follows from {x.explained_by})")
        if v.first_stage:
            out.append(f"  {'it passes, and yet' if v.ok else 'where it began'}: {v.first_stage}")
        quiet = [x for x in v.findings if x.status == "not judged"]
        if quiet:
            out.append("  not judged: " + "; ".join(f"{x.name} ({x.sentence})" for x in quiet))
        return out


def check(
    path: str | Path, *, golden: str | Path | None = None, golden_root: str | Path | None = None, profile: str = "default",
    stage_folder: str | Path | None = None, again: str | Path | None = None, requested_faces: int | None = None,
    validate: bool = True, looks: Looks | None = None, device: torch.device | str = "cpu",
) -> Result:  # fmt: skip
    """Measures and judges a GLB.

    Args:
        golden: a name or folder; of its variants the one that fits best decides.
        profile: "default" or "strict" thresholds.
        stage_folder: the kept stages of the road that made it.
        again: what a second run of the same job gave.
        requested_faces: what the exporter was asked for.
        validate: ask the Khronos validator where it is installed.
        device: where to measure. A CUDA device gives the figures of the CPU (test_device.py states how closely).

    Raises:
        GlbError: a file that cannot be used.
        ValueError: an unknown profile.
    """
    limits, path = load(profile), Path(path)
    root, stages = (None if folder is None else Path(folder) for folder in (golden_root, stage_folder))
    variants: list[Golden | None] = [None] if golden is None else [*shelf.find(str(golden), root)]
    if validate:
        khronos.begin(path)  # beside all else
    asset, first = _both(path, variants[0], device)
    own: dict[str, Any] | None = None
    results = []
    for i, variant in enumerate(variants):
        theirs = first if i == 0 else variant.asset(device) if variant else None
        evidence = gather(
            asset, golden=theirs, golden_profile=variant.profile if variant else None, stage_folder=stages,
            again=Asset.read(again, device) if again else None, requested_faces=requested_faces,
            validate=path if validate else None, looks=looks, own=own,
        )  # fmt: skip
        own = evidence.own
        results.append(Result(path, profile, judge(evidence, limits), evidence, asset, variant, theirs))
        if results[-1].verdict.ok:
            break
    return min(
        results, key=lambda r: (not r.verdict.ok, sum(x.status in (FIRED, CONSEQUENCE) for x in r.verdict.findings))
    )


def _both(path: Path, golden: Golden | None, device: torch.device | str) -> tuple[Asset, Asset | None]:
    """The candidate and the golden, read side by side."""
    with ThreadPoolExecutor(1) as beside:
        theirs = beside.submit(golden.asset, device) if golden else None
        return Asset.read(path, device), theirs.result() if theirs else None


def compare(
    a: str | Path,
    b: str | Path,
    *,
    profile: str = "default",
    looks: Looks | None = None,
    device: torch.device | str = "cpu",
) -> Result:
    """`check` of b with a in the golden's place (`trellis-gate diff`)."""
    limits, a, b = load(profile), Path(a), Path(b)
    golden, asset = Asset.read(a, device), Asset.read(b, device)
    if not golden.has_surface:
        raise GlbError(f"{a}: it has no surface to compare with")
    evidence = gather(asset, golden=golden, looks=looks)
    return Result(b, profile, judge(evidence, limits), evidence, asset, None, golden)
