"""A file's surfaces, read by a process beside this one: an import here and decoding there do not share an interpreter.

The process is a fork, so it must be made while this one has a single thread. Arrays come back in memory that both map.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ALIGNED = 64  # bytes; where arrays begin


def possible() -> bool:
    """Whether a process may be forked here, and has anything to be faster than."""
    plain = threading.active_count() == 1 and "torch" not in sys.modules
    return plain and hasattr(os, "fork") and hasattr(os, "memfd_create")


class Reading:
    """What `read` makes of a file, begun when this is made.

    Args:
        read: gives something that can be pickled, or raises a ValueError.
    """

    def __init__(self, path: Path, read: Callable[[Path], Any]) -> None:
        self._path = path
        self._memory = os.memfd_create("surfaces")
        self._answer, end = os.pipe()
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
        """What was read, or None: the process ended without an answer of its own accord, or the file has changed since.

        Raises:
            ValueError: what `read` raised, or that the process was killed. Reading again could end this one as well: a
                system short of memory kills what asks for most.
        """
        with os.fdopen(self._answer, "rb") as pipe:
            answer = pipe.read()
        process, self._process = self._process, None
        assert process is not None  # asked for once
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with os.fdopen(self._memory, "rb") as memory:
            if status < 0:
                raise ValueError(
                    f"{self._path}: the process that read it was ended by {signal.Signals(-status).name}; is memory short?"
                )
            try:
                stamp, places, body, error = pickle.loads(answer)
            except (EOFError, pickle.UnpicklingError):
                return None
            if stamp is None or stamp != _stamp(self._path):
                return None
            if error is not None:
                raise error
            size = os.fstat(memory.fileno()).st_size
            whole = memoryview(mmap.mmap(memory.fileno(), size) if size else b"")
        return (pickle.loads(body, buffers=[whole[at : at + length] for at, length in places]),)

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


def _work(path: Path, read: Callable[[Path], Any], memory: int, end: int) -> None:
    stamp, error, body = _stamp(path), None, b""
    buffers: list[pickle.PickleBuffer] = []
    try:
        body = pickle.dumps(read(path), 5, buffer_callback=buffers.append)
    except ValueError as problem:
        error = problem
    places: list[tuple[int, int]] = []
    at = 0
    for buffer in buffers:
        raw = buffer.raw()
        places.append((at, raw.nbytes))
        done = 0
        while done < raw.nbytes:
            done += os.pwrite(memory, raw[done:], at + done)
        at += -(-raw.nbytes // _ALIGNED) * _ALIGNED
    os.ftruncate(memory, at)
    with os.fdopen(end, "wb") as pipe:
        pipe.write(pickle.dumps((stamp, places, body, error)))
