"""What this machine has (driver, GPUs, memory), and which row of the matrix fits it."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError
from .matrix import Matrix, Row


@dataclass(frozen=True)
class Machine:
    """`driver` is the newest CUDA that the driver supports, (13, 0) for 13.0; `gpus` are compute capabilities."""

    driver: tuple[int, int] | None
    gpus: tuple[tuple[int, int], ...]

    def describe(self) -> str:
        if self.driver is None:
            return "no NVIDIA driver"
        gpus = ", ".join(f"{a}.{b}" for a, b in self.gpus) or "none"
        return f"driver for CUDA {self.driver[0]}.{self.driver[1]}, GPUs of capability {gpus}"


def detect() -> Machine:
    """Asks the NVIDIA driver, if there is one. Initialises no CUDA context."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
        version, count = ctypes.c_int(0), ctypes.c_int(0)
        if cuda.cuDriverGetVersion(ctypes.byref(version)) != 0 or not version.value:
            return Machine(None, ())
        driver = (version.value // 1000, version.value % 1000 // 10)
        if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
            return Machine(driver, ())
        gpus = []
        for device in range(count.value):
            major, minor = ctypes.c_int(0), ctypes.c_int(0)
            cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
            cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
            gpus.append((major.value, minor.value))
        return Machine(driver, tuple(gpus))
    except (OSError, AttributeError):
        return Machine(None, ())


def choose_row(matrix: Matrix, machine: Machine, installed_torch: str | None = None) -> tuple[Row, str]:
    """The row for `machine`, and a sentence that says why.

    A torch that is installed already decides if a row of the driver's CUDA has that version; else the newest
    row that may be chosen unnamed and whose CUDA the driver runs (a driver runs every minor version of its
    CUDA major, but the row nearest below is preferred).
    """
    if machine.driver is None or not machine.gpus:
        return matrix.row("cpu"), f"this machine has {machine.describe()}"
    driver = machine.driver
    fitting = [r for r in matrix.rows.values() if r.cuda and _version(r.cuda)[0] <= driver[0]]
    for row in fitting:
        if installed_torch is not None and row.torch == installed_torch.split("+")[0]:
            return row, f"torch {installed_torch} is installed here, and this machine has a {machine.describe()}"
    offered = [r for r in fitting if r.automatic and r.cuda]
    if not offered:
        return matrix.row("cpu"), f"no CUDA row fits: this machine has a {machine.describe()}"
    below = [r for r in offered if _version(r.cuda) <= driver]
    row = max(below, key=lambda r: _version(r.cuda)) if below else min(offered, key=lambda r: _version(r.cuda))
    return row, f"this machine has a {machine.describe()}"


def _version(cuda: str | None) -> tuple[int, int]:
    major, minor = (cuda or "0.0").split(".")
    return int(major), int(minor)


def memory_available(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can still be used, within the container's limit where there is one."""
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        raise BuildError(f"{meminfo} does not say how much memory is available") from None
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        return min(free, int(limit) - used) if limit != "max" else free
    except (OSError, ValueError):
        return free


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
