"""Hash-locked requirement files, one per row and purpose, in build/locks/."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from .errors import BuildError
from .matrix import Matrix, Row

_ENTRY = re.compile(r"(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^\s;\\]+)(?P<rest>[^\\]*)")
_PLACE = re.compile(r"https?://|file:|--(extra-)?index|--find-links|--trusted-host|(?<![\w=])/\w")


@dataclass(frozen=True)
class Lock:
    """One file to be: what goes in, and how it is resolved."""

    file: str
    title: str
    requirements: tuple[str, ...]
    python: str  # oldest Python that it serves
    dependencies: bool = True  # whether what the requirements need comes along
    row: str | None = None

    @property
    def inputs(self) -> str:
        """Digest of all that decides the contents, so that a stale file is seen without the network."""
        text = json.dumps([self.requirements, self.python, self.dependencies], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def wanted(matrix: Matrix) -> list[Lock]:
    """Every lock that the matrix asks for, except those split off another (see `split_cuda_only`)."""
    first = min((p for row in matrix.rows.values() for p in row.python), key=_python_key)
    found = [
        Lock("build.txt", "Tools that build and inspect wheels", matrix.groups["build"], first),
        Lock("lock.txt", "The resolver of these files", matrix.groups["lock"], first),
    ]
    for toolchain in matrix.toolchains.values():
        found.append(
            Lock(
                f"toolchain-{toolchain.name}.txt",
                f"Compiler of toolchain {toolchain.name}",
                toolchain.requirements,
                first,
                # A toolkit folder is laid out from exactly these packages; libraries that they would bring stay out.
                dependencies=toolchain.kind == "nvcc-packages",
            )
        )
    for row in matrix.rows.values():
        python = min(row.python, key=_python_key)
        found.append(Lock(f"{row.name}.txt", f"Row {row.name}", row_requirements(matrix, row), python, row=row.name))
        if row.flash_attn:
            tools = (f"flash-attn=={row.flash_attn}", *matrix.groups["flash-attn"])
            title = f"Source of flash-attn for row {row.name}, and what its build needs"
            found.append(Lock(f"{row.name}-flash-attn.txt", title, tools, python, dependencies=False, row=row.name))
    return found


def _python_key(version: str) -> tuple[int, ...]:
    return tuple(int(p) for p in version.split("."))


def row_requirements(matrix: Matrix, row: Row) -> tuple[str, ...]:
    """What a row's environment is asked to hold: torch, which brings its own CUDA and Triton, and the row's groups."""
    return (f"torch=={row.torch}", *dict.fromkeys(item for group in row.groups for item in matrix.groups[group]))


def extra_name(row: str) -> str:
    """The second lock of a row whose torch may also be the CUDA build."""
    return f"{row}-cuda-torch.txt"


@dataclass(frozen=True)
class Pin:
    """One locked package."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]


def blocks(text: str) -> Iterator[str]:
    """The entries of a requirements file: a line that starts one, and its indented continuation."""
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith((" ", "\t")):
            current.append(line)
            continue
        if current:
            yield "\n".join(current)
        current = [] if not line or line.startswith("#") else [line]
    if current:
        yield "\n".join(current)


def pins(text: str) -> list[Pin]:
    """The locked packages of a requirements file.

    Raises:
        BuildError: an entry is not ``name==version``.
    """
    found = []
    for block in blocks(text):
        match = _ENTRY.match(block)
        if match is None:
            raise BuildError(f"not an exact pin: {block.splitlines()[0]!r}")
        hashes = tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", block))
        marker = match["rest"].split("--hash")[0].strip().removeprefix(";").strip()
        found.append(Pin(canonicalize_name(match["name"]), match["version"], marker, hashes))
    return found


def header(lock: Lock) -> str:
    return (
        f"# {lock.title}. Written by `nox -s lock` from build/matrix.toml; not for editing.\n# inputs: {lock.inputs}\n"
    )


def split_cuda_only(matrix: Matrix, text: str) -> tuple[str, str]:
    """(what every build of torch needs, what only its CUDA build needs) of a resolved row."""
    plain: list[str] = []
    cuda: list[str] = []
    for block in blocks(text):
        name = canonicalize_name(block.split("==")[0])
        (cuda if any(fnmatch.fnmatch(name, p) for p in matrix.cuda_only) else plain).append(block)
    return "\n".join(plain) + "\n", "\n".join(cuda) + "\n"


def accept_extra_files(matrix: Matrix, row: str, text: str) -> str:
    """Adds the hashes of the row's extra files to their packages' entries."""
    for extra in (e for e in matrix.extra_files if e.row == row):
        have = list(blocks(text))
        entry = next((b for b in have if canonicalize_name(b.split("==")[0]) == canonicalize_name(extra.package)), None)
        if entry is None:
            raise BuildError(f"extra-file {extra.file}: row {row} locks no {extra.package}")
        version = entry.split("==")[1].split()[0]
        if extra.file.split("-")[1].split("+")[0] != version:
            raise BuildError(
                f"extra-file {extra.file} is not version {version}, which row {row} locks; update matrix.toml"
            )
        if extra.sha256 not in entry:
            text = text.replace(entry, f"{entry} \\\n    --hash=sha256:{extra.sha256}")
    return text


def write(path: Path, lock: Lock, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(header(lock) + body.rstrip("\n") + "\n", encoding="utf-8")


def read(path: Path) -> str:
    if not path.is_file():
        raise BuildError(f"{path.name} is missing in build/locks; run `nox -s lock`")
    return path.read_text(encoding="utf-8")


def names_a_place(text: str) -> str | None:
    """The first line that names a package index, a host or a folder of this machine, or None."""
    return next((line for line in text.splitlines() if not line.startswith("#") and _PLACE.search(line)), None)
