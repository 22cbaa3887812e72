"""The fixed set of the regression session: what is made of what, with which options, for which golden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from trellis_regression import sample

from ..asset import GlbOptions
from ..generate import GenerateOptions, generate
from ..remake import RemakeOptions, remake
from ..testing import object_picture, write_painted_asset
from . import checkpoint

_SMALL = RemakeOptions(resolution=64, faces=4000, texture=256)
_LARGER = RemakeOptions(resolution=128, faces=8000, texture=512)
# The random asset sheds scraps, which a real one does not: --min-fraction takes those away.
_GENERATED = GenerateOptions(type="512", seed=13, glb=GlbOptions(faces=4000, texture=256, min_fraction=1e-4))


def _controller(path: Path) -> None:
    with as_file(files("trellis_pipeline") / "samples" / "controller.glb") as source:
        path.write_bytes(source.read_bytes())


def _painted(path: Path) -> None:
    write_painted_asset(path, offset=(5, -2, 3), scale=4)


def _sample(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(sample.build(name))

    return write


@dataclass(frozen=True)
class Job:
    """One asset of the fixed set, which has the name of its golden.

    Attributes:
        options: what is asked of the road, for the golden's provenance.
        faces: how many faces are asked for.
        make: (out, stages or None, device) -> the GLB; the same every time.
    """

    options: dict[str, Any]
    faces: int
    make: Callable[[Path, Path | None, str], object]


def _remade(write_source: Callable[[Path], None], options: RemakeOptions) -> Job:
    def make(out: Path, stages: Path | None, device: str) -> None:
        source = out.with_name(f"{out.stem}-source.glb")
        write_source(source)
        remake(source, out, replace(options, device=device), keep_stages=stages, quiet=True)

    assert options.faces is not None
    return Job({k: v for k, v in asdict(options).items() if k != "device"}, options.faces, make)


def _generated(options: GenerateOptions) -> Job:
    """A picture through the random checkpoint: every model, every sampler and the export, as `trellis generate` runs."""

    def make(out: Path, stages: Path | None, device: str) -> None:
        # Its own each time: one that lies there may be of other code, or be read by another process.
        weights = out.with_name(f"{out.stem}-checkpoint")
        checkpoint.make(weights)
        picture = out.with_name(f"{out.stem}-source.png")
        object_picture().save(picture)
        chosen = replace(options, weights=str(weights), device=device)
        generate(picture, out, chosen, keep_stages=stages, hashes=False, quiet=True)

    assert options.glb.faces is not None
    asked = {"type": options.type, "seed": options.seed, **asdict(options.glb)}
    return Job(asked, options.glb.faces, make)


INPUTS: dict[str, Job] = {
    "controller": _remade(_controller, _LARGER),
    "painted": _remade(_painted, _SMALL),
    **{name: _remade(_sample(name), _SMALL) for name in ("robot", "leaf")},
    "generated": _generated(_GENERATED),
}
"""The fixed set by name."""
