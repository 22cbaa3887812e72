"""Device memory of each step of the export against the plan, over a grid of settings.

    python benchmarks/export_memory.py [--mesh FILE.npz|FILE.glb ...] [--resolutions 512 1024 1536]
        [--faces 200000 1000000] [--textures 1024 2048 4096] [--roads raw remesh] [--trace] [--least]

Each mesh (one made here, if none is given) is made voxels with the attributes of a generated asset, and these become a
GLB in every setting. A line for each says the largest peak, with its step; what the plan expects by what each step makes
known to the next, and before all of them; and each step's peak and the ratio of the planned to it. With ``--trace`` the
first and the last setting of each resolution and road also say which tensors live at the widest point of each step, by
the line that made them.
With ``--least`` torch is kept to ever less memory, by bisection, to find where the first setting still runs.
The exit status is 1 if a setting's peak is not within 10 % of the plan.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from export import voxels_of
from heading import heading
from run import fitted, made_mesh, read_mesh
from trellis_pipeline.errors import StageError
from trellis_pipeline.export import VoxelAsset, export_asset, load_source, voxelize
from trellis_pipeline.memory.export import ExportSizes
from trellis_pipeline.memory.ledger import Ledger

GIB = 1 << 30
_OURS = ("trellis_", "benchmarks")
_PASSED = ("call_with_scratch", "call", "__call__", "take")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", type=Path, nargs="+", default=[None])
    parser.add_argument("--resolutions", type=int, nargs="+", default=[512, 1024, 1536])
    parser.add_argument("--faces", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--textures", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--roads", nargs="+", default=["raw", "remesh"], choices=("raw", "remesh"))
    parser.add_argument("--trace", action="store_true", help="say what lives at the widest point of each step")
    parser.add_argument(
        "--least", action="store_true", help="also find the least memory in which the first setting runs"
    )
    arguments = parser.parse_args()
    device = torch.device("cuda", torch.cuda.current_device())
    print(heading(device), flush=True)
    wrong, rows = 0, []
    for path, resolution in itertools.product(arguments.mesh, arguments.resolutions):
        voxels = _voxels(path, resolution, device)
        name = path.name if path else "a ball"
        print(f"\n{name} at {resolution}: {len(voxels.coords):,} voxels", flush=True)
        for road in arguments.roads:
            settings = list(itertools.product(arguments.faces, arguments.textures))
            for i, (faces, texture) in enumerate(settings):
                row = _export(voxels, road == "remesh", faces, texture, arguments.trace and i in (0, len(settings) - 1))
                wrong += not 0.9 <= row["ratio"] <= 1.1
                rows.append({"mesh": name, "resolution": resolution, **row})
            if arguments.least:
                _least(voxels, road == "remesh", *settings[0])
        del voxels
    if out := os.environ.get("OUT"):
        Path(out, f"export-memory-{os.getpid()}.json").write_text(json.dumps(rows))
    return int(wrong > 0)


def _voxels(path: Path | None, resolution: int, device: torch.device) -> VoxelAsset:
    """A mesh's voxels, with tensors as those of a generated asset."""
    if path and path.suffix == ".glb":
        voxels = voxelize(load_source(path), resolution, device)
    else:
        vertices, faces = read_mesh(path) if path else made_mesh()
        v = torch.from_numpy(fitted(vertices)).to(device)
        voxels = voxels_of(v, torch.from_numpy(np.asarray(faces).astype(np.int32)).to(device), resolution)
    attrs = {k: voxels.attrs[k] for k in ("base_color", "metallic", "roughness", "alpha") if k in voxels.attrs}
    attrs.setdefault("alpha", torch.full_like(attrs["metallic"], 255))
    weight = torch.ones(len(voxels.coords), device=device)
    voxels = replace(voxels, attr_coords=voxels.attr_coords.clone(), attrs=attrs, split_weight=weight)
    torch.cuda.empty_cache()
    return voxels


def _export(voxels: VoxelAsset, remesh: bool, faces: int, texture: int, trace: bool) -> dict[str, Any]:
    """One export: its peak, what was planned, and a line about it. The voxels count as its own."""
    device = voxels.coords.device
    gc.collect()  # what was left in rings of references must not go in the middle of this export
    ledger, sizes, traced = Ledger(device), {"voxels": len(voxels.coords)}, {}
    done: dict[str, dict[str, Any]] = {}
    planned: dict[str, int] = {}
    own = sum(t.numel() * t.element_size() for t in _tensors(voxels))
    outside = torch.cuda.memory_allocated() - own
    history = _History(device) if trace else None

    @contextmanager
    def stage(name: str) -> Iterator[dict[str, Any]]:
        of = ExportSizes.expected(len(voxels.coords), faces, texture, remesh, done, opaque=True)
        planned[name] = of.peaks()[name]
        done[name] = {}
        with ledger.stage(name):
            yield done[name]
        if history:
            traced[name] = history.widest()

    def keep(name: str, value: Any) -> None:
        if hasattr(value, "faces"):
            sizes[name] = [len(value.vertices), len(value.faces)]
        elif name == "textures":
            sizes[name] = int(value.covered.sum())

    with tempfile.TemporaryDirectory() as folder:
        try:
            export_asset(
                voxels, Path(folder) / "asset.glb", faces=faces, texture=texture, remeshed=remesh, stage=stage, keep=keep
            )  # fmt: skip
            failure = ""
        except StageError as error:
            failure = str(error)
    if history:
        history.end()
    peaks = {e["stage"]: e["peak"] - outside for e in ledger.entries}
    step = max(peaks, key=lambda name: peaks[name])
    before = ExportSizes.expected(len(voxels.coords), faces, texture, remesh).peak
    known = max(p for name, p in planned.items() if name != "remesh")
    ratio = known / peaks[step]
    steps = " ".join(f"{k} {p / GIB:.3f} {planned[k] / p:.2f}" for k, p in peaks.items())
    shell = done.get("remesh", {}).get("faces_out", 0) / len(voxels.coords)
    print(
        f"  {'remesh' if remesh else 'raw':<6} {faces:>9,} {texture:>5}^2: planned {known / GIB:6.3f} (before {before / GIB:6.3f}) "
        f"peak {peaks[step] / GIB:6.3f}  ratio {ratio:.3f}{' ' if 0.9 <= ratio <= 1.1 else '!'} in {step:<8} ({steps})"
        f" faces {sizes.get('raw', [0, 0])[1]:,} {done.get('clean', {}).get('faces_out', 0):,}, shell {shell:.2f} a voxel {failure}",
        flush=True,
    )
    for name, lines in traced.items():
        live = sum(size for _, size in lines)
        print(
            f"    {name}: {(live + own) / len(voxels.coords):.1f} bytes a voxel, of these {own / len(voxels.coords):.1f} given"
        )
        for line, size in lines[:14]:
            print(f"      {size:>13,} {size / len(voxels.coords):7.1f} a voxel  {line}")
    return {"remesh": remesh, "faces": faces, "texture": texture, "ratio": ratio, "planned": planned, "before": before, "shell": shell,
            "peaks": peaks, "sizes": sizes, "trace": traced}  # fmt: skip


def _least(voxels: VoxelAsset, remesh: bool, faces: int, texture: int) -> None:
    """Says how much more than its tensors the allocator needs for an export."""
    device = voxels.coords.device
    total = torch.cuda.get_device_properties(device).total_memory

    def runs(limit: int) -> tuple[int, int] | None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
        try:
            with tempfile.TemporaryDirectory() as folder:
                export_asset(voxels, Path(folder) / "asset.glb", faces=faces, texture=texture, remeshed=remesh)
        except (StageError, torch.cuda.OutOfMemoryError):
            return None
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)

    peak, reserved = runs(total) or (0, total)
    low, high = peak, reserved
    while high - low > 32 << 20:
        middle = (low + high) // 2
        low, high = (low, middle) if runs(middle) else (middle, high)
    print(
        f"    peak {peak / GIB:.3f}, reserved {reserved / GIB:.3f} without a limit, least {high / GIB:.3f} GiB: "
        f"room {(high - peak) / peak:.3f} of the peak",
        flush=True,
    )


def _tensors(voxels: VoxelAsset) -> list[torch.Tensor]:
    values = (voxels.coords, voxels.local_dual, voxels.intersected, voxels.split_weight, voxels.attr_coords)
    return [t for t in (*values, *voxels.attrs.values()) if t is not None]


class _History:
    """What the allocator did since this was made, with the lines of Python that asked for it."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._seen = device, 0
        self._live: dict[int, tuple[int, str]] = {}
        torch.cuda.memory._record_memory_history("all", context="alloc", stacks="python", max_entries=1 << 20)

    def widest(self) -> list[tuple[str, int]]:
        """Lines and the bytes that they hold, at the widest point since the last call, most first."""
        events = torch.cuda.memory._snapshot(self._device)["device_traces"][self._device.index][self._seen :]
        self._seen += len(events)
        total = sum(size for size, _ in self._live.values())
        live, best, widest = dict(self._live), total, dict(self._live)
        for event in events:
            if event["action"] == "alloc":
                live[event["addr"]] = (event["size"], _line(event["frames"]))
                total += event["size"]
            elif event["action"] == "free_completed" and event["addr"] in live:
                total -= live.pop(event["addr"])[0]
            if total > best:
                best, widest = total, dict(live)
        self._live = live
        held: Counter[str] = Counter()
        for size, line in widest.values():
            held[line] += size
        return held.most_common()

    def end(self) -> None:
        torch.cuda.memory._record_memory_history(None)


def _line(frames: list[dict[str, Any]]) -> str:
    """The innermost frames of this project."""
    ours = [f for f in frames if any(part in f["filename"] for part in _OURS) and f["name"] not in _PASSED]
    return " < ".join(f"{Path(f['filename']).stem}:{f['line']} {f['name']}" for f in ours[:5])


if __name__ == "__main__":
    sys.exit(main())
