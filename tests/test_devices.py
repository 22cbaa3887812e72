"""Every operation of the extensions on a second GPU while the first is the current one, from the doctor's table."""

import dataclasses
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")]

PROBES = Path(__file__).parents[1] / "diagnostics" / "trellis_doctor" / "probes"


def probe(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"probe_{name}", PROBES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a NamedTuple looks its own module up
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


runner, OPERATIONS = probe("operations"), probe("known_operations").OPERATIONS
BY_ID = {operation.id: operation for operation in OPERATIONS}
ON_THE_CPU = {"read_vxz", "read_npz", "read_ply", "read", "read_radiance", "Grid"}
"""What gives tensors on the CPU wherever its input lay, or reads a file."""


def devices_of(value: Any) -> set[torch.device]:
    """Of all tensors in a result."""
    if isinstance(value, torch.Tensor):
        return {value.device}
    if isinstance(value, Mapping):
        return devices_of(list(value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(devices_of, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return devices_of([getattr(value, field.name) for field in dataclasses.fields(value)])
    return set()


def run(operation: Any, device: str) -> tuple[Any, set[torch.device]]:
    for name in operation.needs:
        pytest.importorskip(name)
    package, makers = importlib.import_module(f"trellis_{operation.package}"), runner.Makers(device)
    result = operation.run(package, makers, makers)
    return runner.plain(result), devices_of(result)


@pytest.mark.parametrize("id_", BY_ID)
def test_the_second_device_gives_what_the_first_gives(id_: str) -> None:
    operation = BY_ID[id_]
    torch.cuda.set_device(0)
    first, _ = run(operation, "cuda:0")
    torch.cuda.synchronize()
    there = torch.cuda.memory_stats(0)["allocation.all.allocated"]
    second, devices = run(operation, "cuda:1")
    assert torch.cuda.current_device() == 0
    assert torch.cuda.memory_stats(0)["allocation.all.allocated"] == there, "it asked the first device for memory"
    assert second == first
    facts = operation.facts(second) if operation.facts is not None else second
    assert runner.differs(facts, operation.answer, operation.tolerance) is None
    if operation.name.split(".")[0] not in ON_THE_CPU:
        assert devices <= {torch.device("cuda:1")}


@pytest.mark.parametrize("id_", BY_ID)
def test_a_stream_of_the_second_device_is_used(id_: str) -> None:
    """The stream is kept busy, and what its inputs hold before their turn is wrong."""
    operation = BY_ID[id_]
    expected, _ = run(operation, "cuda:1")
    torch.cuda.synchronize(1)
    torch.cuda.set_device(0)
    stream = torch.cuda.Stream(device=1)
    with torch.cuda.stream(stream):
        torch.cuda._sleep(30_000_000)
    # Set by hand, without making device 1 the current one, as `with torch.cuda.stream` would.
    before = torch.cuda.current_stream(1)
    torch.cuda.set_stream(stream)
    torch.cuda.set_device(0)
    try:
        got, _ = run(operation, "cuda:1")
    finally:
        torch.cuda.set_stream(before)
        torch.cuda.set_device(0)
    assert got == expected


@pytest.mark.parametrize("id_", [o.id for o in OPERATIONS if o.takes_two])
@pytest.mark.parametrize(("one", "other"), [("cuda:0", "cuda:1"), ("cuda:1", "cuda:0"), ("cuda:1", "cpu")])
def test_tensors_on_two_devices_are_refused(id_: str, one: str, other: str) -> None:
    operation = BY_ID[id_]
    package = importlib.import_module(f"trellis_{operation.package}")
    with pytest.raises((ValueError, TypeError)) as caught:
        operation.run(package, runner.Makers(one), runner.Makers(other))
    said = str(caught.value)
    assert one in said or other in said, said


def test_the_loader_reports_both_devices() -> None:
    done = subprocess.run([sys.executable, "-m", "trellis_native"], capture_output=True, text=True, check=True)
    for extension in ("sparse", "mesh", "voxel", "raster", "shade"):
        part = done.stdout.split(f"trellis_{extension}:")[1].split("\ntrellis_")[0]
        assert "cuda:0: cuda1" in part and "cuda:1: cuda1" in part, done.stdout


def generated(folder: Path, device: str, *options: str) -> bytes:
    """A picture to a GLB with a tiny checkpoint, by the command line; the file and, in the manifest, the device."""
    out, manifest = folder / f"{device[-1]}{len(options)}.glb", folder / "manifest.json"
    few = ("--type", "512", "--steps", "1", "--faces", "800", "--texture", "64", "--seed", "5", "-q")
    files = ("object.png", "-o", out, "--weights", folder / "checkpoint", "--manifest", manifest)
    command = [sys.executable, "-m", "trellis_pipeline", "generate", *files, *few, "--device", device, *options]
    done = subprocess.run([str(c) for c in command], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(manifest.read_text())["memory"]["device"] == device
    return out.read_bytes()


def test_the_pipeline_gives_the_same_file_on_either_device(tmp_path: Path) -> None:
    from trellis_pipeline.testing import make_checkpoint, object_picture

    make_checkpoint(tmp_path / "checkpoint")
    object_picture().save(tmp_path / "object.png")
    first = generated(tmp_path, "cuda:0")
    assert generated(tmp_path, "cuda:1") == first
    # Weights that come and go through streams of their own.
    assert generated(tmp_path, "cuda:1", "--vram-budget", "1") == first


def test_the_pipeline_asks_the_current_device_for_nothing(tmp_path: Path) -> None:
    from trellis_pipeline import Pipeline
    from trellis_pipeline.testing import make_checkpoint, object_picture

    make_checkpoint(tmp_path)
    torch.cuda.set_device(0)
    before = torch.cuda.memory_stats(0)["allocation.all.allocated"]
    asset = Pipeline.from_pretrained(tmp_path, device="cuda:1").run(object_picture(), type="512", seed=5)
    assert asset.device == "cuda:1"
    asset.to_glb(tmp_path / "a.glb")
    assert torch.cuda.current_device() == 0
    assert torch.cuda.memory_stats(0)["allocation.all.allocated"] == before, "it asked the first device for memory"
