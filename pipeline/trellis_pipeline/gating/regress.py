"""``python -m trellis_pipeline.gating.regress``: fixed assets through the pipeline, each gated against golden/; `nox -s regress`.

Every asset is made twice in one process, so that state which leaks from job to job shows. One HTML report for all; exit
status 0 when every gate is silent, 1 when one fired, 2 when it could not be tried.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from trellis_regression import sample
from trellis_regression.check import Result, check
from trellis_regression.glb import GlbError
from trellis_regression.golden import approve
from trellis_regression.report import page

from ..asset import GlbOptions
from ..generate import GenerateOptions, generate
from ..remake import RemakeOptions, remake
from ..testing import object_picture, write_painted_asset
from . import checkpoint
from .faults import FAULTS, broken

_SMALL = RemakeOptions(resolution=64, faces=4000, texture=256)
_LARGER = RemakeOptions(resolution=128, faces=8000, texture=512)
# The random asset sheds scraps, which a real one does not: --min-fraction takes those away.
_GENERATED = GenerateOptions(type="512", seed=13, glb=GlbOptions(faces=4000, texture=256, min_fraction=1e-4))

# What was tried: these faults leave a stack of noisy sheets unremarked, or with the name of another gate (docs/gates.md).
_IMMUNE = frozenset({"blocky", "double-shell", "axis-swap", "spconv-confetti"})


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
        immune: faults that this asset cannot show, and that are not put into it.
    """

    options: dict[str, Any]
    faces: int
    make: Callable[[Path, Path | None, str], object]
    immune: frozenset[str] = frozenset()


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
        weights = out.with_name("random-checkpoint")
        checkpoint.make(weights)  # each time, as one that lies there may be of other code
        picture = out.with_name(f"{out.stem}-source.png")
        object_picture().save(picture)
        chosen = replace(options, weights=str(weights), device=device)
        generate(picture, out, chosen, keep_stages=stages, hashes=False, quiet=True)

    assert options.glb.faces is not None
    asked = {"type": options.type, "seed": options.seed, **asdict(options.glb)}
    return Job(asked, options.glb.faces, make, _IMMUNE)


INPUTS: dict[str, Job] = {
    "controller": _remade(_controller, _LARGER),
    "painted": _remade(_painted, _SMALL),
    **{name: _remade(_sample(name), _SMALL) for name in ("robot", "leaf")},
    "generated": _generated(_GENERATED),
}
"""The fixed set by name."""


def main() -> int:
    """Runs the session."""
    parser = argparse.ArgumentParser(prog="python -m trellis_pipeline.gating.regress", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/regress"))
    parser.add_argument("--golden", type=Path, default=Path("golden"), metavar="DIR")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--profile", choices=("default", "strict"), default="default")
    parser.add_argument("--only", action="append", choices=tuple(INPUTS), metavar="NAME")
    parser.add_argument(
        "--fault",
        choices=FAULTS,
        metavar="NAME",
        help="put this fault into the road first (the session must then fail, and name it)",
    )
    parser.add_argument(
        "--approve", metavar="REASON", help="make what comes out the goldens of this device, for this reason"
    )
    arguments = parser.parse_args()
    immune = [name for name in arguments.only or INPUTS if arguments.fault in INPUTS[name].immune]
    if len(immune) == len(arguments.only or INPUTS):
        parser.error(f"--fault: {arguments.fault} is not put into {', '.join(immune)}, so nothing would be tried")
    for name in immune:
        print(f"{name}: {arguments.fault} is not put into it, so it must pass", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    unusable: dict[str, str] = {}
    for name in arguments.only or INPUTS:
        try:
            results.append(_one(name, arguments))
            print("\n".join(results[-1].lines()), flush=True)
        except (ValueError, NotImplementedError) as error:  # GlbError and ApprovalError are ValueErrors
            unusable[name] = str(error)
            print(f"ERROR {name}: {error}", file=sys.stderr, flush=True)
    report = arguments.out / "report.html"
    report.write_text(page(results, title=f"Regression on {arguments.device}", unusable=unusable), encoding="utf-8")
    failed = [r.path.stem for r in results if not r.verdict.ok]
    print(f"\n{len(results) - len(failed)} of {len(arguments.only or INPUTS)} passed; report: {report}")
    return 2 if unusable else int(bool(failed))


def _one(name: str, arguments: argparse.Namespace) -> Result:
    job = INPUTS[name]
    out, again = (arguments.out / f"{name}{end}.glb" for end in ("", "-again"))
    stages = arguments.out / f"{name}-stages"
    # State that leaks is a fault of the second run; all others are there from the first.
    fault = None if arguments.fault in job.immune else arguments.fault
    first = nullcontext() if fault in (None, "second-run") else broken(fault)
    second = nullcontext() if fault is None else broken(fault)
    with first:
        job.make(out, stages, arguments.device)
    with second:
        job.make(again, None, arguments.device)
    if arguments.approve is not None:
        device = torch.device(arguments.device)
        more = {
            "command": f"nox -s regress -- --only {name} --approve REASON",
            "options": job.options,
            "torch": torch.__version__, "python": platform.python_version(),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        }  # fmt: skip
        approve(
            out,
            name,
            reason=arguments.approve,
            variant=device.type,
            stage_folder=stages,
            root=arguments.golden,
            more=more,
        )
    elif not (arguments.golden / name).is_dir():
        raise GlbError(f"no golden {name} in {arguments.golden}; look at {out}, then --approve REASON")
    return check(
        out, golden=str(arguments.golden / name), profile=arguments.profile, stage_folder=stages, again=again,
        requested_faces=job.faces,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
