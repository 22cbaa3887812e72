"""When each part of `trellis-gate check` begins and ends: python benchmarks/gate_timeline.py OUT.glb [--golden DIR] [--device cuda].

Runs the command once in a process of its own and prints, for the whole process, each import and each measurement, the
seconds since the process was asked for, and the thread. "reaped" is when the system had taken back all that it held.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

WATCHED = {
    "asset": ["Asset.read"],
    "check": ["check", "judge"],
    "render": ["Renderer.__init__", "Renderer.draw_modes", "frame_of"],
    "measure.axes": ["measure"],
    "measure.container": ["measure", "validator"],
    "measure.pictures": ["light", "compare", "flip", "measure"],
    "measure.rays": ["measure"],
    "measure.surface": ["measure"],
    "measure.texture": ["measure", "collect", "_charts"],
    "measure.welded": ["measure", "_components", "_edges", "_lattice", "_primitive"],
}
_rows: list[tuple[float, float, str, str]] = []


def _watched(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(work)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begin = time.time()
        try:
            return work(*args, **kwargs)
        finally:
            _rows.append((begin, time.time(), threading.current_thread().name, name))

    return timed


def _watch() -> None:
    for module_name, names in WATCHED.items():
        module = importlib.import_module(f"trellis_regression.{module_name}")
        for name in names:
            owner, _, own = name.rpartition(".")
            holder = getattr(module, owner) if owner else module
            found = vars(holder)[own]
            wrapped = _watched(f"{module_name}.{name}", getattr(found, "__func__", found))
            setattr(holder, own, classmethod(wrapped) if isinstance(found, classmethod) else wrapped)


def inside(asked: float, arguments: list[str]) -> None:
    """The command, in this process."""
    _rows.append((asked, time.time(), "MainThread", "Python's start"))
    begin = time.time()
    from trellis_regression import cli, lean, opening, reading

    _rows.append((begin, time.time(), "MainThread", "import of the command"))
    cli._device = _watched("cli._device", cli._device)
    cli._unheard = _watched("ahead: what pictures need", cli._unheard)
    opening._retain = _watched("CUDA context", opening._retain)
    setattr(reading.Reading, "result", _watched("waiting for a file's process", reading.Reading.result))  # noqa: B010
    opening.begin = _watched("opening.begin", opening.begin)
    opening.take = _watched("opening.take", opening.take)
    uncollected = opening.uncollected

    @contextmanager
    def imports() -> Iterator[None]:
        begin = time.time()
        with uncollected():
            lean.import_torch()
            _rows.append((begin, time.time(), "MainThread", "import torch"))
            begin = time.time()
            yield
        _rows.append((begin, time.time(), "MainThread", "the device and other imports"))
        _watch()

    opening.uncollected = imports
    cli.main(arguments)
    _rows.append((asked, time.time(), "MainThread", "all"))
    print(json.dumps([(b - asked, e - asked, t, n) for b, e, t, n in _rows]), file=sys.stderr)
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    """Prints the table, in the order of beginnings."""
    asked = time.time()
    command = [sys.executable, __file__, "--inside", str(asked), "check", *sys.argv[1:]]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    reaped = time.time() - asked
    try:
        rows = json.loads(done.stderr.splitlines()[-1])
    except (IndexError, ValueError):
        sys.exit(done.stderr)
    for begin, end, thread, name in sorted(rows):
        print(f"{begin:6.2f} {end:6.2f} {end - begin:6.2f}  {thread:24} {name}")
    print(f"{reaped:6.2f} reaped")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        inside(float(sys.argv[2]), sys.argv[3:])
    else:
        main()
