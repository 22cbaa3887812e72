"""Device memory of each stage against the plan, with random weights of the public sizes.

    python benchmarks/memory.py [--types 512 1024_cascade] [--budgets 0 8] [--steps 2]

For each type and budget (GiB; 0 is what is free) the whole generation runs twice. Each stage prints the planned peak,
the measured peak of allocated bytes and their ratio; the last line of a run says what was left on the device. The
random decoder keeps exactly four children of each voxel, so the plan is asked for that growth too.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
from trellis_pipeline import attention
from trellis_pipeline.errors import MemoryPlanError
from trellis_pipeline.generation import TYPES
from trellis_pipeline.image import prepare
from trellis_pipeline.manifest import Manifest
from trellis_pipeline.memory import costs
from trellis_pipeline.pipeline import Pipeline, Settings
from trellis_pipeline.random_checkpoint import random_models
from trellis_pipeline.testing import object_picture

GIB = 1 << 30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--types", nargs="+", default=["512", "1024_cascade", "1536_cascade"], choices=list(TYPES))
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.0])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--size", default="full", choices=("full", "tiny"))
    arguments = parser.parse_args()
    device = torch.device("cuda", torch.cuda.current_device())
    costs.GROWTH = 4.0
    start = time.perf_counter()
    roles = list(dict.fromkeys(role for t in arguments.types for role in TYPES[t].roles))
    checkpoint, weights, encoder = random_models(arguments.size, roles, device="cuda")
    torch.cuda.empty_cache()
    dtype = weights[roles[0]].module.torso_dtype
    backend = attention.choose(device, dtype)
    made = time.perf_counter() - start
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, attention {backend.name}; made in {made:.1f} s")
    picture = prepare(object_picture(), None)
    total = torch.cuda.get_device_properties(device).total_memory
    for budget in arguments.budgets:
        torch.cuda.set_per_process_memory_fraction(min(1.0, budget * GIB / total) if budget else 1.0, device)
        for kind in arguments.types:
            pipeline = Pipeline(
                checkpoint, dict(weights), encoder, Settings("random", str(device), backend, budget or None)
            )
            for run in range(arguments.runs):
                record = Manifest("generate", {}, quiet=True, device=device)
                before = torch.cuda.memory_allocated()
                begun = time.perf_counter()
                try:
                    asset = pipeline.run(picture, seed=1, type=kind, steps=arguments.steps, record=record)
                except MemoryPlanError as error:
                    print(f"\n{kind}, budget {budget:g}: refused: {error}")
                    break
                seconds = time.perf_counter() - begun
                if run == arguments.runs - 1 or arguments.runs == 1:
                    voxels = len(asset.voxels.coords)
                    print(f"\n{kind}, budget {budget:g} GiB, run {run + 1}: {seconds:.2f} s, {voxels:,} voxels")
                    report(record, before)
            pipeline.release()
            torch.cuda.empty_cache()
            if (out := os.environ.get("OUT")) and "memory" in record.facts:
                Path(out, f"memory-{kind}-{budget:g}.json").write_text(json.dumps(record.facts))


def report(record: Manifest, before: int) -> None:
    """A line for each stage of a run."""
    for entry in record.facts["memory"]["stages"]:
        facts = record.facts["stages"][entry["stage"]]
        planned, peak = entry["planned"], entry["peak"]
        print(
            f"  {entry['stage']:<14} {facts.get('weights', ''):<9} {facts.get('tokens', facts.get('voxels', '')):>9} "
            f"planned {planned / GIB:6.2f}  peak {peak / GIB:6.2f}  ratio {planned / peak:5.2f}  "
            f"reserved {entry['peak_reserved'] / GIB:6.2f}  {facts['seconds']:7.3f} s"
        )
    left = record.facts["memory"]["left"]
    print(f"  left behind: {left} bytes against this run's start, {torch.cuda.memory_allocated() - before} in all")


if __name__ == "__main__":
    main()
