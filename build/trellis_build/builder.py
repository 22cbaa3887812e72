"""`nox -s build`: every wheel of a row, with its provenance, in dist/<row>/."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import compile as compiling
from . import locks, sbom, shell, toolchains
from .compile import Built, Settings
from .errors import BuildError
from .fatbin import order
from .layout import Checkout, Member
from .matrix import Matrix, Row
from .toolchains import Request, Toolchain

REPORT = "build-report.json"


@dataclass(frozen=True)
class Outcome:
    """What became of a row."""

    folder: Path
    wheels: tuple[Path, ...]
    failures: dict[str, str]  # member -> why

    @property
    def ok(self) -> bool:
        return not self.failures


def targets(matrix: Matrix, row: Row, narrowed: Sequence[str]) -> tuple[str, ...]:
    """The architectures to build for: the flavour's own, or those asked for with --arch."""
    if row.toolchain is None:
        if narrowed:
            raise BuildError(f"row {row.name} has no CUDA flavour, so --arch {' '.join(narrowed)} means nothing there")
        return ()
    defaults = matrix.architectures[row.toolchain.flavour]
    known = {*defaults, *(a.replace("sm_", "compute_") for a in defaults)}
    for architecture in narrowed:
        if architecture not in known:
            raise BuildError(f"--arch {architecture}: expected one of {', '.join(order(known))}")
    return order(set(narrowed or defaults))


def build_row(
    checkout: Checkout,
    row: Row,
    *,
    architectures: Sequence[str] = (),
    system_cuda: bool = False,
    members: Sequence[Member] | None = None,
) -> Outcome:
    """Builds every member's wheel for `row` into dist/<row>/, going on after a failure so that all are reported.

    Raises:
        BuildError: no compiler serves the row; nothing was compiled.
    """
    matrix = checkout.matrix
    cxx = compiling.cxx_compiler()
    request = Request(row, targets(matrix, row, architectures), os.environ, system_cuda)
    toolchain = toolchains.resolve(checkout, request)
    cuda = f"; {toolchain.identity} from {toolchain.origin}" if toolchain else ""
    print(f"row {row.name}: {cxx}{cuda}", flush=True)
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or matrix.epoch)
    tools = hashlib.sha256(locks.read(checkout.locks / "build.txt").encode()).hexdigest()
    with shell.alone(checkout.out):
        return _build_members(
            checkout, row, Settings(epoch, tools, cxx, toolchain), checkout.members() if members is None else members
        )


def _build_members(checkout: Checkout, row: Row, settings: Settings, members: Sequence[Member]) -> Outcome:
    made: list[tuple[Path, Built]] = []
    failures: dict[str, str] = {}
    reused = 0
    for member in members:
        try:
            path, built, cached = compiling.build(checkout, member, settings)
        except BuildError as error:
            failures[member.name] = str(error)
            print(error, flush=True)
            continue
        made.append((path, built))
        reused += cached
    if reused:
        print(f"  {reused} wheels unchanged since they were last built", flush=True)
    outcome = _publish(checkout, row, settings, made, failures)
    if failures:
        print(f"row {row.name}: FAILED for {', '.join(failures)}; see {outcome.folder / REPORT}", flush=True)
    else:
        print(f"row {row.name}: {len(made)} wheels in {outcome.folder}", flush=True)
    return outcome


def _publish(
    checkout: Checkout, row: Row, settings: Settings, made: list[tuple[Path, Built]], failures: dict[str, str]
) -> Outcome:
    """Writes dist/<row>/ anew, in place of what was there."""
    folder = checkout.dist(row.name)
    fresh = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for path, _ in made:
        shutil.copyfile(path, fresh / path.name)
    facts = [built for _, built in made]
    locked = locks.pins(locks.read(checkout.locks / f"{row.name}.txt"))
    bill = sbom.document(row, facts, locked, settings.toolchain, settings.cxx, settings.epoch)
    (fresh / "sbom.cdx.json").write_text(bill, encoding="utf-8")
    (fresh / REPORT).write_text(json.dumps(report(row, settings, facts, failures), indent=1) + "\n", encoding="utf-8")
    sums = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(fresh.iterdir())]
    (fresh / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)
    return Outcome(folder, tuple(sorted(folder.glob("*.whl"))), failures)


def report(row: Row, settings: Settings, built: Sequence[Built], failures: dict[str, str]) -> dict[str, Any]:
    """The contents of build-report.json."""
    chain: Toolchain | None = settings.toolchain
    floors = [f.glibc for b in built for f in b.libraries]
    return {
        "schema": 1,
        "row": row.name,
        "ok": not failures,
        "failures": failures,
        "machine": {"system": platform.system(), "processor": platform.machine(), "python": sys.version.split()[0]},
        "source_date_epoch": settings.epoch,
        "cxx": settings.cxx,
        "cuda": None
        if chain is None
        else {
            "flavour": chain.flavour,
            "compiler": chain.identity,
            "origin": chain.origin,
            "flags": list(chain.flags),
            "architectures": list(chain.architectures),
        },
        "glibc_floor": ".".join(map(str, max(floors))) if floors else None,
        "wheels": [
            {
                "member": b.member,
                "file": b.wheel,
                "sha256": b.sha256,
                "seconds": b.seconds,
                "libraries": [
                    {
                        "flavour": f.flavour,
                        "architectures": list(f.architectures),
                        "flags": f.flags,
                        "exports": list(f.exports),
                        "needed": list(f.needed),
                        "glibc_floor": ".".join(map(str, f.glibc)),
                        "size": f.size,
                    }
                    for f in b.libraries
                ],
            }
            for b in built
        ],
    }
