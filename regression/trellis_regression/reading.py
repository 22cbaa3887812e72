"""What is in a file, read by a process beside this one: an import here and decoding there do not share an interpreter.

The process is a fork, so it must be made while this one has a single thread. Arrays come back in memory that both map, one
thing after the other, as each is read.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_ALIGNED = 64  # bytes; where arrays begin
_LENGTH = 8  # bytes that say how many follow


def possible() -> bool:
    """Whether a process may be forked here, and has anything to be faster than."""
    plain = threading.active_count() == 1 and "torch" not in sys.modules
    return plain and hasattr(os, "fork") and hasattr(os, "memfd_create")


class Reading:
    """The things that `read` finds in a file; it begins when this is made.

    Args:
        read: gives things that can be pickled, and may raise a ValueError.
    """

    def __init__(self, path: Path, read: Callable[[Path], Iterable[Any]]) -> None:
        self._path = path
        self._memory = os.memfd_create("surfaces")
        answer, end = os.pipe()
        self._answer = os.fdopen(answer, "rb")
        self._killed: ValueError | None = None
        # A Ctrl-C that comes before the process has its own way with it waits.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # numpy's BLAS has idle threads, and copes
                self._process: int | None = os.fork()
            if self._process == 0:
                try:
                    signal.signal(signal.SIGINT, signal.SIG_DFL)
                    signal.pthread_sigmask(signal.SIG_SETMASK, before)
                    _work(path, read, self._memory, end)
                finally:
                    os._exit(0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(end)

    def result(self) -> tuple[Any] | None:
        """The next thing, or None: there is no more, the process ended without an answer of its own accord, or the file has
        changed since.

        Raises:
            ValueError: what `read` raised, or that the process was killed. Reading again could end this one as well: a
                system short of memory kills what asks for most.
        """
        answer = (
            self._answer.read(int.from_bytes(self._answer.read(_LENGTH), "little")) if self._killed is None else b""
        )
        try:
            stamp, places, body, error = pickle.loads(answer)
        except (EOFError, pickle.UnpicklingError):
            self._end()
            return None
        if stamp is None or stamp != _stamp(self._path):
            return None
        if error is not None:
            raise error
        size = os.fstat(self._memory).st_size
        whole = memoryview(mmap.mmap(self._memory, size) if size else b"")
        return (pickle.loads(body, buffers=[whole[at : at + length] for at, length in places]),)

    def _end(self) -> None:
        """Hears how the process ended."""
        process, self._process = self._process, None
        if process is not None:
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            if status < 0:
                self._killed = ValueError(
                    f"{self._path}: the process that read it was ended by {signal.Signals(-status).name}; is memory short?"
                )
        if self._killed is not None:
            raise self._killed

    def abandon(self) -> None:
        """Ends the process, if it is still reading."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, signal.SIGKILL)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Another number when the file is another."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _work(path: Path, read: Callable[[Path], Iterable[Any]], memory: int, end: int) -> None:
    at = 0

    def send(found: Any, error: ValueError | None) -> None:
        nonlocal at
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(found, 5, buffer_callback=buffers.append)
        places: list[tuple[int, int]] = []
        for buffer in buffers:
            raw = buffer.raw()
            places.append((at, raw.nbytes))
            done = 0
            while done < raw.nbytes:
                done += os.pwrite(memory, raw[done:], at + done)
            at += -(-raw.nbytes // _ALIGNED) * _ALIGNED
        os.ftruncate(memory, at)
        answer = pickle.dumps((stamp, places, body, error))
        pipe.write(len(answer).to_bytes(_LENGTH, "little") + answer)
        pipe.flush()

    stamp = _stamp(path)
    with os.fdopen(end, "wb") as pipe:
        try:
            for found in read(path):
                send(found, None)
        except ValueError as problem:
            send(None, problem)
