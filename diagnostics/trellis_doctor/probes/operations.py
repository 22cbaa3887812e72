"""Runs the operations named as arguments (`mesh`, or `mesh.simplify`) on inputs whose answers are known.

On the CPU they are compared with the table in known_operations.py; on a CUDA device with it and with the CPU's result.
"""

import dataclasses
import importlib
import importlib.util
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path[:] = [p for p in sys.path if not p.endswith("trellis_doctor/probes")]


def say(**facts: Any) -> None:
    print("TRELLIS-DOCTOR " + json.dumps(facts), flush=True)


say(stage="importing torch")
import torch  # noqa: E402


class Makers:
    """Tensors on one device: f float32, h float16, i int32, n int64, u uint8, b bool."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __getattr__(self, kind: str) -> Any:
        kinds = {"f": "float32", "h": "float16", "i": "int32", "n": "int64", "u": "uint8", "b": "bool"}
        dtype = getattr(torch, kinds[kind])
        return lambda data: torch.tensor(data, dtype=dtype, device=self.device)


def plain(value: Any) -> Any:
    """Tensors and what holds them as nested lists."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if not f.name.startswith("_")}
    return value


def close(have: Any, want: Any, tolerance: float) -> bool:
    if isinstance(want, list):
        return (
            isinstance(have, list)
            and len(have) == len(want)
            and all(close(h, w, tolerance) for h, w in zip(have, want, strict=True))
        )
    if isinstance(want, dict):
        return (
            isinstance(have, dict)
            and have.keys() == want.keys()
            and all(close(have[k], want[k], tolerance) for k in want)
        )
    if isinstance(want, float) and isinstance(have, (int, float)) and not isinstance(have, bool):
        if not math.isfinite(want):
            return have == want or (math.isnan(want) and math.isnan(have))
        return math.isfinite(have) and abs(have - want) <= tolerance * max(1.0, abs(want))
    return type(have) is type(want) and bool(have == want)


def differs(have: Any, want: Any, tolerance: float) -> str | None:
    return None if close(have, want, tolerance) else f"gave {str(have)[:200]}, not {str(want)[:200]}"


def table() -> Any:
    """The module beside this file; its folder is not on the path, where it could hide another."""
    spec = importlib.util.spec_from_file_location("known_operations", Path(__file__).with_name("known_operations.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def on(device: str, operation: Any, package: Any, cpu: Any) -> tuple[str, Any]:
    """What became of it on a device ("right", "absent: ...", or what is wrong), and what it gave."""
    maker = Makers(device)
    try:
        gave = plain(operation.run(package, maker, maker))
        if operation.facts is not None:
            gave = operation.facts(gave)
    except NotImplementedError as error:
        return f"absent: {error}"[:300], None
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        cause = error.__cause__
        if isinstance(cause, ModuleNotFoundError):
            missing = cause.name
        if missing in operation.needs:
            return f"absent: {missing} is not installed", None
        return f"{type(error).__name__}: {error}"[:400], None
    if wrong := differs(gave, operation.answer, operation.tolerance):
        return wrong, gave
    if cpu is not None and (wrong := differs(gave, cpu, operation.tolerance)):
        return f"{wrong} as on the CPU", gave
    return "right", gave


def mixed(operation: Any, package: Any, devices: list[str]) -> str:
    try:
        operation.run(package, Makers("cpu"), Makers(devices[1] if len(devices) > 1 else "meta"))
    except (ValueError, TypeError):
        return "refused"
    except Exception as error:
        return f"{type(error).__name__} instead of ValueError: {error}"[:300]
    return "it computed something"


def main(asked: list[str]) -> None:
    devices = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
    operations = [o for o in table().OPERATIONS if o.package in asked or o.id in asked]
    say(devices=devices, order=[o.id for o in operations])
    packages: dict[str, Any] = {}
    for name in dict.fromkeys(o.package for o in operations):
        say(stage=f"importing trellis_{name}")
        try:
            packages[name] = importlib.import_module(f"trellis_{name}")
        except BaseException as error:
            other = error.name if isinstance(error, ModuleNotFoundError) else None
            say(**{f"import {name}": {"failed": f"{type(error).__name__}: {error}"[:400], "module": other}})
    for operation in operations:
        if operation.package not in packages:
            continue
        package = packages[operation.package]
        results: dict[str, str] = {}
        cpu = None
        for device in devices:
            say(stage=f"{operation.id} on {device}")
            results[device], gave = on(device, operation, package, cpu)
            cpu = gave if device == "cpu" else cpu
        refused = None
        if operation.takes_two and results["cpu"] == "right":
            say(stage=f"{operation.id} with tensors on two devices")
            refused = mixed(operation, package, devices)
        say(**{operation.id: {"devices": results, "mixed": refused}})
        if any("CUDA error" in r for r in results.values()):
            sys.exit(3)  # the device is lost to this process: all that follows would fail for this one's fault
    say(stage="done")


main(sys.argv[1:])
