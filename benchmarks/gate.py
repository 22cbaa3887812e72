"""Times `trellis-gate check` on a large asset: python benchmarks/gate.py [--device cuda] [--faces 1000000] [--texture 4096].

The asset is a rough ball, made here in one go (uv by a sphere's longitudes, one chart), with two PNG textures of noise
that compresses as pictures do. It is its own golden. Prints wall and processor seconds of each step in one process, then
those of the whole command in a process of its own, `--runs` times each and once before: the start of Python, every import,
the report of the Khronos validator where it is installed. Processes find bytecode, as after any installation; where there
is none beside torch they are given a cache, and the first line says so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cold
import numpy as np
import torch
from heading import heading, where
from PIL import Image
from trellis_regression import thresholds
from trellis_regression.asset import Asset
from trellis_regression.gate import judge
from trellis_regression.inject import Model
from trellis_regression.measure import container, pictures, rays, texture, welded
from trellis_regression.profile import Looks, alone, gather


def make(faces: int, size: int) -> bytes:
    """The asset as a GLB."""
    rows = int(np.sqrt(faces / 4))
    columns = 2 * rows
    latitude = np.linspace(0.02, np.pi - 0.02, rows + 1)[:, None]
    longitude = np.linspace(0, 2 * np.pi, columns + 1)[None]
    radius = 1 + 0.08 * np.sin(9 * longitude) * np.sin(7 * latitude)
    direction = np.stack(
        [np.sin(latitude) * np.cos(longitude), np.cos(latitude) + 0 * longitude, np.sin(latitude) * np.sin(longitude)],
        -1,
    )
    points = (radius[..., None] * direction).reshape(-1, 3)
    uv = np.stack(np.broadcast_arrays(longitude / (2 * np.pi), latitude / np.pi), -1).reshape(-1, 2) * 0.98 + 0.01
    i, k = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    a = (i * (columns + 1) + k).reshape(-1)
    below = a + columns + 1
    triangles = np.concatenate([np.stack([a, a + 1, below + 1], 1), np.stack([a, below + 1, below], 1)])
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(40, 220, (64, 64, 4), np.uint8))
    image = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).copy()
    image[..., 3] = 255
    model = Model(
        points.astype(np.float32), direction.reshape(-1, 3).astype(np.float32), uv.astype(np.float32),
        triangles.astype(np.int64), image, image,
    )  # fmt: skip
    covered, _ = model.coverage()
    return model.filled(covered).write()


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--texture", type=int, default=4096)
    parser.add_argument("--keep", type=Path, default=Path("out/gate-benchmark.glb"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--command-only", action="store_true", help="leave out the steps")
    parser.add_argument("--runs", type=int, default=5, help="of the command, of each kind (5)")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if not arguments.keep.is_file():
        arguments.keep.parent.mkdir(parents=True, exist_ok=True)
        arguments.keep.write_bytes(make(arguments.faces, arguments.texture))

    def timed(name: str, work: Callable[[], Any]) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        print(
            f"{name:34}{time.perf_counter() - wall:8.2f} s wall {time.process_time() - processor:8.2f} s processor",
            flush=True,
        )
        return result

    with TemporaryDirectory() as cache:
        processes, how = cold.with_bytecode(Path(cache), "torch", "numpy", "PIL.Image", "trellis_regression")
        host = [where(torch.device("cpu"))] if device.type != "cpu" else []
        print(heading(device, *host, how), flush=True)
        if not arguments.command_only:
            steps(arguments.keep, device, timed)
        commands(arguments.keep, device, arguments.runs, processes)


def commands(path: Path, device: torch.device, runs: int, processes: dict[str, str]) -> None:
    """The command as a user types it, without a golden and with one; a first run of each is not counted."""
    with TemporaryDirectory() as folder:
        golden = Path(folder, "ball", "copy")
        golden.mkdir(parents=True)
        shutil.copy(path, golden / "asset.glb")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        Path(golden, "profile.json").write_text(json.dumps(alone(Asset.read(path))))
        Path(golden, "provenance.json").write_text(json.dumps({"sha256": digest}))
        for what, more in (("no golden", []), ("a golden", ["--golden", str(golden.parent)])):
            command = [sys.executable, "-m", "trellis_regression", "check", str(path), "--device", str(device), *more]
            walls, processor, said = cold.times(command, runs, processes)
            print(cold.line(f"the command, {what}", walls, processor), flush=True)
        print(said)


def steps(path: Path, device: torch.device, timed: Callable[..., Any]) -> None:
    """Each part of the work by itself."""
    if device.type == "cuda":
        timed("CUDA context", lambda: torch.zeros(1, device=device))
    asset = timed("read and decode", lambda: Asset.read(path, device))
    print(f"{len(asset.faces):,} faces, {container.measure(asset)['texture_sizes']}")
    shape = timed("welded mesh", lambda: welded.measure(asset))
    timed("search structure", lambda: asset.bvh)
    shape |= timed("rays", lambda: rays.measure(asset))
    colour = timed("texture", lambda: texture.measure(asset))
    own = {"container": container.measure(asset), "shape": shape, "texture": colour}
    timed(
        "against a golden, without pictures",
        lambda: gather(asset, golden=asset, golden_profile=own, own=own, looks=Looks(views=())),
    )
    timed("light of the pictures", lambda: pictures.light(device))
    found = timed("against a golden, all", lambda: gather(asset, golden=asset, golden_profile=own, own=own))
    print([x.name for x in judge(found, thresholds.load()).fired])
    timed("everything again, no golden", lambda: gather(Asset.read(path, device)))


if __name__ == "__main__":
    main()
