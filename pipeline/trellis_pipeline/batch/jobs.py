"""Which pictures a batch makes, under which names, and which of them are made already."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trellis_regression.whole import beginning

from ..hashes import sha256

# What people keep pictures in. Some of these the pipeline refuses, and says so of each, rather than pass over it.
SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".tga", ".ico", ".psd", ".jp2",
    ".ppm", ".pgm", ".heic", ".heif", ".avif", ".svg", ".exr", ".hdr",
)  # fmt: skip
_HARMLESS = ("device", "vram_budget", "attention")  # options that decide where and how fast, not what


@dataclass(frozen=True)
class Job:
    """A picture and its files: the GLB, the manifest beside it, and what a run that failed has said.

    Attributes:
        name: of the GLB below the batch's folder, without its suffix.
    """

    picture: Path
    folder: Path
    name: str

    @property
    def outputs(self) -> tuple[Path, Path, Path]:
        return self.glb, self.manifest, self.log

    @property
    def glb(self) -> Path:
        return self.folder / f"{self.name}.glb"

    @property
    def manifest(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"


def find(sources: Sequence[Path], out: Path) -> tuple[list[Job], int]:
    """The jobs of files and of folders, which are searched with all below them, in order of their names; and how many
    other files lay there.

    A picture's result has its name; what lies in a folder that was given keeps its place below it.

    Raises:
        ValueError: a source that is not there, no picture at all, or two that would share a name.
    """
    jobs, others = dict[Path, Job](), 0
    for source in sources:
        if source.is_dir():
            found, left = _below(source, out)
            others += left
            pairs = [(path, path.relative_to(source)) for path in found]
        elif source.is_file():
            pairs = [(source, Path(source.name))]
        else:
            raise ValueError(f"{source}: there is no such file")
        for picture, relative in pairs:
            job = Job(picture, out, (relative.parent / picture.stem).as_posix())
            first = jobs.setdefault(job.glb, job)
            if _real(picture) != _real(first.picture):
                raise ValueError(
                    f"{first.picture} and {picture} would both become {job.glb}: rename one, or give the folder above "
                    "them both, whose folders are kept"
                )
    written = {_real(path) for job in jobs.values() for path in job.outputs}
    for job in jobs.values():
        if _real(job.picture) in written:
            raise ValueError(f"--out: {job.picture} would be written over")
    if not jobs:
        raise ValueError(f"{', '.join(map(str, sources))}: no picture is there ({others} other files)")
    return list(jobs.values()), others


def _below(folder: Path, out: Path) -> tuple[list[Path], int]:
    """Pictures in a folder, less hidden ones and those below `out`, and the number of other files.

    A link to a folder is followed, and each folder taken once, as links may lead back to one above. One that cannot be
    read is an OSError: what lies there would be passed over without a word.
    """

    def stop(error: OSError) -> None:
        raise error

    found, others, seen = [], 0, {_real(out), _real(folder)}
    for parent, folders, files in os.walk(folder, onerror=stop, followlinks=True):
        fresh = []
        for name in sorted(f for f in folders if not f.startswith(".")):
            if (real := _real(Path(parent, name))) not in seen:
                seen.add(real)
                fresh.append(name)
        folders[:] = fresh
        for name in sorted(f for f in files if not f.startswith(".")):
            if Path(name).suffix.lower() in SUFFIXES:
                found.append(Path(parent, name))
            else:
                others += 1
    return found, others


def _real(path: Path) -> str:
    """The same for two names of a file, which may be gone, or a link to nothing: its run says so, and no other's."""
    return os.path.realpath(path)


def is_made(job: Job, options: dict[str, Any]) -> bool:
    """Whether the GLB is here whole, made of this very picture with these options, by its manifest and their hashes."""
    try:
        facts = json.loads(job.manifest.read_text(encoding="utf-8"))
        return (
            shaping(facts["options"]) == shaping(options)
            and facts["input"]["sha256"] == sha256(job.picture)
            and facts["output"]["sha256"] == sha256(job.glb)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def shaping(options: dict[str, Any]) -> dict[str, Any]:
    """The options that decide what comes out, as JSON has them."""
    kept: dict[str, Any] = json.loads(json.dumps({k: v for k, v in options.items() if k not in _HARMLESS}))
    return kept


def leftovers(jobs: Sequence[Job]) -> Iterator[Path]:
    """Temporary files of the jobs' outputs, which a process that was killed could not remove."""
    for folder in {job.glb.parent for job in jobs}:
        own = {beginning(path.name) for job in jobs for path in (job.glb, job.manifest) if path.parent == folder}
        for path in folder.iterdir() if folder.is_dir() else ():
            match = re.fullmatch(r"(.+)[0-9a-f]{12}", path.name)
            if match and match[1] in own:
                yield path
