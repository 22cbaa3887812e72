"""Time and device memory of each stage of a generation, with random weights of the public sizes, against the plan.

    python benchmarks/memory.py [--mesh FILE.npz] [--types 512 1024_cascade] [--budgets 0 8] [--steps 2] [--glb]
    python benchmarks/memory.py [--mesh FILE.npz] [--types 512 1024_cascade] [--budgets 0 8] --row 10

For each type and budget (GiB; 0 is what is free) the whole generation runs twice. Each stage prints the planned peak,
the measured peak of allocated bytes and their ratio; the last lines of a run say what was left on the device, and
whether the run gave the bits of the type's first, whatever the budget (a small one can lower a cascade's resolution).
The exit status is 1 if a peak is not within 10 % of the plan, a run is out of memory, bits differ, or a run that was
not the first of its budget left something.
With `--mesh` the decoders keep the voxels of that mesh, so that tokens and voxels are an asset's (see surface.py);
without it they keep exactly four children of each voxel. With `--glb` each asset is exported too, and its steps are
timed. With `--row N` each type and budget makes N assets one after the other, GLBs included, and a line for each says
what is on the device after it beside the models that stay there, what is reserved, and whether it has the bits of the
first; the exit status is 1 if anything stayed or differed.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from heading import heading
from surface import Surface, impose
from trellis_pipeline import attention
from trellis_pipeline.asset import Asset, GlbOptions
from trellis_pipeline.errors import MemoryPlanError, StageError
from trellis_pipeline.generation import TYPES
from trellis_pipeline.image import prepare
from trellis_pipeline.manifest import Manifest
from trellis_pipeline.memory import costs
from trellis_pipeline.memory.ledger import free_workspaces
from trellis_pipeline.memory.plan import CONTEXT
from trellis_pipeline.pipeline import Pipeline, Settings
from trellis_pipeline.random_checkpoint import random_models
from trellis_pipeline.testing import object_picture

GIB = 1 << 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", type=Path, help=".npz of a mesh to whose voxels the decoders are made to decode")
    parser.add_argument("--types", nargs="+", default=["512", "1024_cascade", "1536_cascade"], choices=list(TYPES))
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.0])
    parser.add_argument("--steps", type=int, help="of every sampler (by default the checkpoint's 12)")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--row", type=int, help="make so many assets in a row")
    parser.add_argument("--glb", action="store_true", help="export each asset: 0.2 M faces")
    parser.add_argument("--texture", type=int, default=2048, help="side of its textures (2048)")
    parser.add_argument("--remesh", action="store_true", help="close its surface anew")
    parser.add_argument("--size", default="full", choices=("full", "tiny"))
    arguments = parser.parse_args()
    device = torch.device("cuda", torch.cuda.current_device())
    checkpoint, weights, encoder, backend = opened(arguments.mesh, arguments.types, arguments.size, device)
    picture = prepare(object_picture(), None)
    total = torch.cuda.get_device_properties(device).total_memory
    firsts: dict[str, Asset] = {}
    wrong = 0
    for budget in arguments.budgets:
        limit = min(1.0, (budget * GIB - CONTEXT) / total) if budget else 1.0  # as `trellis generate` does
        torch.cuda.set_per_process_memory_fraction(limit, device)
        for kind in arguments.types:
            settings = Settings("random", str(device), backend, budget or None)
            pipeline = Pipeline(checkpoint, dict(weights), encoder, settings)
            if arguments.row:
                wrong += _row(pipeline, kind, budget, picture, arguments)
            else:
                wrong += _runs(pipeline, kind, budget, picture, arguments, firsts)
            pipeline.release()
            torch.cuda.empty_cache()
    return int(wrong > 0)


def opened(mesh: Path | None, types: list[str], size: str, device: torch.device) -> tuple[Any, Any, Any, Any]:
    """What a `Pipeline` is made of: random models for these types, whose decoders keep the mesh's voxels if there is one."""
    start = time.perf_counter()
    if mesh:
        surface = Surface(mesh, device)
        for kind in {TYPES[t] for t in types}:
            for resolution in {kind.resolution, 512 if kind.low else kind.resolution}:
                surface.prepare(resolution, kind.structure_grid)
        impose(surface)
    else:
        costs.GROWTH = 4.0
    roles = list(dict.fromkeys(role for t in types for role in TYPES[t].roles))
    checkpoint, weights, encoder = random_models(size, roles, device="cuda")
    torch.cuda.empty_cache()
    backend = attention.choose(device, weights[roles[0]].module.torso_dtype)
    made = time.perf_counter() - start
    print(heading(device, f"attention {backend.name}", f"made in {made:.1f} s"))
    return checkpoint, weights, encoder, backend


def _runs(
    pipeline: Pipeline, kind: str, budget: float, picture: Any, arguments: argparse.Namespace, firsts: dict[str, Asset]
) -> int:
    """Runs of one type and budget; returns how much about them was not as planned."""
    wrong, failure = 0, ""
    for run in range(arguments.runs):
        record = Manifest("generate", {}, quiet=True, device=pipeline.device)
        before = torch.cuda.memory_allocated()
        begun = time.perf_counter()
        try:
            asset = pipeline.run(picture, seed=1, type=kind, steps=arguments.steps, record=record)
        except MemoryPlanError as error:
            print(f"\n{kind}, budget {budget:g}: refused: {error}")
            return wrong
        except StageError as error:
            failure = str(error)
        if failure:
            print(f"\n{kind}, budget {budget:g}: FAILED: {failure}")
            gc.collect()  # the error's frames held tensors
            return wrong + 1
        seconds = time.perf_counter() - begun
        voxels = len(asset.voxels.coords)
        print(f"\n{kind}, budget {budget:g} GiB, run {run + 1}: {seconds:.2f} s, {voxels:,} voxels")
        off = report(record, before)
        wrong += len(off) + (run > 0 and record.facts["memory"]["left"] != 0)
        if kind in firsts:
            differ = [
                f.name
                for f in dataclasses.fields(asset)
                if not same(*(getattr(a, f.name) for a in (firsts[kind], asset)))
            ]
            wrong += len(differ)
            print(f"  bits against the first {kind}: {'differ in ' + ', '.join(differ) if differ else 'the same'}")
        firsts.setdefault(kind, asset)
        if out := os.environ.get("OUT"):
            Path(out, f"memory-{kind}-{budget:g}.json").write_text(json.dumps(record.facts))
        if arguments.glb:
            wrong += not _export(asset, run, arguments)
    return wrong


def _row(pipeline: Pipeline, kind: str, budget: float, picture: Any, arguments: argparse.Namespace) -> int:
    """Assets one after the other, with no pause between them; returns how many left something or differ."""
    wrong, first, digest, baseline = 0, None, "", None
    print(f"\n{kind}, budget {budget:g} GiB, {arguments.row} assets in a row")
    for i in range(arguments.row):
        begun = time.perf_counter()
        asset = pipeline.run(picture, seed=1, type=kind, steps=arguments.steps)
        made = time.perf_counter() - begun
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "asset.glb"
            asset.to_glb(path, GlbOptions())
            hashed = hashlib.sha256(path.read_bytes()).hexdigest()
        seconds = time.perf_counter() - begun
        first, digest = first or asset, digest or hashed
        free_workspaces()
        there, models = torch.cuda.memory_allocated(), sum(w.nbytes for w in pipeline._weights.values() if w.placed)
        baseline = baseline or there - models
        bits = ("same" if same(first, asset) else "OTHER", "same" if hashed == digest else "OTHER")
        # The first asset may leave models, whose tensors the allocator rounds up, and what libraries keep for good.
        wrong += there - models != baseline or "OTHER" in bits
        print(
            f"  asset {i + 1:>2}: {made:6.2f} s and {seconds - made:5.2f} s for its GLB, models {models / GIB:6.3f} GiB, "
            f"allocated {there:,} bytes, reserved {torch.cuda.memory_reserved() / GIB:6.2f} GiB, "
            f"bits {bits[0]}, GLB {bits[1]}, {len(asset.voxels.coords):,} voxels"
        )
    return wrong


def _export(asset: Asset, run: int, arguments: argparse.Namespace) -> bool:
    """Exports an asset; whether it went and took what the plan of an export expects."""
    record = Manifest("export", {}, quiet=True, device=torch.device(asset.device))
    options = GlbOptions(texture=arguments.texture, remesh=arguments.remesh)
    before, begun = torch.cuda.memory_allocated(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            facts = asset.to_glb(Path(folder) / "asset.glb", options, record=record)
        except StageError as error:
            print(f"  GLB, run {run + 1}: FAILED: {error}")
            return False
    seconds = time.perf_counter() - begun
    peaks = {e["stage"]: e["peak"] - before for e in record.facts["memory"]["stages"]}
    shown = ", ".join(f"{k} {s['seconds']:.3f} {peaks[k] / GIB:.3f}" for k, s in record.facts["stages"].items())
    planned = max(e["planned"] or 0 for e in record.facts["memory"]["stages"]) - before
    ratio = planned / max(peaks.values())
    print(
        f"  GLB, run {run + 1}: {seconds:.2f} s, {facts['faces']:,} faces, planned {planned / GIB:.3f} "
        f"peak {max(peaks.values()) / GIB:.3f}  ratio {ratio:.3f}{' ' if 0.9 <= ratio <= 1.1 else '!'} "
        f"(seconds and GiB: {shown})"
    )
    return 0.9 <= ratio <= 1.1


def same(a: Any, b: Any) -> bool:
    """Whether two assets have the same bits in every tensor."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return all(same(a[k], b[k]) for k in a)
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return True


def report(record: Manifest, before: int) -> list[str]:
    """A line for each stage of a run; returns the stages whose peak is not within 10 % of the plan."""
    off = []
    for entry in record.facts["memory"]["stages"]:
        facts = record.facts["stages"][entry["stage"]]
        planned, peak = entry["planned"], entry["peak"]
        mode = facts.get("weights", "") + (f"/{facts['parts']}" if "parts" in facts else "")
        if not 0.9 <= planned / peak <= 1.1:
            off.append(entry["stage"])
        print(
            f"  {entry['stage']:<14} {mode:<9} {facts.get('tokens', facts.get('voxels', '')):>9} "
            f"before {entry['before'] / GIB:6.3f} planned {planned / GIB:7.3f}  peak {peak / GIB:7.3f}  "
            f"ratio {planned / peak:5.3f}{'!' if entry['stage'] in off else ' '} "
            f"reserved {entry['peak_reserved'] / GIB:6.2f}  {facts['seconds']:7.3f} s"
        )
    left = record.facts["memory"]["left"]
    print(f"  left behind: {left} bytes against this run's start, {torch.cuda.memory_allocated() - before} in all")
    return off


if __name__ == "__main__":
    sys.exit(main())
