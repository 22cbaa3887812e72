"""The ``trellis-gate`` command. Exit status: 0 pass, 1 a gate fired, 2 unusable input or arguments."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from threading import Thread, Timer
from typing import TYPE_CHECKING, Any

from . import interrupt, khronos, lean, opening
from .command import Parser, Version, add_command, in_one_line, require_apart
from .glb import GlbError
from .pipe import quiet
from .shelf import find, golden_root, names
from .whole import write_whole

if TYPE_CHECKING:
    import torch

    from .matrix import Trial

ROAD = "trellis_pipeline.gating"
PROFILES = ("default", "strict")
PROFILE = "how much is left above what clean assets measure: strict takes a quarter of the margin (default)"
TIME_LIMIT = 600
LIMIT = f"give up on a file that is not measured by then, with status 2 ({TIME_LIMIT})"
_STDOUT = Path("-")


@quiet
def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except BrokenPipeError:
        raise
    # GlbError, ApprovalError and RoadMissingError are among them, and what an option cannot be.
    except (ValueError, RuntimeError, OSError) as error:
        print(f"trellis-gate: error: {in_one_line(error)}", file=sys.stderr)
    except MemoryError:
        print("trellis-gate: error: the file asks for more memory than there is", file=sys.stderr)
    finally:
        khronos.abandon()
        opening.abandon()
    return 2


def _parser() -> argparse.ArgumentParser:
    # Nothing that imports torch: `check` reads files while it does, and a wrong argument should be told at once.
    parser = Parser(prog="trellis-gate", description="Judges GLB files, and says what is wrong by name.")
    parser.add_argument("--version", action=Version, const="trellis-regression", help="show the version and end")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = add_command(commands, "check", "judge a GLB: 0 pass, 1 a gate fired, 2 unusable")
    check.add_argument("file", type=Path, metavar="OUT.glb", help="what is judged")
    check.add_argument("--golden", metavar="NAME|DIR", help="an approved asset to hold it against")
    check.add_argument("--profile", choices=PROFILES, default="default", help=PROFILE)
    check.add_argument("--stages", type=Path, metavar="DIR", help="stages kept by `trellis remake --keep-stages`")
    check.add_argument("--again", type=Path, metavar="SECOND.glb", help="what a second run of the same job gave")
    check.add_argument("--faces", type=_count, metavar="N", help="how many faces the exporter was asked for")
    check.add_argument("--device", default="cpu", metavar="DEVICE", help="where to measure: cpu, cuda, cuda:1 (cpu)")
    check.add_argument("--time-limit", type=_count, default=TIME_LIMIT, metavar="SECONDS", help=LIMIT)
    check.add_argument("--json", type=Path, metavar="FILE", help="write all figures and verdicts; - to standard output")
    check.add_argument("--html", type=Path, metavar="FILE", help="write a report to look at, one self-contained file")
    check.set_defaults(run=_check)

    diff = add_command(commands, "diff", "judge B with A in the golden's place")
    diff.add_argument("a", type=Path, metavar="A.glb", help="what it is held against")
    diff.add_argument("b", type=Path, metavar="B.glb", help="what is judged")
    diff.add_argument("--profile", choices=PROFILES, default="default", help=PROFILE)
    diff.add_argument("--device", default="cpu", metavar="DEVICE", help="as for check")
    diff.add_argument("--time-limit", type=_count, default=TIME_LIMIT, metavar="SECONDS", help="as for check")
    diff.add_argument("--json", type=Path, metavar="FILE", help="as for check")
    diff.add_argument("--html", type=Path, metavar="FILE", help="as for check")
    diff.set_defaults(run=_diff)

    approve = add_command(commands, "approve", "make a GLB a golden")
    approve.add_argument("file", type=Path, metavar="OUT.glb", help="what is copied into the golden's folder")
    approve.add_argument("name", metavar="NAME", help="of the golden, for `trellis-gate check --golden NAME`")
    approve.add_argument("--reason", required=True, metavar="TEXT", help="what was looked at, and why this is right")
    approve.add_argument(
        "--variant", default="cpu", metavar="NAME", help="device or build; several may be approved (cpu)"
    )
    approve.add_argument("--stages", type=Path, metavar="DIR", help="as for check")
    approve.add_argument("--root", type=Path, metavar="DIR", help="where goldens lie (golden/ of the checkout)")
    approve.set_defaults(run=_approve)

    listing = add_command(commands, "list", "the gates, their thresholds and where these come from; the goldens")
    listing.add_argument("--profile", choices=PROFILES, default="default", help=PROFILE)
    listing.set_defaults(run=_list)

    faults = add_command(commands, "faults", "the matrix faults x detectors, measured now")
    faults.add_argument("--road", default=ROAD, metavar="MODULE", help=f"what makes and breaks assets ({ROAD})")
    faults.add_argument(
        "--sample",
        type=Path,
        default=Path("out/gate-sample"),
        metavar="DIR",
        help="where assets are kept (out/gate-sample)",
    )
    faults.add_argument("--assets", type=_count, default=5, metavar="N", help="held-out assets to put faults into (5)")
    faults.add_argument("--asset", action="append", metavar="NAME", help="this one instead; may be repeated")
    faults.add_argument(
        "--fault", action="append", metavar="NAME", help="only this one, or pairs with it; may be repeated"
    )
    faults.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes (1)")
    faults.add_argument(
        "--pairs", action="store_true", help="two faults at once instead: every pair that is independent"
    )
    faults.add_argument("--markdown", action="store_true", help="as the table in docs/gates.md")
    faults.add_argument("--relations", action="store_true", help="also why gates follow from others, and how often")
    faults.add_argument(
        "--part",
        type=_part,
        default=(1, 1),
        metavar="I/N",
        help="only this part of the assets, where machines share them",
    )
    faults.add_argument(
        "--trials", type=Path, action="append", metavar="FILE",
        help="keep every trial as JSON lines; read if it is there; may be repeated, to read several parts",
    )  # fmt: skip
    faults.set_defaults(run=_faults)

    calibrate = add_command(commands, "calibrate", "derive thresholds.json anew from the clean sample")
    calibrate.add_argument("--road", default=ROAD, metavar="MODULE", help="as for faults")
    calibrate.add_argument("--sample", type=Path, default=Path("out/gate-sample"), metavar="DIR", help="as for faults")
    calibrate.add_argument("--jobs", type=_count, default=1, metavar="N", help="processes (1)")
    calibrate.set_defaults(run=_calibrate)

    fuzz = add_command(
        commands, "fuzz", "broken files by the thousand; every one must give findings or one clear error"
    )
    fuzz.add_argument("--cases", type=_count, default=10_000, metavar="N", help="how many (10000)")
    fuzz.add_argument("--seed", type=int, default=0, metavar="N", help="other files (0)")
    fuzz.set_defaults(run=_fuzz)
    return parser


def _part(text: str) -> tuple[int, int]:
    which, _, of = text.partition("/")
    if not (which.isdigit() and of.isdigit() and 1 <= int(which) <= int(of)):
        raise argparse.ArgumentTypeError(f"expected I/N, such as 1/3, got {text!r}")
    return int(which), int(of)


def _count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return int(text)


def _output(result: Any, arguments: argparse.Namespace) -> int:
    figures = json.dumps(result.as_json(), indent=1) + "\n" if arguments.json else ""
    piped = arguments.json == _STDOUT
    try:
        if piped:
            print(figures, end="")
        elif arguments.json:
            _write(arguments.json, figures)
        if arguments.html:
            from .report import page

            _write(arguments.html, page([result]))
    finally:  # a full disk must not lose the verdict
        print("\n".join(result.lines()), file=sys.stderr if piped else sys.stdout)
    return 0 if result.verdict.ok else 1


def _outputs(arguments: argparse.Namespace, *read: Path | None) -> None:
    """What cannot be written is told before anything is measured, and so is what would take the place of a file `read`."""
    others = [path for path in read if path]
    for option in ("--json", "--html"):
        path: Path | None = vars(arguments)[option[2:]]
        if path is None or (path == _STDOUT and option == "--json"):
            continue
        if path.is_dir():
            raise GlbError(f"{option}: {path} is a folder; name a file to write")
        require_apart(option, path, *others)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise GlbError(f"{option}: {path} may not be written")
        others.append(path)


def _write(path: Path, text: str) -> None:
    try:
        with interrupt.finishing():
            # A file's name on disk may be other than Unicode.
            write_whole(path, lambda file: file.write_text(text, encoding="utf-8", errors="backslashreplace"))
    except OSError as error:  # that of a full disk names no file
        raise OSError(error.errno, error.strerror, str(path)) from error


def _device(name: str, pictures: bool) -> str:
    """The device, if there is one of that name; with `pictures`, what comparing them needs is made beside all else."""
    lean.import_torch()
    import torch

    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise GlbError(f"--device: expected cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda":
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:  # AssertionError: a torch without CUDA
            count = torch.cuda.device_count()
            if (device.index or 0) < count:
                raise
            raise GlbError(
                f"--device: {name} was asked for, and torch {torch.__version__} sees {count or 'no'} CUDA devices"
            ) from error
        torch.set_num_threads(1)  # what is left for the CPU is small, and a pool of threads would only spin
    if pictures:
        from .measure.pictures import prepare

        Thread(target=_unheard, args=(prepare, device), daemon=True).start()
    return name


def _unheard(work: Callable[[torch.device], object], device: torch.device) -> None:
    """Something that is done ahead; what is the matter with it is met again where it is needed."""
    with suppress(Exception):
        work(device)


@contextmanager
def _within(seconds: int, path: Path) -> Iterator[None]:
    """Ends the process where it is, with status 2, if what is done takes longer.

    A ray or a nearest point meets every face of a heap of them, and a small file can heap millions. Native code cannot be
    left from outside, but it lets other threads run. To be begun after the processes that read: a thread would forbid them.
    """

    def late() -> None:
        line = (
            f"trellis-gate: error: {path}: not measured within {seconds} s (--time-limit); are its faces in one place?"
        )
        os.write(2, os.fsencode(line + "\n"))
        opening.abandon()
        khronos.abandon()
        os._exit(2)

    timer = Timer(seconds, late)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check(arguments: argparse.Namespace) -> int:
    goldens = find(arguments.golden) if arguments.golden is not None else []
    _outputs(arguments, arguments.file, arguments.again, *(g.path for g in goldens))
    khronos.begin(arguments.file)
    opening.begin(arguments.file, *(g.path for g in goldens[:1]), apart=arguments.device != "cpu")
    with _within(arguments.time_limit, arguments.file):
        opening.wake(arguments.device)
        with opening.uncollected():
            device = _device(arguments.device, bool(goldens))
            from .check import check

        result = check(
            arguments.file, golden=arguments.golden, profile=arguments.profile, stage_folder=arguments.stages,
            again=arguments.again, requested_faces=arguments.faces, device=device,
        )  # fmt: skip
    return _output(result, arguments)


def _diff(arguments: argparse.Namespace) -> int:
    _outputs(arguments, arguments.a, arguments.b)
    opening.begin(arguments.a, arguments.b, apart=arguments.device != "cpu")
    with _within(arguments.time_limit, arguments.b):
        opening.wake(arguments.device)
        with opening.uncollected():
            device = _device(arguments.device, True)
            from .check import compare

        result = compare(arguments.a, arguments.b, profile=arguments.profile, device=device)
    return _output(result, arguments)


def _approve(arguments: argparse.Namespace) -> int:
    from .golden import approve

    made = approve(
        arguments.file, arguments.name, reason=arguments.reason, variant=arguments.variant,
        stage_folder=arguments.stages, root=arguments.root,
    )  # fmt: skip
    print(f"{made.folder}: approved; every known fault put into it fails against it")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    from .detectors import ALL
    from .thresholds import load

    limits = load(arguments.profile)
    for detector in ALL:
        print(f"{detector.name}\n    what to do: {detector.remedy}")
        for kind in ("alone", "golden"):
            if (detector.alone if kind == "alone" else detector.golden) and (
                limit := limits.get((detector.name, kind))
            ):
                source = f"clean assets: {min(limit.clean):.3g} to {max(limit.clean):.3g}" if limit.clean else "fixed"
                print(f"    {kind:6} above {limit.value:.3g} ({source})")
    root = golden_root()
    held = [f"{name} ({', '.join(g.variant for g in find(name, root))})" for name in names(root)]
    print(f"goldens in {root}: " + (", ".join(held) or "none"))
    return 0


def _faults(arguments: argparse.Namespace) -> int:
    from . import tables
    from .inject import BY_NAME

    _known("fault", arguments.fault, BY_NAME)
    kept = [path for path in arguments.trials or () if path.is_file()]
    if kept and len(kept) == len(arguments.trials):
        trials = [trial for path in kept for trial in tables.read(path)]
    else:
        trials = _new_trials(arguments)
    if arguments.pairs:
        print(tables.pairs(trials))
        return 0 if all(t.caught or t.hidden for t in trials) else 1
    print(tables.markdown(trials) if arguments.markdown else tables.text(trials))
    if arguments.relations:
        print("\n" + tables.relations(trials))
    return 0 if tables.good(trials) else 1


def _known(what: str, given: Sequence[str] | None, there: Collection[str]) -> None:
    for name in given or ():
        if name not in there:
            near = get_close_matches(name, there, n=1, cutoff=0.5)
            raise GlbError(
                f"--{what}: no {what} {name!r}; "
                + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(there)}")
            )


def _new_trials(arguments: argparse.Namespace) -> list[Trial]:
    from . import matrix, sample

    if arguments.trials and len(arguments.trials) > 1:
        raise GlbError("--trials: several files are read together, and one of these is not there")
    _known("asset", arguments.asset, sample.NAMES)
    road, chosen = matrix.load_road(arguments.road), tuple(arguments.asset or sample.HELD_OUT[: arguments.assets])
    # A fault that none of the chosen can have is looked for in all of a part, so the chosen are always there.
    names = matrix.of_part(sample.NAMES, chosen, arguments.part)
    wanted = chosen if arguments.pairs else sample.NAMES if arguments.part[1] == 1 else (*chosen, *names)
    controls = matrix.make_controls(road, arguments.sample, dict.fromkeys(wanted), jobs=arguments.jobs)
    keep = arguments.trials[0] if arguments.trials else None
    if arguments.pairs:
        ours = [c for c in controls if c.name in names]
        return matrix.run_pairs(ours, faults=arguments.fault, jobs=arguments.jobs, keep=keep)
    return matrix.run(
        matrix.Plan(road, arguments.sample / "broken"), controls, faults=arguments.fault, inject_into=chosen,
        jobs=arguments.jobs, only=names, keep=keep,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )  # fmt: skip


def _calibrate(arguments: argparse.Namespace) -> int:
    from . import matrix, thresholds

    controls = matrix.make_controls(matrix.load_road(arguments.road), arguments.sample, jobs=arguments.jobs)
    matrix.calibrate(controls, jobs=arguments.jobs)
    print("\n".join(thresholds.lines()))
    print(f"{thresholds.TABLE}: written")
    return 0


def _fuzz(arguments: argparse.Namespace) -> int:
    from .fuzz import run

    outcome = run(arguments.cases, seed=arguments.seed, report=lambda line: print(line, file=sys.stderr, flush=True))
    print(outcome.summary())
    return 0 if outcome.ok else 1
