"""What a comparison with upstream is made of: cases drawn from a seed, what each found, and the table of them."""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Finding:
    """One comparison: what was fed, what was measured, how far apart the two were and how far they may be."""

    case: str
    measure: str
    value: float
    limit: float

    @property
    def differs(self) -> bool:
        return not self.value <= self.limit  # not a number differs


@dataclass
class Setting:
    """What a case may use: its own random numbers, upstream's modules and the device."""

    seed: int
    modules: dict[str, Any]
    device: torch.device
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def one_of(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def chance(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def tensor(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


Case = Callable[[Setting], Iterator[Finding]]


@dataclass(frozen=True)
class Registered:
    """A case and the modules of upstream that it needs."""

    name: str
    modules: tuple[str, ...]
    draw: Case
    share: float
    """How many seeds it gets, of those asked for."""


CASES: list[Registered] = []


def case(*modules: str, share: float = 1.0) -> Callable[[Case], Case]:
    def register(draw: Case) -> Case:
        CASES.append(Registered(draw.__name__, modules, draw, share))
        return draw

    return register


def share(condition: torch.Tensor) -> float:
    """Of how many it is true; 0 of nothing."""
    return float(condition.double().mean()) if condition.numel() else 0.0


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Norm of the difference over the norm of theirs, as the parity check measures it."""
    ours, theirs = ours.detach().double().cpu(), theirs.detach().double().cpu()
    if ours.shape != theirs.shape:
        return float("nan")
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-30)) if theirs.numel() else 0.0


def rows_in_common(ours: torch.Tensor, theirs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Indices of the rows that are in both integer tensors, in the same order, and the rest's share of all."""
    index = {tuple(row): i for i, row in enumerate(ours.cpu().tolist())}
    pairs = [(index[tuple(row)], j) for j, row in enumerate(theirs.cpu().tolist()) if tuple(row) in index]
    every = len(index) + len(theirs) - len(pairs)
    left = torch.tensor([i for i, _ in pairs], dtype=torch.long)
    right = torch.tensor([j for _, j in pairs], dtype=torch.long)
    return left, right, 1 - len(pairs) / every if every else 0.0


def run(registered: Registered, setting: Setting) -> list[Finding]:
    """A case's findings; an exception of ours or theirs is one of them."""
    try:
        return list(registered.draw(setting))
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({where.filename[-40:]}:{where.lineno})"
        return [Finding(f"seed {setting.seed}", f"exception: {said}", float("nan"), 0.0)]


def untune(package: str) -> int:
    """Has the autotuners of a loaded package take one configuration each, untimed, and float32 whole; how many there were.

    Upstream's kernels time every configuration for every new shape, and write all results to a file after each: minutes for a
    few dozen random shapes. What they compute does not depend on it. The last configuration is the smallest, which fits every
    type.
    """
    changed = 0
    for name, module in list(sys.modules.items()):
        if name != package and not name.startswith(package + "."):
            continue
        if hasattr(module, "allow_tf32"):
            module.allow_tf32 = False
        for held in vars(module).values():
            if not (hasattr(held, "cache") and (hasattr(held, "configs") or hasattr(held, "config_fn"))):
                continue
            if getattr(held, "configs", None):
                held.configs = held.configs[-1:]
            elif (several := getattr(held, "config_fn", None)) is not None:
                held.config_fn = lambda *args, several=several, **given: several(*args, **given)[:1]
            held.cache = {}
            changed += 1
    return changed


Found = Callable[[int, list[Finding]], None]


def draw(
    registered: Registered, modules: dict[str, Any], device: torch.device, seeds: range, seconds: float, found: Found
) -> None:
    """Hands each seed's findings on as it ends, after an empty list as it begins. No seed begins after ``seconds``.

    Every seed that took a second is named beside its time on standard error.
    """
    begin = time.perf_counter()
    for seed in seeds:
        started = time.perf_counter()
        if started - begin > seconds:
            print(f"{registered.name}: {seconds:.0f} s are over before seed {seed}", file=sys.stderr, flush=True)
            return
        found(seed, [])
        found(seed, run(registered, Setting(seed, modules, device)))
        if (taken := time.perf_counter() - started) > 1:
            print(f"{registered.name}: seed {seed} took {taken:.1f} s", file=sys.stderr, flush=True)


def chosen(only: list[str] | None) -> list[Registered]:
    return [r for r in CASES if not only or any(word in r.name for word in only)]


def rows(name: str, findings: list[Finding]) -> int:
    """Prints one line for each measure of a case; how many measures lie beyond their limits."""
    measures: dict[str, list[Finding]] = {}
    for finding in findings:
        measures.setdefault(finding.measure, []).append(finding)
    different = 0
    for measure, held in measures.items():
        beyond = [f for f in held if f.differs]
        worst = max(held, key=lambda f: f.value if f.value == f.value else math.inf)
        different += bool(beyond)
        first = beyond[0].case if beyond else ""
        print(f"| {name} | {measure} | {len(held)} | {worst.value:.3g} | {worst.limit:.3g} | {len(beyond)} | {first} |")
    sys.stdout.flush()
    return different


def compare(
    modules: dict[str, Any],
    device: torch.device,
    seeds: range,
    only: list[str] | None,
    seconds: float,
    apart: Callable[[Registered, range], list[Finding]] | None,
) -> int:
    """Runs every case whose modules are there and prints one line for each measure; how many measures differ.

    Args:
        seconds: a case begins no further seed after these.
        apart: runs a case in a process of its own, so that one that ends it is a finding; None runs it here.
    """
    different = 0
    print("| case | measure | compared | worst | limit | beyond | the first beyond |\n|---|---|---|---|---|---|---|")
    for registered in chosen(only):
        if missing := [m for m in registered.modules if m not in modules]:
            print(f"| {registered.name} | left out, no {', '.join(missing)} | | | | | |")
            continue
        begin, some = time.perf_counter(), seeds[: max(1, round(len(seeds) * registered.share))]
        findings: list[Finding] = []
        if apart:
            findings = apart(registered, some)
        else:
            draw(registered, modules, device, some, seconds, lambda _, found, held=findings: held.extend(found))  # type: ignore[misc]
        different += rows(registered.name, findings)
        print(f"<!-- {registered.name}: {time.perf_counter() - begin:.1f} s -->", flush=True)
    return different
