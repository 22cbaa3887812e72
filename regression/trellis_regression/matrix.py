"""Faults against detectors: puts every known fault into every asset of a sample and counts what the gates say.

What makes the finished assets is a `Road`. The regression package has none of its own and never imports one:
`trellis-gate faults --road MODULE` names it (`trellis_pipeline.gating` by default). The fixed set of `nox -s regress` is
another road with controls of its own.
"""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

from . import sample, stages, thresholds
from .asset import Asset
from .detectors import ALL
from .detectors.figures import lost_in_cleaning
from .detectors.relations import EXPLAINS
from .gate import CONSEQUENCE, FIRED, judge
from .inject import ALL as INJECTORS
from .inject import BY_NAME, IN_THE_ROAD, Injector, Model, inject, why_hidden
from .parallel import spread
from .profile import Evidence, Looks, alone, gather

QUICK_LOOK = Looks(96, ((0, 0), (270, 0), (45, 35)))
NO_LOOK = Looks(96, ())
"""Pictures guard against the unknown; no named detector needs them, and a matrix has a thousand trials."""

_WHOLE = frozenset({"empty", "dummy-primitive", "over-cleaned", "spconv-confetti"})


class Road(Protocol):
    """What an export road gives to be tested: sound assets, and its own stages broken on purpose."""

    def make(self, name: str, out: Path, stages: Path, *, variant: int = 0) -> None:
        """Takes the asset of that name through the road; another variant is another, equally sound build or device."""

    def faults(self) -> Sequence[str]:
        """Names of the faults that `broken` re-creates inside the road."""

    def broken(self, fault: str) -> Any:
        """A context manager within which the road has the fault. For tests only."""


class RoadMissingError(RuntimeError):
    """No road to make assets with."""


def load_road(module: str) -> Road:
    """The road of an installed module."""
    try:
        return cast("Road", importlib.import_module(module).road())
    except ImportError as error:
        raise RoadMissingError(
            f"{module} is not installed: the sample is made by an export road (pip install trellis-pipeline)"
        ) from error


@dataclass
class Control:
    """A clean asset, its golden (another variant of the same source, or an approved one) and its kept stages.

    Attributes:
        golden_stage_folder: the golden's stages; None where `profile.json` beside the golden holds what they were.
        requested_faces: what the road was asked for.
    """

    name: str
    path: Path
    golden_path: Path
    stage_folder: Path
    golden_stage_folder: Path | None = None
    requested_faces: int = 4000
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    def asset(self) -> Asset:
        return cast("Asset", self._once("asset", lambda: Asset.read(self.path)))

    def golden(self) -> Asset:
        return cast("Asset", self._once("golden", lambda: Asset.read(self.golden_path)))

    def golden_profile(self) -> dict[str, Any]:
        def measure() -> dict[str, Any]:
            if self.golden_stage_folder is None:
                stored = self.golden_path.with_name("profile.json").read_text(encoding="utf-8")
                return cast("dict[str, Any]", json.loads(stored))
            return {**alone(self.golden()), "stages": stages.profile(self.golden_stage_folder)}

        return cast("dict[str, Any]", self._once("profile", measure))

    def _once(self, key: str, make: Callable[[], Any]) -> Any:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def forget(self) -> None:
        """Frees what was measured."""
        self._cache.clear()

    def evidence(
        self, asset: Asset | None = None, *, stage_folder: Path | None = None, again: Asset | None = None,
        cleaned_share: float | None = None, with_golden: bool = True, looks: Looks = NO_LOOK,
    ) -> Evidence:  # fmt: skip
        """What the gates see of this control, or of an injected version of it."""
        found = gather(
            asset or self.asset(),
            golden=self.golden() if with_golden else None,
            golden_profile=self.golden_profile() if with_golden else None,
            stage_folder=stage_folder or self.stage_folder, again=again or (asset or self.asset()),
            requested_faces=self.requested_faces, looks=looks,
        )  # fmt: skip
        if cleaned_share is not None and "area" in found.stages.get("fine", {}):
            found.stages["fine"] = {**found.stages["fine"], "area": found.stages["fine"]["area"] * (1 - cleaned_share)}
        return found


def make_controls(road: Road, folder: Path, names: Iterable[str] = sample.NAMES, *, jobs: int = 1) -> list[Control]:
    """The sample through the road, twice each; what a folder already holds is taken from there."""
    return list(spread(partial(make_control, road, folder), list(names), jobs))


def make_control(road: Road, folder: Path, name: str) -> Control:
    """One asset through the road, twice."""
    home = folder / name.replace(" ", "-")
    control = Control(name, home / "asset.glb", home / "golden.glb", home / "stages", home / "golden-stages")
    if not (home / "complete").is_file():
        home.mkdir(parents=True, exist_ok=True)
        road.make(name, control.golden_path, home / "golden-stages", variant=0)
        road.make(name, control.path, control.stage_folder, variant=1)
        (home / "complete").touch()
    return control


def clean_figures(controls: Iterable[Control], *, jobs: int = 1) -> dict[str, dict[str, list[float]]]:
    """Every detector's figures on clean assets, by detector and kind."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for figures in spread(_figures, list(controls), jobs):
        for (detector, kind), value in figures.items():
            found[detector][kind].append(value)
    return found


def _figures(control: Control) -> dict[tuple[str, str], float]:
    return figures_of(control.evidence(looks=QUICK_LOOK))


def figures_of(evidence: Evidence) -> dict[tuple[str, str], float]:
    """Every detector's figures, by detector and kind."""
    found = {}
    for detector in ALL:
        for kind, figure in (("alone", detector.alone), ("golden", detector.golden)):
            value = figure(evidence) if figure else None
            if value is not None:
                found[detector.name, kind] = float(value)
    return found


def calibrate(controls: Sequence[Control], path: Path = thresholds.TABLE, *, jobs: int = 1) -> None:
    """Writes the table of thresholds from the controls that are for it."""
    chosen = [c for c in controls if c.name in sample.CALIBRATION]
    thresholds.write(clean_figures(chosen, jobs=jobs), {"assets": [c.name for c in chosen]}, path)


@dataclass(frozen=True)
class Trial:
    """One fault in one asset: which gates named a cause, which only followed, and where the road first differed.

    Attributes:
        hidden: by which measured property this asset cannot show the fault; then it was not put in.
        excess: how far beyond its limit each gate is that fired; `cleaned`: which share the kept stages say cleaning took.
    """

    fault: str
    strength: str
    asset: str
    historic: bool
    causes: tuple[str, ...]
    consequences: tuple[str, ...]
    sentence: str = ""
    first_stage: str = ""
    hidden: str = ""
    excess: dict[str, float] = field(default_factory=dict)
    cleaned: float = 0.0

    @property
    def caught(self) -> bool:
        """Whether the fault's own gate is among the causes; of two faults, both."""
        return set(self.fault.split(" + ")) <= set(self.causes)

    @property
    def exact(self) -> bool:
        """Whether there are no others."""
        return set(self.fault.split(" + ")) == set(self.causes)


def clean_trial(control: Control, limits: Any) -> Trial:
    """A control as it is."""
    return _trial("", "", control, False, control.evidence(looks=QUICK_LOOK), limits)


def injected_trials(
    control: Control, injector: Injector, limits: Any, strengths: Sequence[str] | None = None, looks: Looks = NO_LOOK
) -> Iterator[Trial]:
    """One fault at its strengths in one control; nothing where the fault cannot be."""
    model = Model.of(control.asset())
    if not injector.applies(model):
        return
    for strength in strengths or tuple(injector.strengths):
        if why := why_hidden(model, injector.name, strength):
            yield Trial(
                injector.name, strength, control.name, strength == injector.historic, (), (), hidden=why
            )  # fmt: skip
            continue
        made = inject(model, injector.name, strength)
        asset = Asset.parse(made.data, control.name)
        if injector.second:
            evidence = control.evidence(again=asset, looks=looks)
        else:
            lost = injector.strengths[strength][1] if injector.loses_stages else None
            evidence = control.evidence(asset, cleaned_share=lost, looks=looks)
        yield _trial(injector.name, strength, control, made.historic, evidence, limits)


def independent_pairs(control: Control) -> list[tuple[str, str]]:
    """Faults that can be in an asset at once, at their historic strengths, of which neither follows from the other.

    Those that leave nothing of an asset, and a second run, are not among them. One that would simplify the other away is
    the first to be put in.
    """
    model = Model.of(control.asset())
    able = [i for i in INJECTORS if not i.second and i.name not in _WHOLE and i.applies(model)]
    able.sort(key=lambda i: not i.simplifies)
    names = [i.name for i in able if not why_hidden(model, i.name, i.historic)]
    return [
        (a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if b not in EXPLAINS.get(a, {}) and a not in EXPLAINS.get(b, {})
    ]


def pair_trial(limits: Any, task: tuple[Control, str, str]) -> Trial | None:
    """Two faults in one control, the one put into the file that holds the other; none where the first rules it out.

    The trial has the name of both, joined by " + ", and both must be among its causes, unless the first hides the second.
    """
    control, first, second = task
    once = inject(Model.of(control.asset()), first, BY_NAME[first].historic)
    model = Model.of(Asset.parse(once.data, control.name))
    if not BY_NAME[second].applies(model):
        return None
    if why := why_hidden(model, second, BY_NAME[second].historic):
        return Trial(f"{first} + {second}", "both", control.name, True, (), (), hidden=why)
    twice = inject(model, second, BY_NAME[second].historic)
    evidence = control.evidence(Asset.parse(twice.data, control.name))
    control.forget()
    return _trial(f"{first} + {second}", "both", control, True, evidence, limits)


def road_trial(
    road: Road, fault: str, control: Control, folder: Path, limits: Any, looks: Looks = NO_LOOK
) -> Trial:  # fmt: skip
    """One fault re-created inside the road, on one source. A road that writes nothing shows nothing."""
    if why := why_hidden(Model.of(control.asset()), fault, IN_THE_ROAD):
        return Trial(fault, IN_THE_ROAD, control.name, True, (), (), hidden=why)
    home = folder / control.name.replace(" ", "-")
    home.mkdir(parents=True, exist_ok=True)
    out, kept = home / f"{fault}.glb", home / f"{fault}-stages"
    try:
        with road.broken(fault):
            road.make(control.name, out, kept, variant=1)
    except ValueError as error:
        return Trial(fault, IN_THE_ROAD, control.name, True, (), (), f"no file was written: {error}")
    asset = Asset.read(out)
    second = fault == "second-run"
    evidence = (
        control.evidence(again=asset, looks=looks)
        if second
        else control.evidence(asset, stage_folder=kept, looks=looks)
    )
    return _trial(fault, IN_THE_ROAD, control, True, evidence, limits)


def _trial(fault: str, strength: str, control: Control, historic: bool, evidence: Evidence, limits: Any) -> Trial:
    verdict = judge(evidence, limits)
    causes = tuple(x.name for x in verdict.findings if x.status == FIRED)
    followed = tuple(x.name for x in verdict.findings if x.status == CONSEQUENCE)
    said = next((x.sentence for x in verdict.fired if x.name == fault), "")
    excess = {x.name: round(x.excess, 4) for x in verdict.findings if x.name in causes + followed}
    cleaned = lost_in_cleaning(evidence) or 0.0
    return Trial(
        fault, strength, control.name, historic, causes, followed, said, verdict.first_stage or "",
        excess=excess, cleaned=cleaned,
    )  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What every trial of a run shares, and what is sent to the processes that do them."""

    road: Road
    folder: Path
    profile: str = "default"
    historic_only: bool = False
    looks: Looks = NO_LOOK

    def trials(self, task: tuple[Control, str]) -> list[Trial]:
        """A control clean (no fault), or with one fault injected and re-created in the road; none where it cannot be."""
        control, fault = task
        limits = thresholds.load(self.profile)
        if not fault:
            return [clean_trial(control, limits)]
        injector = BY_NAME[fault]
        strengths = [injector.historic] if self.historic_only else None
        found = list(injected_trials(control, injector, limits, strengths, self.looks))
        if found and fault in self.road.faults():
            found.append(road_trial(self.road, fault, control, self.folder, limits, self.looks))
        return found


def run(
    plan: Plan, controls: Sequence[Control], *, faults: Sequence[str] | None = None,
    inject_into: Sequence[str] | None = None, jobs: int = 1, only: Sequence[str] | None = None,
    keep: Path | None = None, report: Callable[[str], None] = lambda line: None,
) -> list[Trial]:  # fmt: skip
    """All trials: every control clean, and in those named by `inject_into` (all by default) every fault, injected into
    the finished file at its strengths and re-created inside the road.

    A fault that none of those can have (alpha that is lost needs alpha) is tried in every control that can.

    Args:
        only: the controls of which the trials are made; the others only tell which faults are rare.
        keep: a file for the trials as JSON lines; it has another name while they are being made.
    """
    wanted = [i.name for i in INJECTORS if faults is None or i.name in faults]
    chosen = [c for c in controls if inject_into is None or c.name in inject_into]
    models = {c.name: Model.of(c.asset()) for c in chosen}
    rare = {f for f in wanted if not any(BY_NAME[f].applies(m) for m in models.values())}
    ours = [c for c in controls if only is None or c.name in only]
    tasks = [(c, f) for c in ours for f in wanted if c in chosen or f in rare]
    tasks += [(c, "") for c in ours]
    for control in controls:
        control.forget()
    found = []
    growing = None if keep is None else keep.with_name(keep.name + ".part")
    if growing is not None:
        growing.unlink(missing_ok=True)
    for (control, fault), trials in zip(tasks, spread(plan.trials, tasks, jobs), strict=True):
        found += trials
        if growing is not None:
            save(trials, growing)
        report(f"{control.name} {fault or 'clean'}: {', '.join(f'{t.strength} {t.causes}' for t in trials)}")
        control.forget()
    if keep is not None and growing is not None:
        growing.replace(keep)
    return found


def of_part(names: Sequence[str], chosen: Sequence[str], part: tuple[int, int]) -> list[str]:
    """The assets of a part; those into which all faults are put are spread evenly."""
    ordered = [n for n in names if n in chosen] + [n for n in names if n not in chosen]
    return ordered[part[0] - 1 :: part[1]]


def run_pairs(
    controls: Sequence[Control], *, faults: Sequence[str] | None = None, jobs: int = 1, keep: Path | None = None
) -> list[Trial]:
    """Every two independent faults, or those of which one is in `faults`, in each of the controls; also written to `keep`."""
    tasks = [(c, a, b) for c in controls for a, b in independent_pairs(c) if faults is None or {a, b} & set(faults)]
    for control in controls:
        control.forget()
    found = [t for t in spread(partial(pair_trial, thresholds.load()), tasks, jobs) if t is not None]
    if keep is not None:
        keep.unlink(missing_ok=True)
        save(found, keep)
    return found


def save(trials: Sequence[Trial], path: Path) -> None:
    """Adds the trials to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(asdict(t)) + "\n" for t in trials)
