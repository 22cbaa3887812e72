"""Command line: ``python -m trellis_build COMMAND``. `nox -s SESSION` calls it with its own environment made."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import builder, flash_attn, lock_check, machine, reproduce, resolve, sessions, verify
from .errors import BuildError
from .layout import Checkout, find_checkout
from .matrix import Matrix, Row


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 done, 1 something failed, 2 it cannot be done (one line says why), 130 Ctrl-C."""
    own, rest = list(sys.argv[1:] if arguments is None else arguments), []
    if "--" in own:  # what follows is for the program that a session runs
        own, rest = own[: own.index("--")], own[own.index("--") + 1 :]
    options = _parser().parse_args(own)
    options.rest = rest
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what CI sends to end a job ends the compilers as well
    try:
        checkout = find_checkout()
        status: int = globals()[f"_{options.command.replace('-', '_')}"](checkout, options)
        return status
    except BuildError as error:
        print(f"trellis-build: error: {error}", file=sys.stderr, flush=True)
        return 2
    except OSError as error:  # a full disk, a checkout that cannot be written
        where = f"{error.filename}: " if error.filename else ""
        print(f"trellis-build: error: {where}{error.strerror or error}", file=sys.stderr, flush=True)
        return 2
    except KeyboardInterrupt:
        print("trellis-build: interrupted", file=sys.stderr, flush=True)
        return 130


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the page of usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="trellis-build", description="Builds, locks and verifies Trellis Forge.")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, text: str, *, row: str | None = None, compiles: bool = False) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        if row is not None:
            sub.add_argument("--row", metavar="NAME", help=f"row of build/matrix.toml (default: {row})")
        if compiles:
            sub.add_argument(
                "--arch",
                action="append",
                default=[],
                metavar="sm_90",
                help="only this GPU architecture; may be repeated",
            )
            sub.add_argument(
                "--system-cuda", action="store_true", help="use the installed nvcc instead of the locked packages"
            )
        return sub

    command("validate", "check matrix.toml and the locks")
    command("rows", "list the rows and name the one for this machine")
    lock = command("lock", "resolve build/locks/ anew")
    lock.add_argument("--upgrade", action="store_true", help="newest versions, instead of keeping what fits")
    lock.add_argument("--only", action="append", metavar="NAME", help="only this row or file; may be repeated")
    build = command("build", "build the wheels of a row into dist/", row="the one for this machine", compiles=True)
    build.add_argument("--all", action="store_true", help="every row")
    check = command("verify", "try a row's wheels in a fresh environment", row="the one for this machine")
    check.add_argument("--without-gpu", action="store_true", help="check only the CPU half of a CUDA row")
    command(
        "reproduce", "build twice in two folders and compare", row="cu130, which holds both flavours", compiles=True
    )
    command("flash-attn", "build flash-attn for a row", row="the one for this machine", compiles=True)
    command("tests", "run pytest on the wheels just built", row="cpu")
    command("demo", "run the demo on the wheels just built", row="cpu")
    command("regress", "fixed assets through the road, gated against golden/", row="cpu")
    command("run", "run a command in a row's environment", row="cpu")
    command("lint", "ruff, mypy, matrix and locks")
    command("dev", "an environment for working on the sources", row="cpu")
    return parser


def _row(matrix: Matrix, name: str | None) -> Row:
    """The row that was named, else the one for this machine."""
    if name is not None:
        return matrix.row(name)
    row, why = machine.choose_row(matrix, machine.detect(), _installed_torch())
    print(f"row {row.name}: {why}", flush=True)
    return row


def _installed_torch() -> str | None:
    """Version of torch in the caller's Python (TRELLIS_CALLER_PYTHON, set by the noxfile), read without importing it."""
    code = "import importlib.metadata as m; print(m.version('torch'))"
    python = os.environ.get("TRELLIS_CALLER_PYTHON", sys.executable)
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None


def _validate(checkout: Checkout, options: argparse.Namespace) -> int:
    bad = lock_check.all_problems(checkout)
    print("\n".join(bad) if bad else "matrix.toml is well formed, and every lock says what it says")
    return 1 if bad else 0


def _rows(checkout: Checkout, options: argparse.Namespace) -> int:
    chosen, why = machine.choose_row(checkout.matrix, machine.detect(), _installed_torch())
    for row in checkout.matrix.rows.values():
        cuda = f"CUDA {row.cuda}, Triton {row.triton}" if row.cuda else "no CUDA"
        mark = "*" if row == chosen else " "
        print(f"{mark} {row.name:12} torch {row.torch}, {cuda}, Python {row.python[0]} to {row.python[-1]}: {row.why}")
    print(f"* is the row for this machine: {why}")
    return 0


def _lock(checkout: Checkout, options: argparse.Namespace) -> int:
    resolve.update(checkout, upgrade=options.upgrade, only=options.only)
    return _validate(checkout, options)


def _build(checkout: Checkout, options: argparse.Namespace) -> int:
    matrix = checkout.matrix
    if options.all and options.row:
        raise BuildError("--all and --row exclude each other")
    status = 0
    for row in list(matrix.rows.values()) if options.all else [_row(matrix, options.row)]:
        try:
            narrowed = () if options.all and row.toolchain is None else options.arch
            outcome = builder.build_row(checkout, row, architectures=narrowed, system_cuda=options.system_cuda)
            status = max(status, 0 if outcome.ok else 1)
        except BuildError as error:
            if not options.all:
                raise
            print(f"trellis-build: error: {error}", file=sys.stderr, flush=True)
            status = 2
    return status


def _verify(checkout: Checkout, options: argparse.Namespace) -> int:
    verify.verify(checkout, _row(checkout.matrix, options.row), without_gpu=options.without_gpu)
    return 0


def _reproduce(checkout: Checkout, options: argparse.Namespace) -> int:
    row = checkout.matrix.row(options.row or "cu130")
    narrowed = options.arch or (["sm_90"] if row.toolchain else [])
    reproduce.reproduce(checkout, row, architectures=narrowed, system_cuda=options.system_cuda)
    return 0


def _flash_attn(checkout: Checkout, options: argparse.Namespace) -> int:
    row = _row(checkout.matrix, options.row)
    print(flash_attn.build(checkout, row, architectures=options.arch, system_cuda=options.system_cuda))
    return 0


def _session_row(checkout: Checkout, options: argparse.Namespace) -> Row:
    return checkout.matrix.row(options.row or sessions.default_row(checkout))


def _tests(checkout: Checkout, options: argparse.Namespace) -> int:
    return sessions.tests(checkout, _session_row(checkout, options), options.rest)


def _demo(checkout: Checkout, options: argparse.Namespace) -> int:
    return sessions.demo(checkout, _session_row(checkout, options), options.rest)


def _regress(checkout: Checkout, options: argparse.Namespace) -> int:
    return sessions.regress(checkout, _session_row(checkout, options), options.rest)


def _run(checkout: Checkout, options: argparse.Namespace) -> int:
    return sessions.run(checkout, _session_row(checkout, options), options.rest)


def _lint(checkout: Checkout, options: argparse.Namespace) -> int:
    return sessions.lint(checkout, checkout.matrix.row("cpu"))


def _dev(checkout: Checkout, options: argparse.Namespace) -> int:
    folder = sessions.develop(checkout, _session_row(checkout, options))
    print(f"source {shlex.quote(str(folder / 'bin' / 'activate'))}")
    print("runs this checkout's Python sources; after a change in native code, `nox -s dev` again")
    return 0


if __name__ == "__main__":
    sys.exit(main())
