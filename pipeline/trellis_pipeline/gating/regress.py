"""``python -m trellis_pipeline.gating.regress``: fixed assets through the pipeline, each gated against golden/; `nox -s regress`.

Every asset is made twice in one process, so that state which leaks from job to job shows. One HTML report for all; exit
status 0 when every gate is silent, 1 when one fired, 2 when it could not be tried.
"""

from __future__ import annotations

import argparse
import platform
import sys
import traceback
from contextlib import nullcontext
from pathlib import Path

import torch
from trellis_regression import tables
from trellis_regression.check import Result, check
from trellis_regression.command import Parser, in_one_line
from trellis_regression.glb import GlbError
from trellis_regression.golden import approve
from trellis_regression.inject import BY_NAME as INJECTORS
from trellis_regression.report import page
from trellis_regression.whole import write_whole

from ..options import bounded, device
from . import every_fault
from .faults import FAULTS, broken
from .fixed import INPUTS


def main() -> int:
    """Runs the session."""
    parser = Parser(prog="python -m trellis_pipeline.gating.regress", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/regress"))
    parser.add_argument("--golden", type=Path, default=Path("golden"), metavar="DIR")
    parser.add_argument("--device", type=device, default="cuda" if torch.cuda.is_available() else "cpu")
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
    parser.add_argument(
        "--every-fault",
        action="store_true",
        help="put every known fault into every asset; its own gate and no other must name each",
    )
    parser.add_argument("--jobs", type=bounded(1, 1024), default=1, metavar="N", help="processes for --every-fault (1)")
    parser.add_argument("--trials", type=Path, metavar="FILE", help="keep the trials of --every-fault as JSON lines")
    arguments = parser.parse_args()
    if arguments.every_fault:
        return _every_fault(arguments)
    arguments.out.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    unusable: dict[str, str] = {}
    for name in arguments.only or INPUTS:
        try:
            results.append(_one(name, arguments))
            print("\n".join(results[-1].lines()), flush=True)
        except Exception as error:  # of a build that is broken it may be any; the other assets say more
            expected = isinstance(
                error, (ValueError, NotImplementedError, OSError)
            )  # which say all that there is to say
            unusable[name] = in_one_line(error) if expected else f"{type(error).__name__}: {in_one_line(error)}"
            if not expected:
                traceback.print_exc()
            print(f"ERROR {name}: {unusable[name]}", file=sys.stderr, flush=True)
    report = arguments.out / "report.html"
    text = page(results, title=f"Regression on {arguments.device}", unusable=unusable)
    write_whole(report, lambda file: file.write_text(text, encoding="utf-8", errors="backslashreplace"))
    failed = [r.path.stem for r in results if not r.verdict.ok]
    print(f"\n{len(results) - len(failed)} of {len(arguments.only or INPUTS)} passed; report: {report}")
    return 2 if unusable else int(bool(failed))


def _every_fault(arguments: argparse.Namespace) -> int:
    names = arguments.only or tuple(INPUTS)
    unguarded = every_fault.unguarded(names, arguments.golden, jobs=arguments.jobs) if not arguments.fault else []
    trials = every_fault.trials(
        names, arguments.out, arguments.golden, device=arguments.device,
        profile=arguments.profile, faults=[arguments.fault] if arguments.fault else None, jobs=arguments.jobs,
        keep=arguments.trials, report=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip
    print(tables.shown(trials))
    wrong = unguarded + tables.not_shown(trials, [arguments.fault] if arguments.fault else list(INJECTORS))
    wrong += every_fault.outdated(trials)
    print("\n" + ("\n".join(wrong) if wrong else "Every fault was named by its own gate, and by no other."))
    return int(bool(wrong))


def _one(name: str, arguments: argparse.Namespace) -> Result:
    job = INPUTS[name]
    out, again = (arguments.out / f"{name}{end}.glb" for end in ("", "-again"))
    stages = arguments.out / f"{name}-stages"
    fault = arguments.fault
    # State that leaks is a fault of the second run; all others are there from the first.
    first = nullcontext() if fault in (None, "second-run") else broken(fault)
    second = nullcontext() if fault is None else broken(fault)
    with first:
        job.make(out, stages, arguments.device)
    with second:
        job.make(again, None, arguments.device)
    if arguments.approve is not None:
        place = torch.device(arguments.device)
        more = {
            "command": f"nox -s regress -- --only {name} --approve REASON",
            "options": job.options,
            "torch": torch.__version__, "python": platform.python_version(),
            "device": torch.cuda.get_device_name(place) if place.type == "cuda" else platform.processor() or "cpu",
        }  # fmt: skip
        approve(
            out,
            name,
            reason=arguments.approve,
            variant=place.type,
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
