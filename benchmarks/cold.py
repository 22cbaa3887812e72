"""Times a command from a process's start to its end, many times, where Python finds bytecode as after any installation.

Every installer writes bytecode. A folder that was only unpacked, or PYTHONDONTWRITEBYTECODE, lets each process compile all
that it imports anew, which for torch takes seconds.
"""

from __future__ import annotations

import importlib.util
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path


def has_bytecode(module: str) -> bool:
    """Whether a process such as this one finds the module's bytecode."""
    spec = importlib.util.find_spec(module)
    return spec is not None and spec.cached is not None and Path(spec.cached).is_file()


def with_bytecode(folder: Path, *modules: str) -> tuple[dict[str, str], str]:
    """The environment for processes that are to find the bytecode of `modules`, and which it is, in words.

    Where this process finds it, that is its own; else those processes write it to `folder`, and a first one has.

    Raises:
        RuntimeError: none was written.
    """
    if all(map(has_bytecode, modules)):
        return dict(os.environ), "bytecode of the installation"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(folder)
    missing = [m for m in modules if not has_bytecode(m)]
    script = (
        f"import sys; sys.path[:0] = {[str(Path(__file__).parent), *sys.path]}; import cold, {', '.join(modules)}\n"
        f"sys.exit(not all(map(cold.has_bytecode, {modules})))"
    )
    if subprocess.run([sys.executable, "-c", script], env=environment).returncode:
        raise RuntimeError(f"no bytecode of {', '.join(modules)} was written to {folder}")
    written = sum(1 for _ in folder.rglob("*.pyc"))
    return (
        environment,
        f"no bytecode of {', '.join(missing)} was there, so processes were given a cache ({written} files)",
    )


def times(command: Sequence[str], runs: int, environment: dict[str, str]) -> tuple[list[float], list[float], str]:
    """Wall and processor seconds of each of `runs` + 1 runs, the first of which finds files and caches cold, and the last output.

    Raises:
        RuntimeError: one failed; the text is what it said.
    """
    walls, processor, said = [], [], ""
    for _ in range(runs + 1):
        begin, before = time.perf_counter(), _processor()
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        walls.append(time.perf_counter() - begin)
        processor.append(_processor() - before)
        said = done.stdout + done.stderr
        if done.returncode:
            raise RuntimeError(f"exit status {done.returncode}: {said}")
    return walls, processor, said


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def line(name: str, walls: Sequence[float], processor: Sequence[float]) -> str:
    """Least, quartiles and most of all runs but the first, which stands apart."""
    first, later = walls[0], walls[1:]
    quartiles = statistics.quantiles(later, n=4, method="inclusive") if len(later) > 1 else [*later] * 3
    return (
        f"{name:26}wall least {min(later):.2f}, quartiles {' '.join(f'{q:.2f}' for q in quartiles)}, most {max(later):.2f} s "
        f"of {len(later)}; the first before them {first:.2f} s; processor {statistics.median(processor[1:]):.2f} s"
    )
