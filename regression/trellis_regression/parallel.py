"""The same function on many things, in several processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from unittest import mock

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
    with (
        mock.patch.dict(os.environ, alone),
        ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool,
    ):
        with _unheard():
            found = pool.map(function, things)
        yield from found


@contextmanager
def _unheard() -> Iterator[None]:
    """Processes started here ignore Ctrl-C, which a terminal sends to them too: one of the command's lines is enough."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
