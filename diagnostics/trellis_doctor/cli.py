"""The command ``trellis-doctor``."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from . import __version__, matrix
from .cache import LibraryCache, default_folder
from .check import Check
from .checks import ALL
from .context import Context
from .examine import Result, examine, exit_status
from .fix import apply, safe
from .interpreter import UsageError, find, inspect
from .machine import Machine
from .report import Text, as_json

OWN = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "TRELLIS_NATIVE_DIR")
"""Variables that belong to the interpreter the doctor itself runs on."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the page of usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _arguments() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="trellis-doctor",
        description="Tells why a Python environment for TRELLIS.2 is broken, before anything of it is imported.",
        epilog="Exit status: 0 healthy, 1 something is broken, 2 the doctor itself failed or was misused, 130 Ctrl-C.",
    )
    parser.add_argument("--python", metavar="PATH", help="interpreter or environment to inspect (default: this one)")
    parser.add_argument(
        "--keep-environment",
        action="store_true",
        help=f"inspect another interpreter with this shell's {', '.join(OWN)}, which are left out otherwise",
    )
    parser.add_argument("--row", metavar="NAME", help="row of build/matrix.toml that it should be")
    parser.add_argument("--models", metavar="PATH", type=Path, help="folder of checkpoints (default: the hub's cache)")
    parser.add_argument("--only", metavar="ID", nargs="+", action="extend", help="run these checks alone")
    parser.add_argument("--list", action="store_true", help="list the checks and end")
    parser.add_argument("--json", metavar="FILE", help="write the report as JSON to FILE, or - for standard output")
    parser.add_argument("--verbose", action="store_true", help="all evidence, notes and times")
    parser.add_argument("--fix", action="store_true", help="apply the remedies that are marked safe, then check again")
    parser.add_argument(
        "--timeout", metavar="S", type=float, default=120.0, help="seconds a probe may take (default 120)"
    )
    parser.add_argument("--no-cache", action="store_true", help="read every library anew")
    parser.add_argument(
        "--self-test", action="store_true", help="try every check on environments made broken on purpose"
    )
    parser.add_argument("--version", action="version", version=f"trellis-doctor {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    try:
        try:
            return _main(argv)
        finally:  # here and not when Python ends, where it would be reported
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the pipe has seen enough; nothing more may be written, not even at exit. The status is that of
        # a program that SIGPIPE ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _main(argv: Sequence[str] | None) -> int:
    try:
        options = _arguments().parse_args(argv)
    except SystemExit as end:  # argparse has said why
        return 0 if end.code in (0, None) else 2
    try:
        return _run(options)
    except UsageError as error:
        print(f"trellis-doctor: error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except Exception as error:
        if options.verbose:
            raise
        print(
            f"trellis-doctor: error: it failed itself: {type(error).__name__}: {error} (--verbose shows where)",
            file=sys.stderr,
        )
        return 2


def _run(options: argparse.Namespace) -> int:
    checks = _chosen(options.only)
    if options.list:
        for check in checks:
            print(f"{check.id:<22} {check.title}" + (f"  [{', '.join(check.faults)}]" if check.faults else ""))
        return 0
    if not options.timeout > 0:  # nor NaN
        raise UsageError(f"--timeout {options.timeout:g}: must be more than 0")
    if options.self_test:
        from .selftest import main as self_test

        return self_test(_text(sys.stdout, options.verbose), options.only)
    if options.models is not None and not options.models.exists():
        raise UsageError(f"--models {options.models}: no such folder")
    if options.json is not None and options.json != "-":
        _check_target(options.json)
    rows, row = _rows(options.row)
    executable = find(options.python)
    is_other = executable != Path(sys.executable).absolute() and not options.keep_environment
    # What makes this interpreter find its packages says nothing of another one's.
    machine = Machine(env={k: v for k, v in os.environ.items() if k not in OWN} if is_other else None)
    cache = LibraryCache(None if options.no_cache else default_folder())

    def fresh() -> Context:
        python = inspect(executable, machine)
        if not python.works and not python.folders and "Exec format error" in (python.trouble or ""):
            raise UsageError(f"--python {options.python}: not a program of this machine")
        return Context(python, machine, cache, row=row, rows=rows, models=options.models, timeout=options.timeout)

    # A report on standard output leaves no room for the text.
    stream = sys.stderr if options.json == "-" else sys.stdout
    text = _text(stream, options.verbose)

    def tell(result: Result) -> None:
        print(text.result(result), file=stream, flush=True)

    context = fresh()
    results = examine(context, checks, tell)
    print(text.end(results), file=stream)
    if options.fix:
        context, results = _fix(context, results, checks, fresh, text, stream)
    cache.save()
    if options.json:
        _write_json(options.json, context, results)
    return exit_status(results)


def _chosen(only: list[str] | None) -> tuple[Check, ...]:
    checks = ALL
    if not only:
        return checks
    wanted = [part for item in only for part in item.split(",") if part]
    known = {c.id for c in checks}
    if unknown := [w for w in wanted if w not in known]:
        raise UsageError(f"--only {unknown[0]}: no such check; --list names them")
    return tuple(c for c in checks if c.id in wanted)


def _rows(name: str | None) -> tuple[tuple[matrix.Row, ...], matrix.Row | None]:
    file = matrix.find()
    rows: tuple[matrix.Row, ...] = ()
    if file is not None:
        try:
            rows = tuple(matrix.load(file))
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be understood: {error}") from None
    if name is None:
        return rows, None
    if not rows:
        raise UsageError("--row: build/matrix.toml was not found; set TRELLIS_MATRIX to its path")
    row = next((r for r in rows if r.name == name), None)
    if row is None:
        raise UsageError(f"--row {name}: no such row; there are {', '.join(r.name for r in rows)}")
    return rows, row


def _fix(
    context: Context,
    results: list[Result],
    checks: tuple[Check, ...],
    fresh: Callable[[], Context],
    text: Text,
    stream: TextIO,
) -> tuple[Context, list[Result]]:
    findings = safe(results)
    if not findings:
        print("--fix: no remedy here is safe to apply without a person's judgement", file=stream)
        return context, results
    print("--fix: these remedies are safe and will be applied:", file=stream)
    for finding in findings:
        for command in finding.commands:
            print(f"  {finding.id}: {command}", file=stream)
    if sys.stdin.isatty() and stream.isatty() and input("go on? [y/N] ").strip().lower() not in ("y", "yes"):
        return context, results
    touched = apply(findings, context.machine, lambda line: print(line, file=stream, flush=True))
    again = fresh()
    renewed = {r.check.id: r for r in examine(again, [c for c in checks if c.id in touched])}
    for result in renewed.values():
        print(text.result(result), file=stream)
    return again, [renewed.get(r.check.id, r) for r in results]


def _text(stream: TextIO, verbose: bool) -> Text:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="replace")  # what others wrote is shown as well as the terminal can
    colour = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return Text(colour, verbose, (stream.encoding or "").lower().replace("-", "") == "utf8")


def _check_target(target: str) -> None:
    """Tells before the work, not after it, that the report cannot be written."""
    path = Path(target)
    if not target or path.is_dir():
        raise UsageError(f"--json {target or '(nothing)'}: expected the name of a file, or -")
    place = path.parent
    while not place.exists() and place != place.parent:
        place = place.parent  # what is missing is made with the report
    if not place.is_dir():
        raise UsageError(f"--json {target}: {place} is no folder")
    if not os.access(path if path.exists() else place, os.W_OK):
        raise UsageError(f"--json {target}: Permission denied")


def _write_json(target: str, context: Context, results: list[Result]) -> None:
    report = json.dumps(as_json(context, results), indent=2)
    if target == "-":
        print(report)
        return
    try:
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        Path(target).write_text(report + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {target}: {error.strerror or error}") from None
