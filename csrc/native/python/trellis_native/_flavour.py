"""Which build of an extension fits this machine, and why. Pure functions: tests give them any machine."""

from __future__ import annotations

import ctypes
import json
import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Flavour:
    """One library of an extension and the note its build left beside it."""

    name: str  # "cpu", "cuda12", "cuda13"
    path: Path
    architectures: tuple[str, ...]  # "sm_90" (machine code) and "compute_90" (PTX), or the processor's name
    abi: str
    version: str
    compiler: str

    @property
    def cuda_major(self) -> int | None:
        return int(self.name.removeprefix("cuda")) if self.name.startswith("cuda") else None


@dataclass(frozen=True)
class Choice:
    """The flavour taken (None when none fits) and a sentence that says why."""

    flavour: Flavour | None
    reason: str


def find_flavours(folder: Path) -> list[Flavour]:
    """Libraries ``_<flavour>.so`` in `folder` that have their note ``_<flavour>.json``, by name."""
    found = []
    for library in sorted(folder.glob("_*.so")):
        note_file = library.with_suffix(".json")
        if not note_file.exists():
            raise RuntimeError(
                f"{library} has no {note_file.name} beside it: the installation is incomplete; reinstall"
            )
        note = json.loads(note_file.read_text())
        found.append(
            Flavour(
                note["flavour"], library, tuple(note["architectures"]), note["abi"], note["version"], note["compiler"]
            )
        )
    return found


def runs_on(architectures: tuple[str, ...], capability: tuple[int, int]) -> str | None:
    """What in `architectures` a device of compute capability `capability` can run, or None.

    Machine code runs on devices of its own major version with an equal or higher minor one; PTX is
    compiled by the driver for any device of its version or later (CUDA Programming Guide, "Compatibility").
    """
    device = capability[0] * 10 + capability[1]
    best: tuple[int, int, str] | None = None
    for architecture in architectures:
        match = re.fullmatch(r"(sm|compute)_(\d+)([af]?)", architecture)
        if match is None:
            continue
        version = int(match[2])
        if match[3]:  # architecture-specific code runs on exactly that device
            fits = version == device
        elif match[1] == "sm":
            fits = version // 10 == device // 10 and version <= device
        else:
            fits = version <= device
        candidate = (1 if match[1] == "sm" else 0, version, architecture)
        if fits and (best is None or candidate > best):
            best = candidate
    return best[2] if best else None


def choose_cuda(flavours: list[Flavour], driver: int | None, capability: tuple[int, int]) -> Choice:
    """The newest CUDA flavour that driver and device can run.

    Args:
        flavours: what is installed.
        driver: newest CUDA version the driver supports, as cuDriverGetVersion gives it (13000 for 13.0),
            or None without a driver.
        capability: compute capability of the device, such as (9, 0).
    """
    if driver is None:
        return Choice(None, "no NVIDIA driver was found (libcuda.so.1 is missing or gives no version)")
    tried = []
    for flavour in sorted(flavours, key=lambda f: f.cuda_major or 0, reverse=True):
        major = flavour.cuda_major
        if major is None:
            continue
        if driver // 1000 < major:
            tried.append(
                f"{flavour.name} needs a driver for CUDA {major}, this one supports {driver // 1000}.{driver % 1000 // 10}"
            )
            continue
        code = runs_on(flavour.architectures, capability)
        if code is None:
            have = ", ".join(flavour.architectures)
            tried.append(
                f"{flavour.name} holds {have}, none of which runs on a device of capability {capability[0]}.{capability[1]}"
            )
            continue
        because = f"driver supports CUDA {driver // 1000}.{driver % 1000 // 10}, device {capability[0]}.{capability[1]} runs {code}"
        return Choice(flavour, "; ".join([because, *tried]))
    if not tried:
        return Choice(None, "this installation was built without a CUDA flavour")
    return Choice(None, "; ".join(tried))


def driver_version() -> int | None:
    """Newest CUDA version the installed driver supports (13000 for 13.0), or None without a driver."""
    try:
        libcuda = ctypes.CDLL("libcuda.so.1")
        version = ctypes.c_int(0)
        if libcuda.cuDriverGetVersion(ctypes.byref(version)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return version.value or None
