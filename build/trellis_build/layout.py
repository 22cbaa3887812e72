"""Where things lie in a checkout, and which distributions it holds."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError
from .matrix import Matrix, load

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

EXTENSIONS = ("sparse", "mesh", "voxel", "raster", "shade")
_PURE = ("csrc/native", "csrc/compat", "build", "diagnostics", "pipeline", "regression", ".")
_NOT_SOURCE = re.compile(r"__pycache__|tests|out|dist|node_modules|\..*|.*\.egg-info")


@dataclass(frozen=True)
class Member:
    """One distribution of the workspace."""

    name: str  # "trellis-sparse"
    version: str
    folder: Path
    extension: str | None  # "sparse" for a native extension, None for pure Python
    backend: str
    requirements: tuple[str, ...] = ()  # what it and its extras need

    @property
    def short(self) -> str:
        return self.name.removeprefix("trellis-")

    @property
    def header(self) -> Path:
        return self.folder / "include" / f"trellis_{self.extension}.h"


@dataclass(frozen=True)
class Checkout:
    """A checkout of the repository."""

    root: Path

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def locks(self) -> Path:
        return self.root / "build" / "locks"

    def dist(self, row: str) -> Path:
        return self.root / "dist" / row

    @property
    def matrix(self) -> Matrix:
        return load(self.root / "build" / "matrix.toml")

    def members(self) -> list[Member]:
        """Distributions of this checkout: the extensions, then the pure Python ones that exist."""
        folders = [(f"csrc/{name}", name) for name in EXTENSIONS] + [(folder, None) for folder in _PURE]
        return [read_member(self.root / f, e) for f, e in folders if (self.root / f / "pyproject.toml").is_file()]


def read_member(folder: Path, extension: str | None) -> Member:
    """The distribution that lies in `folder`."""
    file = folder / "pyproject.toml"
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    try:
        project, backend = data["project"], data["build-system"]["build-backend"]
        extras = project.get("optional-dependencies", {}).values()
        needs = (*project.get("dependencies", []), *(item for extra in extras for item in extra))
        return Member(project["name"], project["version"], folder, extension, backend, needs)
    except KeyError as error:
        raise BuildError(f"{file}: {error} is missing") from None


def find_checkout(start: Path | None = None) -> Checkout:
    """The checkout that holds `start` (default: the working directory)."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / "build" / "matrix.toml").is_file():
            return Checkout(folder)
    raise BuildError(f"{here} is not inside a checkout of the repository (no build/matrix.toml above it)")


def source_files(folder: Path) -> list[Path]:
    """Files below `folder` that can shape what is built from it, sorted: no tests, caches or hidden files."""
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not _NOT_SOURCE.fullmatch(f))
        found += [Path(parent, f) for f in files if not f.startswith(".") and not f.endswith(".pyc")]
    return sorted(found)


def digest_files(files: list[Path], base: Path) -> str:
    """SHA-256 over names (relative to `base`) and contents."""
    total = hashlib.sha256()
    for file in files:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(base).as_posix()} {content}\n".encode())
    return total.hexdigest()


def member_sources(checkout: Checkout, member: Member) -> list[Path]:
    """Files that shape the wheel of `member`."""
    if member.folder == checkout.root:  # the umbrella holds no code of its own
        return [f for f in (checkout.root / name for name in ("README.md", "pyproject.toml")) if f.is_file()]
    files = source_files(member.folder)
    if member.extension:
        native = checkout.root / "csrc" / "native"
        files += source_files(native / "include") + source_files(native / "cmake")
    if member.folder == checkout.root / "diagnostics":  # its wheel carries the matrix
        files.append(checkout.root / "build" / "matrix.toml")
    return files
