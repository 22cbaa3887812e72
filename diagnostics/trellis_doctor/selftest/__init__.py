"""Tries every check on environments broken on purpose, and on clean ones: every fault caught, no false alarm."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..checks import ALL
from ..examine import Result, examine
from ..process import Answer
from ..report import Text
from . import extension_faults, faults, torch_faults  # noqa: F401  each adds its environments to the list
from .bench import Bench
from .environment import ENVIRONMENTS, Environment

__all__ = ["ENVIRONMENTS", "Environment", "Verdict", "healthy_answers", "main", "try_one"]


@dataclass(frozen=True)
class Verdict:
    environment: Environment
    results: tuple[Result, ...]

    @property
    def fired(self) -> frozenset[str]:
        return frozenset(r.check.id for r in self.results if r.status in ("error", "warning"))

    @property
    def missed(self) -> frozenset[str]:
        return self.environment.expected - self.fired

    @property
    def false_alarms(self) -> frozenset[str]:
        return self.fired - self.environment.expected

    @property
    def failed(self) -> tuple[Result, ...]:
        return tuple(r for r in self.results if r.status == "failed")

    @property
    def is_right(self) -> bool:
        return not (self.missed or self.false_alarms or self.failed)


def healthy_answers(folder: Path) -> Mapping[str, Answer]:
    """What the probes answer in the healthy environment, asked once."""
    bench = Bench(folder).healthy()
    bench.live = True
    context = bench.context({})
    examine(context, ALL)
    return context.answers


def try_one(environment: Environment, folder: Path, answers: Mapping[str, Answer]) -> Verdict:
    """Builds the environment in `folder`, which must not exist, and runs every check on it."""
    bench = Bench(folder)
    environment.build(bench)
    return Verdict(environment, tuple(examine(bench.context(answers), ALL)))


def main(text: Text, only: Iterable[str] | None = None) -> int:
    """Prints the table check x environment; 0 where all of it is right, else 2 (the doctor is broken)."""
    wanted = set(only or ())
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="trellis-doctor-") as name:
        folder = Path(name)
        answers = healthy_answers(folder / "healthy")
        for i, environment in enumerate(ENVIRONMENTS):
            if wanted and environment.expected and not wanted & environment.expected:
                continue
            verdict = try_one(environment, folder / str(i), answers)
            verdicts.append(verdict)
            print(_line(verdict, text), flush=True)
    caught = {c for v in verdicts for c in v.environment.expected - v.missed}
    print("\nchecks and the environments in which they spoke up as they must:")
    silent = []
    for check in ALL:
        count = sum(check.id in v.environment.expected & v.fired for v in verdicts)
        named = f"  [{', '.join(check.faults)}]" if check.faults else ""
        if not wanted or check.id in wanted:
            print(f"  {check.id:<22} {count:>3}{named}")
            silent += [check.id] if check.id not in caught else []
    wrong = [v for v in verdicts if not v.is_right]
    clean = sum(not v.environment.expected for v in verdicts)
    print(f"\n{len(verdicts)} environments, {clean} of them clean: {len(wrong)} wrong", end="")
    print(f"; no environment for {', '.join(silent)}" if silent else "")
    return 2 if wrong or silent else 0


def _line(verdict: Verdict, text: Text) -> str:
    expected = verdict.environment.expected
    what = f"caught by {', '.join(sorted(expected - verdict.missed))}" if expected - verdict.missed else ""
    if not expected:
        what = "clean, nothing flagged" if verdict.is_right else ""
    parts = [what] if what else []
    if verdict.missed:
        parts.append(f"MISSED by {', '.join(sorted(verdict.missed))}")
    if verdict.false_alarms:
        parts.append(f"FALSE ALARM of {', '.join(sorted(verdict.false_alarms))}")
    parts += [f"{r.check.id} FAILED ITSELF: {r.summary}" for r in verdict.failed]
    line = f"{'ok   ' if verdict.is_right else 'WRONG'} {verdict.environment.name:<58} {'; '.join(parts)}"
    if verdict.is_right and not text.verbose:
        return line
    details = [
        f"        {f.severity} {f.id}: {f.summary}" for r in verdict.results for f in r.findings if f.severity != "note"
    ]
    traces = [r.trace for r in verdict.failed if r.trace]
    return "\n".join([line, *details, *(traces if text.verbose else [])])
