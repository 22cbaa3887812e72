"""The build matrix: rows of versions that belong together, read from build/matrix.toml."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import schema
from .errors import BuildError, MatrixError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib


@dataclass(frozen=True)
class ToolchainSpec:
    """Where the native compiler of a CUDA flavour comes from."""

    name: str
    kind: str  # "nvcc-packages" or "home-or-clang"
    cuda: str  # "13.0"; for home-or-clang the major version, "12"
    requirements: tuple[str, ...]
    nvcc: str | None  # exact compiler version of nvcc-packages
    clang: str | None  # major version of home-or-clang
    clang_cuda: str | None  # version of the toolkit that the packages make up

    @property
    def flavour(self) -> str:
        return "cuda" + self.cuda.split(".")[0]


@dataclass(frozen=True)
class Row:
    """Versions that are used together."""

    name: str
    why: str
    python: tuple[str, ...]
    torch: str
    cuda: str | None
    triton: str | None
    toolchain: ToolchainSpec | None
    flash_attn: str | None
    groups: tuple[str, ...]
    automatic: bool  # may be chosen for a machine without being named


@dataclass(frozen=True)
class ExtraFile:
    """A file, not on the package index, that a lock accepts for a package beside the index's own."""

    row: str
    package: str
    file: str
    sha256: str


@dataclass(frozen=True)
class Matrix:
    """The checked contents of matrix.toml."""

    rows: Mapping[str, Row]
    toolchains: Mapping[str, ToolchainSpec]
    groups: Mapping[str, tuple[str, ...]]
    architectures: Mapping[str, tuple[str, ...]]
    extra_files: tuple[ExtraFile, ...]
    cuda_only: tuple[str, ...]
    epoch: int

    def row(self, name: str) -> Row:
        if name not in self.rows:
            raise BuildError(f"matrix.toml has no row {name!r}; its rows are {', '.join(self.rows)}")
        return self.rows[name]


def parse(text: str) -> Matrix:
    """Reads and checks the text of matrix.toml.

    Raises:
        MatrixError: not TOML, or not in the shape that `trellis_build.schema` describes; lists every problem.
    """
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise MatrixError([f"not TOML: {error}"]) from None
    if problems := schema.problems(raw):
        raise MatrixError(problems)
    return _build(raw)


def load(file: Path) -> Matrix:
    """`parse` of a file."""
    if not file.is_file():
        raise BuildError(f"{file} is missing; run this from a checkout of the repository")
    return parse(file.read_text(encoding="utf-8"))


def _build(raw: dict[str, Any]) -> Matrix:
    toolchains = {
        name: ToolchainSpec(
            name,
            t["kind"],
            t["cuda"],
            tuple(t["requirements"]),
            t.get("nvcc"),
            t.get("clang"),
            t.get("clang-cuda"),
        )
        for name, t in raw["toolchains"].items()
    }
    rows = {
        r["name"]: Row(
            name=r["name"],
            why=r["why"],
            python=tuple(r["python"]),
            torch=r["torch"],
            cuda=r.get("cuda"),
            triton=r.get("triton"),
            toolchain=toolchains[r["toolchain"]] if "toolchain" in r else None,
            flash_attn=r.get("flash-attn"),
            groups=tuple(r["groups"]),
            automatic=r.get("automatic", False),
        )
        for r in raw["row"]
    }
    return Matrix(
        rows=rows,
        toolchains=toolchains,
        groups={name: tuple(items) for name, items in raw["groups"].items()},
        architectures={name: tuple(items) for name, items in raw["architectures"].items()},
        extra_files=tuple(ExtraFile(e["row"], e["package"], e["file"], e["sha256"]) for e in raw.get("extra-file", [])),
        cuda_only=tuple(raw["cuda-only"]),
        epoch=raw["epoch"],
    )
