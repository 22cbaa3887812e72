"""The same function on many things, in several processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
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
        yield from pool.map(function, things)
