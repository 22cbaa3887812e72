"""Whether build/locks/ says what matrix.toml says. Reads files only, no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .errors import BuildError
from .layout import Checkout, Member
from .locks import Lock, Pin, extra_name, names_a_place, pins, wanted
from .matrix import Matrix, Row


def all_problems(checkout: Checkout) -> list[str]:
    """`problems` and `member_problems` of a checkout."""
    matrix = checkout.matrix
    return problems(matrix, checkout.locks) + member_problems(checkout.members(), matrix, checkout.locks)


def problems(matrix: Matrix, folder: Path) -> list[str]:
    """Everything in which the locks in `folder` and the matrix disagree; empty when nothing does."""
    found: list[str] = []
    expected = wanted(matrix)
    files = {lock.file for lock in expected} | {extra_name(e.row) for e in matrix.extra_files}
    for path in sorted(folder.glob("*")):
        if path.name not in files:
            found.append(f"locks/{path.name}: nothing in matrix.toml asks for it; delete it")
    for name in sorted({extra_name(e.row) for e in matrix.extra_files}):
        found += _read(folder / name)[1]
    for lock in expected:
        found += _lock(matrix, lock, folder / lock.file)
    return found


def member_problems(members: Sequence[Member], matrix: Matrix, folder: Path) -> list[str]:
    """What the workspace's distributions need and a row's lock does not give them."""
    found: list[str] = []
    for row in matrix.rows.values():
        entries = _read(folder / f"{row.name}.txt")[0]
        for member in members:
            for requirement in map(Requirement, member.requirements):
                if not requirement.name.startswith("trellis-"):
                    where = f"locks/{row.name}.txt: {member.name} needs {str(requirement)!r}:"
                    found += _satisfied(where, row.python, requirement, entries)
    return found


def _read(path: Path) -> tuple[list[Pin], list[str]]:
    if not path.is_file():
        return [], [f"locks/{path.name}: missing; run `nox -s lock`"]
    text = path.read_text(encoding="utf-8")
    found = []
    if (line := names_a_place(text)) is not None:
        found.append(f"locks/{path.name}: names a package index or a folder: {line.strip()!r}")
    try:
        entries = pins(text)
    except BuildError as error:
        return [], [*found, f"locks/{path.name}: {error}"]
    found += [f"locks/{path.name}: {pin.name}=={pin.version} has no hash" for pin in entries if not pin.hashes]
    return entries, found


def _lock(matrix: Matrix, lock: Lock, path: Path) -> Iterator[str]:
    entries, bad = _read(path)
    yield from bad
    if not entries:
        return
    if f"# inputs: {lock.inputs}" not in path.read_text(encoding="utf-8"):
        yield f"locks/{lock.file}: made from another matrix.toml; run `nox -s lock`"
    pythons = matrix.rows[lock.row].python if lock.row else (lock.python,)
    for requirement in map(Requirement, lock.requirements):
        yield from _satisfied(f"locks/{lock.file}:", pythons, requirement, entries)
    for row in [matrix.rows[lock.row]] if lock.row and lock.dependencies else []:
        yield from pin_problems(row, entries, f"locks/{lock.file}")
        for extra in (e for e in matrix.extra_files if e.row == row.name):
            if not any(extra.sha256 in p.hashes for p in entries if p.name == canonicalize_name(extra.package)):
                yield f"locks/{lock.file}: does not accept {extra.file}; run `nox -s lock`"
    for toolchain in matrix.toolchains.values():
        if toolchain.nvcc and lock.file == f"toolchain-{toolchain.name}.txt":
            yield from _same(
                f"locks/{lock.file}", "nvidia-cuda-nvcc", toolchain.nvcc, entries, f"toolchain {toolchain.name}"
            )


def _satisfied(where: str, pythons: tuple[str, ...], requirement: Requirement, entries: list[Pin]) -> Iterator[str]:
    name = canonicalize_name(requirement.name)
    have = [p for p in entries if p.name == name]
    for pin in have:
        if not requirement.specifier.contains(pin.version, prereleases=True):
            yield f"{where} {name}=={pin.version} does not satisfy {str(requirement)!r}"
    for python in pythons:
        linux = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
        wanted_there = requirement.marker is None or requirement.marker.evaluate(linux)
        if wanted_there and not any(not p.marker or Marker(p.marker).evaluate(linux) for p in have):
            yield f"{where} lacks {name} for Python {python}"


def _same(where: str, package: str, version: str, entries: list[Pin], who: str) -> Iterator[str]:
    for pin in entries:
        if pin.name == package and pin.version != version:
            yield f"{where}: {package} is {pin.version}, {who} says {version}"
    if not any(pin.name == package for pin in entries):
        yield f"{where}: lacks {package}, {who} says {version}"


def pin_problems(row: Row, entries: list[Pin], where: str) -> Iterator[str]:
    """Where what torch's own metadata pins differs from what the row says.

    `entries` are resolved from the packages' metadata, so Triton and the CUDA runtime in them are the ones that
    this torch was built for.
    """
    yield from _same(where, "torch", row.torch, entries, f"row {row.name}")
    if row.cuda is None or row.triton is None:
        for pin in entries:
            if pin.name == "triton" or pin.name.startswith("nvidia-"):
                yield f"{where}: holds {pin.name}, which a CPU build of torch does not need"
        return
    yield from _same(where, "triton", row.triton, entries, f"row {row.name}")
    runtimes = [
        p for p in entries if p.name in ("nvidia-cuda-runtime", f"nvidia-cuda-runtime-cu{row.cuda.split('.')[0]}")
    ]
    if not runtimes:
        yield f"{where}: torch {row.torch} brings no CUDA runtime for CUDA {row.cuda.split('.')[0]}, row {row.name} says CUDA {row.cuda}"
    for pin in runtimes:
        if ".".join(pin.version.split(".")[:2]) != row.cuda:
            yield f"{where}: torch {row.torch} pins CUDA {pin.version}, row {row.name} says {row.cuda}"
