"""The same function on many things, in several processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from unittest import mock

from . import interrupt

T = TypeVar("T")
R = TypeVar("R")


def spread(function: Callable[[T], R], things: Sequence[T], jobs: int) -> Iterator[R]:
    """`function` of each thing, in their order; in `jobs` processes when that is more than 1.

    Function, things and results must survive pickling. An error in a process is raised here.
    """
    if jobs <= 1:
        yield from map(function, things)
        return
    # Processes with as many threads each would stand in each other's way. Libraries read these when they are loaded.
    alone = dict.fromkeys(("TRELLIS_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    # What Python starts to clear up after a process that was ended would say so, below the command's own line.
    quiet = {"PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), "ignore:resource_tracker"]))}
    with (
        mock.patch.dict(os.environ, alone | quiet),
        ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool,
    ):
        with _unheard():
            found = pool.map(function, things)
        yield from found


@contextmanager
def _unheard() -> Iterator[None]:
    """Processes started here hear no Ctrl-C, which a terminal sends to them too: one of the command's lines is enough.

    They inherit that the signal waits. One that comes meanwhile waits for this process as well, and is not lost.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    with interrupt.finishing():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
