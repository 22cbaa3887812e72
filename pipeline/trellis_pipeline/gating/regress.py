"""``python -m trellis_pipeline.gating.regress``: fixed assets through the road, each gated against golden/; `nox -s regress`.

Every asset is made twice in one process, so that state which leaks from job to job shows. One HTML report for all; exit
status 0 when every gate is silent, 1 when one fired, 2 when it could not be tried.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import torch
from trellis_regression import sample
from trellis_regression.check import Result, check
from trellis_regression.glb import GlbError
from trellis_regression.golden import approve
from trellis_regression.report import page

from ..remake import RemakeOptions, remake
from ..testing import write_painted_asset

_SMALL = RemakeOptions(resolution=64, faces=4000, texture=256)
_LARGER = RemakeOptions(resolution=128, faces=8000, texture=512)


def _controller(path: Path) -> None:
    with as_file(files("trellis_pipeline") / "samples" / "controller.glb") as source:
        path.write_bytes(source.read_bytes())


def _painted(path: Path) -> None:
    write_painted_asset(path, offset=(5, -2, 3), scale=4)


def _sample(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(sample.build(name))

    return write


INPUTS: dict[str, tuple[Callable[[Path], None], RemakeOptions]] = {
    "controller": (_controller, _LARGER),
    "painted": (_painted, _SMALL),
    **{name: (_sample(name), _SMALL) for name in ("robot", "leaf")},
}
"""Name of the input, which is that of its golden, how its source is made and what is asked of the road."""


def main() -> int:
    """Runs the session."""
    parser = argparse.ArgumentParser(prog="python -m trellis_pipeline.gating.regress", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/regress"))
    parser.add_argument("--golden", type=Path, default=Path("golden"), metavar="DIR")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--profile", choices=("default", "strict"), default="default")
    parser.add_argument("--only", action="append", choices=tuple(INPUTS), metavar="NAME")
    parser.add_argument("--fault", help="put this fault into the road first (the session must then fail, and name it)")
    parser.add_argument(
        "--approve", metavar="REASON", help="make what comes out the goldens of this device, for this reason"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    results, unusable = [], []
    for name in arguments.only or INPUTS:
        try:
            results.append(_one(name, arguments))
            print("\n".join(results[-1].lines()), flush=True)
        except (ValueError, NotImplementedError) as error:  # GlbError and ApprovalError are ValueErrors
            unusable.append(f"{name}: {error}")
            print(f"ERROR {unusable[-1]}", file=sys.stderr, flush=True)
    report = arguments.out / "report.html"
    report.write_text(page(results, title=f"Regression on {arguments.device}"), encoding="utf-8")
    failed = [r.path.stem for r in results if not r.verdict.ok]
    print(f"\n{len(results) - len(failed)} of {len(arguments.only or INPUTS)} passed; report: {report}")
    return 2 if unusable else int(bool(failed))


def _one(name: str, arguments: argparse.Namespace) -> Result:
    make, asked = INPUTS[name]
    options = RemakeOptions(**{**asked.__dict__, "device": arguments.device})
    source, out, again = (arguments.out / f"{name}{end}.glb" for end in ("-source", "", "-again"))
    stages = arguments.out / f"{name}-stages"
    make(source)
    if arguments.fault and arguments.fault != "second-run":
        from .faults import broken

        with broken(arguments.fault):
            remake(source, out, options, keep_stages=stages, quiet=True)
            remake(source, again, options, quiet=True)
    else:
        remake(source, out, options, keep_stages=stages, quiet=True)
        if arguments.fault:
            from .faults import broken

            with broken(arguments.fault):
                remake(source, again, options, quiet=True)
        else:
            remake(source, again, options, quiet=True)
    if arguments.approve is not None:
        device = torch.device(options.device)
        more = {
            "command": f"nox -s regress -- --only {name} --approve REASON",
            "options": {k: v for k, v in asked.__dict__.items() if k != "device"},
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
        requested_faces=options.faces,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
