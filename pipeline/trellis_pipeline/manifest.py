"""The record of a run: what went in, with which versions, what each stage did and how long it took."""

from __future__ import annotations

import json
import math
import numbers
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import trellis_native
from trellis_regression.whole import write_whole

SCHEMA = 1
_WIDTH = 14
_PACKAGES = (
    "trellis-native", "trellis-sparse", "trellis-mesh", "trellis-voxel", "trellis-raster", "trellis-shade",
    "trellis-regression", "trellis-pipeline", "torch", "numpy", "trimesh", "pygltflib", "pillow", "xatlas", "safetensors",
    "transformers", "huggingface-hub", "rembg", "flash-attn", "flash-attn-3", "flash-attn-4", "xformers",
)  # fmt: skip


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


class Manifest:
    """Collects a run's facts and writes them as JSON. `stage` times a stage and prints its name while it runs.

    Args:
        device: where the stages work; each stage ends when the device is done with it. May be set later.
    """

    def __init__(
        self, command: str, options: dict[str, Any], *, quiet: bool = False, device: torch.device | None = None
    ) -> None:
        self._quiet = quiet
        self.device = device
        self.facts: dict[str, Any] = {
            "schema": SCHEMA,
            "command": command,
            "options": options,
            "machine": {
                "python": platform.python_version(),
                "platform": platform.platform(),
                "threads": torch.get_num_threads(),
            },
            "packages": {name: _installed(name) for name in _PACKAGES},
            "stages": {},
        }
        self._start = time.perf_counter()

    def say(self, text: str) -> None:
        """Shows a line or more while the run goes on."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def progress(self, name: str, done: int, of: int) -> None:
        """Redraws the running stage's line with a bar, on a terminal."""
        if not self._quiet and sys.stderr.isatty():
            bar = "#" * (20 * done // max(of, 1))
            print(f"\r{name:<{_WIDTH}} [{bar:<20}] {done}/{of} ", end="", file=sys.stderr, flush=True)

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Times the body; what the body puts into the yielded dictionary is kept with the stage."""
        if not self._quiet:
            print(f"{name:<{_WIDTH}}", end=" ", file=sys.stderr, flush=True)
        facts: dict[str, Any] = {}
        start = time.perf_counter()
        try:
            yield facts
            if self.device is not None and self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
        except BaseException:
            if not self._quiet:
                print("failed", file=sys.stderr, flush=True)
            raise
        facts["seconds"] = round(time.perf_counter() - start, 3)
        self.facts["stages"][name] = facts
        if not self._quiet:
            shown = ", ".join(
                f"{k.replace('_', ' ')} {_short(v)}"
                for k, v in facts.items()
                if isinstance(v, (int, float, str)) and k != "seconds"
            )
            again = f"\r\x1b[K{name:<{_WIDTH}} " if sys.stderr.isatty() else ""  # over the bar, if there was one
            print(f"{again}{facts['seconds']:7.2f} s  {shown}", file=sys.stderr, flush=True)

    def finish(self) -> dict[str, Any]:
        """Adds the seconds since construction, the native libraries that served and the device, and returns all facts."""
        self.facts["native"] = trellis_native.report()
        if self.device is not None and self.device.type == "cuda":
            self.facts["machine"]["device"] = _device(self.device)
        self.facts["seconds"] = round(time.perf_counter() - self._start, 3)
        return self.facts


def _device(device: torch.device) -> dict[str, Any]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "index": device.index,
        "name": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory": properties.total_memory,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def write_manifest(facts: dict[str, Any], path: str | Path) -> None:
    """Writes a run's facts as JSON, whole or not at all.

    JSON has no infinity and no NaN: such a figure, a bound that is not known for one, is null there.
    """
    text = json.dumps(_finite(facts), indent=1, allow_nan=False) + "\n"
    write_whole(Path(path), lambda file: file.write_text(text))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)  # NumPy's are no ints to JSON
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value) if math.isfinite(value) else None
    return value


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
