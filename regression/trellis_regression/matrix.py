"""Faults against detectors: puts every known fault into every asset of a sample and counts what the gates say.

What turns a source into a finished asset is a `Road`. The regression package has none of its own and never imports
one: `trellis-gate faults --road MODULE` names it (`trellis_pipeline.gating` by default).
"""

from __future__ import annotations

import importlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from . import sample, stages, thresholds
from .asset import Asset
from .detectors import ALL
from .gate import CONSEQUENCE, FIRED, Verdict, judge
from .inject import ALL as INJECTORS
from .inject import BY_NAME, Injector, Model, inject
from .profile import Evidence, Looks, alone, gather

QUICK_LOOK = Looks(96, ((0, 0), (270, 0), (45, 35)))
NO_LOOK = Looks(96, ())
"""Pictures guard against the unknown; no named detector needs them, and a matrix has a thousand trials."""


class Road(Protocol):
    """What an export road gives to be tested: sound assets, and its own stages broken on purpose."""

    def remake(self, source: Path, out: Path, stages: Path, *, variant: int = 0) -> None:
        """Takes a source through the road; another variant is another, equally sound build or device."""

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
    """A clean asset, its golden (another variant of the same source) and its kept stages."""

    name: str
    path: Path
    golden_path: Path
    stage_folder: Path
    golden_stage_folder: Path
    _cache: dict[str, Any] = field(default_factory=dict, repr=False)

    def asset(self) -> Asset:
        return cast("Asset", self._once("asset", lambda: Asset.read(self.path)))

    def golden(self) -> Asset:
        return cast("Asset", self._once("golden", lambda: Asset.read(self.golden_path)))

    def golden_profile(self) -> dict[str, Any]:
        def measure() -> dict[str, Any]:
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
            requested_faces=4000, looks=looks,
        )  # fmt: skip
        if cleaned_share is not None and "area" in found.stages.get("fine", {}):
            found.stages["fine"] = {**found.stages["fine"], "area": found.stages["fine"]["area"] * (1 - cleaned_share)}
        return found


def make_controls(road: Road, folder: Path, names: Iterable[str] = sample.NAMES) -> list[Control]:
    """The sample through the road, twice each; what a folder already holds is taken from there."""
    controls = []
    for name in names:
        home = folder / name.replace(" ", "-")
        control = Control(name, home / "asset.glb", home / "golden.glb", home / "stages", home / "golden-stages")
        if not (home / "complete").is_file():
            home.mkdir(parents=True, exist_ok=True)
            source = home / "source.glb"
            source.write_bytes(sample.build(name))
            road.remake(source, control.golden_path, control.golden_stage_folder, variant=0)
            road.remake(source, control.path, control.stage_folder, variant=1)
            (home / "complete").touch()
        controls.append(control)
    return controls


def clean_figures(controls: Iterable[Control]) -> dict[str, dict[str, list[float]]]:
    """Every detector's figures on clean assets, by detector and kind."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for control in controls:
        evidence = control.evidence(looks=QUICK_LOOK)
        for detector in ALL:
            for kind, figure in (("alone", detector.alone), ("golden", detector.golden)):
                value = figure(evidence) if figure else None
                if value is not None:
                    found[detector.name][kind].append(float(value))
        control.forget()
    return found


def calibrate(controls: Sequence[Control], path: Path = thresholds.TABLE) -> None:
    """Writes the table of thresholds from the controls that are for it."""
    chosen = [c for c in controls if c.name in sample.CALIBRATION]
    thresholds.write(clean_figures(chosen), {"assets": [c.name for c in chosen]}, path)


@dataclass(frozen=True)
class Trial:
    """One fault in one asset: which gates named a cause, and which only followed."""

    fault: str
    strength: str
    asset: str
    historic: bool
    causes: tuple[str, ...]
    consequences: tuple[str, ...]
    sentence: str = ""

    @property
    def caught(self) -> bool:
        """Whether the fault's own gate is among the causes."""
        return self.fault in self.causes

    @property
    def exact(self) -> bool:
        """Whether it is the only one."""
        return self.causes == (self.fault,)


def clean_trial(control: Control, limits: Any) -> Trial:
    """A control as it is."""
    return _trial("", "", control, False, judge(control.evidence(looks=QUICK_LOOK), limits))


def injected_trials(
    control: Control, injector: Injector, limits: Any, strengths: Sequence[str] | None = None
) -> Iterator[Trial]:
    """One fault at its strengths in one control; nothing where the fault cannot be."""
    model = Model.of(control.asset())
    if not injector.applies(model):
        return
    for strength in strengths or tuple(injector.strengths):
        made = inject(model, injector.name, strength)
        asset = Asset.parse(made.data, control.name)
        if injector.second:
            evidence = control.evidence(again=asset)
        else:
            lost = injector.strengths[strength][1] if injector.loses_stages else None
            evidence = control.evidence(asset, cleaned_share=lost)
        yield _trial(injector.name, strength, control, made.historic, judge(evidence, limits))


def road_trial(road: Road, fault: str, control: Control, folder: Path, limits: Any) -> Trial:
    """One fault re-created inside the road, on one source. A road that refuses to write counts as caught."""
    out, kept = folder / f"{fault}.glb", folder / f"{fault}-stages"
    source = control.path.parent / "source.glb"
    try:
        with road.broken(fault):
            road.remake(source, out, kept, variant=1)
    except ValueError as error:
        return Trial(fault, "in the road", control.name, True, (fault,), (), f"refused: {error}")
    asset = Asset.read(out)
    second = fault == "second-run"
    evidence = control.evidence(again=asset) if second else control.evidence(asset, stage_folder=kept)
    return _trial(fault, "in the road", control, True, judge(evidence, limits))


def _trial(fault: str, strength: str, control: Control, historic: bool, verdict: Verdict) -> Trial:
    causes = tuple(x.name for x in verdict.findings if x.status == FIRED)
    followed = tuple(x.name for x in verdict.findings if x.status == CONSEQUENCE)
    said = next((x.sentence for x in verdict.fired if x.name == fault), "")
    return Trial(fault, strength, control.name, historic, causes, followed, said)


def run(
    road: Road, controls: Sequence[Control], folder: Path, *, profile: str = "default",
    faults: Sequence[str] | None = None, inject_into: Sequence[str] | None = None, historic_only: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> list[Trial]:  # fmt: skip
    """All trials: every control clean, and in those named by `inject_into` (all by default) every fault, injected into
    the finished file at its strengths and re-created inside the road.

    A fault that none of those can have (alpha that is lost needs alpha) is tried in every control that can.
    """
    limits = thresholds.load(profile)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [i for i in INJECTORS if faults is None or i.name in faults]
    chosen = [c for c in controls if inject_into is None or c.name in inject_into]
    rare = {i.name for i in wanted if not any(_applies(i.name, c) for c in chosen)}
    found = []
    for control in controls:
        found.append(clean_trial(control, limits))
        for injector in wanted:
            if (control in chosen or injector.name in rare) and _applies(injector.name, control):
                found += injected_trials(control, injector, limits, [injector.historic] if historic_only else None)
                if injector.name in road.faults():
                    found.append(road_trial(road, injector.name, control, folder, limits))
        control.forget()
        report(f"{control.name}: {sum(t.asset == control.name for t in found)} trials")
    return found


def _applies(fault: str, control: Control) -> bool:
    return BY_NAME[fault].applies(Model.of(control.asset()))


def save(trials: Sequence[Trial], path: Path) -> None:
    """The trials as JSON lines."""
    path.write_text("".join(json.dumps(t.__dict__) + "\n" for t in trials), encoding="utf-8")
