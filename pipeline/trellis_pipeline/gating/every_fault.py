"""`nox -s regress -- --every-fault`: every known fault in every asset of the fixed set, held against the approved goldens.

Each asset is built once, sound. Then each fault is put into the finished GLB and, where the road can have it, re-created
in the road behind the test-only switch of `faults`, at the strength at which it was seen. In every trial the gate of
that name must be the only cause that is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from trellis_regression.golden import Golden, faults_that_pass, find
from trellis_regression.matrix import QUICK_LOOK, Control, Plan, Trial, run
from trellis_regression.parallel import spread

from .faults import FAULTS, broken
from .fixed import INPUTS


@dataclass(frozen=True)
class FixedRoad:
    """The fixed set as a road of the matrix: an asset's name says its input, its options and its part of the pipeline."""

    device: str

    def make(self, name: str, out: Path, stages: Path, *, variant: int = 0) -> None:
        """Makes an asset of the fixed set. Its golden is approved, so there is no other variant."""
        INPUTS[name].make(out, stages, self.device)

    def faults(self) -> Sequence[str]:
        """What `broken` knows."""
        return FAULTS

    def broken(self, fault: str) -> AbstractContextManager[None]:
        """The pipeline with a fault in one of its stages."""
        return broken(fault)


def trials(
    names: Sequence[str], out: Path, goldens: Path, *, device: str, profile: str = "default", jobs: int = 1,
    faults: Sequence[str] | None = None, keep: Path | None = None, report: Callable[[str], None] = lambda line: None,
) -> list[Trial]:  # fmt: skip
    """Every trial of the assets named; their files are kept in `out`, and what was found in `keep`."""
    road = FixedRoad(device)
    controls = list(spread(partial(_sound, road, out, goldens), list(names), jobs))
    plan = Plan(road, out / "broken", profile=profile, historic_only=True, looks=QUICK_LOOK)
    return run(plan, controls, faults=faults, jobs=jobs, keep=keep, report=report)


def outdated(trials: Sequence[Trial]) -> list[str]:
    """The goldens whose stages are not those of a sound road, so that a fault would be traced to a wrong stage."""
    return [
        f"{t.asset}: sound, but {t.first_stage}: where the road was changed on purpose, approve its golden anew"
        for t in trials
        if not t.fault and t.first_stage
    ]


def unguarded(names: Sequence[str], goldens: Path, *, jobs: int = 1) -> list[str]:
    """The approved goldens, all variants, against which a known fault put into them would pass: a sentence for each."""
    found = [golden for name in names for golden in find(str(goldens / name))]
    missed = spread(_missed, found, jobs)
    return [
        f"{golden.name}/{golden.variant}: {', '.join(faults)} would pass against this golden"
        for golden, faults in zip(found, missed, strict=True)
        if faults
    ]


def _missed(golden: Golden) -> list[str]:
    return faults_that_pass(golden.asset(), golden.profile)


def _sound(road: FixedRoad, out: Path, goldens: Path, name: str) -> Control:
    home = out / "sound"
    home.mkdir(parents=True, exist_ok=True)
    variants = find(str(goldens / name))
    golden = next((g for g in variants if g.variant == road.device.split(":")[0]), variants[0])
    control = Control(
        name, home / f"{name}.glb", golden.folder / "asset.glb", home / f"{name}-stages",
        requested_faces=INPUTS[name].faces,
    )  # fmt: skip
    road.make(name, control.path, control.stage_folder)
    return control
