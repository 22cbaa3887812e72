"""Runs commands with their output in a log, and tells the person at the terminal what goes on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from .errors import BuildError

_TAIL = 40


@dataclass
class Step:
    """One line of progress; `note` is added to it."""

    note: str = ""
    seconds: float = 0.0


@contextlib.contextmanager
def _signals_held() -> Iterator[Callable[[], None]]:
    """Holds SIGINT and SIGTERM back while a process is started, which could else be lost; gives what lets them act after."""
    held: list[tuple[int, FrameType | None]] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    mine = {n: h for n, h in handlers.items() if callable(h) and threading.current_thread() is threading.main_thread()}

    def act() -> None:
        for number, frame in held:
            mine[signal.Signals(number)](number, frame)

    for number in mine:
        signal.signal(number, lambda *heard: held.append(heard))
    try:
        yield act
    finally:
        for number, handler in mine.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def step(label: str) -> Iterator[Step]:
    """Prints `label` when it begins, and how long it took and how it ended when it ends."""
    print(f"  {label} ...", end="", flush=True)
    begin, state = time.monotonic(), Step()
    try:
        yield state
    except BaseException as error:
        how = "interrupted" if isinstance(error, KeyboardInterrupt) else "FAILED"
        print(f" {how} after {time.monotonic() - begin:.1f} s", flush=True)
        raise
    state.seconds = time.monotonic() - begin
    print(f" {state.seconds:.1f} s{', ' + state.note if state.note else ''}", flush=True)


def run(
    command: Sequence[str | Path],
    *,
    log: Path | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    what: str | None = None,
) -> str:
    """Runs `command` and returns its output (stdout and stderr together), also written to `log`.

    Args:
        env: variables added to the environment.
        what: what the command was for, named in the error.

    Raises:
        BuildError: it could not be started or failed; holds the end of its output and the log's place.
    """
    arguments = [str(c) for c in command]
    try:
        with _signals_held() as act:
            process = subprocess.Popen(
                arguments,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                start_new_session=True,
            )
    except OSError as error:
        act()
        raise BuildError(f"{what or arguments[0]}: {arguments[0]} could not be started: {error.strerror}") from None
    try:
        act()
        output, _ = process.communicate()
    except BaseException:  # a compiler's own children would go on, and meet those of the next build in the same folder
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"$ {shlex.join(arguments)}\n{output}", encoding="utf-8")
    if process.returncode != 0:
        tail = "\n".join("    " + line for line in output.splitlines()[-_TAIL:])
        place = f"\n    (all of it: {log})" if log else ""
        raise BuildError(
            f"{what or shlex.join(arguments[:4])} failed with exit status {process.returncode}:\n{tail}{place}"
        )
    return output


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Holds a checkout's `out` against another process that builds there at the same time, and waits for that one."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another process builds in this checkout; waiting for it", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def passthrough(command: Sequence[str | Path], *, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> int:
    """Runs `command` with this process's terminal and returns its exit status."""
    sys.stdout.flush()
    done = subprocess.run([str(c) for c in command], cwd=cwd, env={**os.environ, **(env or {})}, check=False)
    return done.returncode
