"""The least memory in which each stage of a generation runs, against what the plan sets aside for it.

    python benchmarks/least.py [--mesh FILE.npz] [--types 512 1024_cascade 1536_cascade] [--budgets 4 8] [--steps 3]

For each type and budget (GiB) a plan that leaves no room beside the tensors it counts says how each stage runs: its
model swapped or streamed, a decoder whole or in parts. Then torch is kept to ever less memory in each stage, by bisection
over whole runs, to find where the stage still runs. What that is more than the counted tensors is the room that the
allocator needs, and is printed as a share of the stage's activations and recordings, beside what the plan leaves. The last line is the
smallest budget in which all stages ran so, CUDA context included, after two runs within these limits.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import trellis_pipeline.pipeline as pipeline_module
from memory import opened
from trellis_pipeline.errors import MemoryPlanError
from trellis_pipeline.generation import TYPES
from trellis_pipeline.image import prepare
from trellis_pipeline.manifest import Manifest
from trellis_pipeline.memory import plan
from trellis_pipeline.memory.ledger import Ledger
from trellis_pipeline.pipeline import Pipeline, Settings
from trellis_pipeline.testing import object_picture

GIB = 1 << 30
PIECES = plan.pieces()


class Limited(Ledger):
    """Keeps torch to `limits` bytes in each stage, and remembers in which stage it was."""

    limits: dict[str, int] = {}  # noqa: RUF012
    at = ""

    @contextmanager
    def stage(self, name: str, planned: int | None = None) -> Iterator[dict[str, Any]]:
        Limited.at = name
        total = torch.cuda.get_device_properties(self.device).total_memory
        share = min(1.0, Limited.limits.get(name, total) / total)
        torch.cuda.set_per_process_memory_fraction(share, self.device)
        try:
            with super().stage(name, planned) as entry:
                yield entry
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, self.device)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", type=Path, help=".npz of a mesh to whose voxels the decoders are made to decode")
    parser.add_argument("--types", nargs="+", default=["512", "1024_cascade", "1536_cascade"], choices=list(TYPES))
    parser.add_argument("--budgets", nargs="+", type=float, default=[4.0, 8.0])
    parser.add_argument("--steps", type=int, default=3, help="of every sampler (3)")
    parser.add_argument("--grain", type=int, default=48, help="MiB to which the limits are found (48)")
    parser.add_argument("--size", default="full", choices=("full", "tiny"))
    arguments = parser.parse_args()
    device = torch.device("cuda", torch.cuda.current_device())
    checkpoint, weights, encoder, backend = opened(arguments.mesh, arguments.types, arguments.size, device)
    plan.PIECES = plan.EXPANDABLE_PIECES = plan.SLACK = 0.0
    plan.LEAST_ROOM = 0
    pipeline_module.Ledger = Limited  # type: ignore[misc]
    failed = 0
    for kind in arguments.types:
        for budget in arguments.budgets:
            pipeline = Pipeline(
                checkpoint, dict(weights), encoder, Settings("random", str(device), backend, budget)
            )  # fmt: skip
            failed += not _search(pipeline, kind, budget, arguments)
            pipeline.release()
            torch.cuda.empty_cache()
    return int(failed > 0)


def _search(pipeline: Pipeline, kind: str, budget: float, arguments: argparse.Namespace) -> bool:
    Limited.limits = {}
    try:
        record = _run(pipeline, kind, arguments.steps)
    except MemoryPlanError as error:
        print(f"\n{kind}, {budget:g} GiB: refused: {error}", flush=True)
        return True
    assert record is not None
    entries = {e["stage"]: e for e in record.facts["memory"]["stages"]}
    low = {name: int(e["peak"]) for name, e in entries.items()}
    high = {name: int(e["peak_reserved"]) for name, e in entries.items()}
    grain, runs = arguments.grain << 20, 1
    while open_ := {name for name in high if high[name] - low[name] > grain}:
        tried = {name: (low[name] + high[name]) // 2 if name in open_ else high[name] for name in high}
        Limited.limits = tried
        runs += 1
        held = _run(pipeline, kind, arguments.steps) is not None
        bounds = ", ".join(
            f"{k} {low[k] / GIB:.2f} < {tried[k] / GIB:.2f} <= {high[k] / GIB:.2f}" for k in sorted(open_)
        )
        print(f"  run {runs}: {'held' if held else 'out of memory in ' + Limited.at}; {bounds}", flush=True)
        if held:
            high.update(tried)
            continue
        for name in high:
            if name == Limited.at:
                # A limit that held before fails now and then, by what earlier stages left.
                low[name] = tried[name]
                high[name] = max(high[name], tried[name] + (0 if name in open_ else grain))
                break
            high[name] = tried[name]
    Limited.limits = high
    again = [_run(pipeline, kind, arguments.steps) is not None for _ in range(2)]
    _report(pipeline, kind, budget, record, high, again, runs)
    return all(again)


def _run(pipeline: Pipeline, kind: str, steps: int) -> Manifest | None:
    """A run's record, or None where a stage was out of memory."""
    record = Manifest("generate", {}, quiet=True, device=pipeline.device)
    try:
        pipeline.run(prepare(object_picture(), None), seed=1, type=kind, steps=steps, record=record)
        done = True
    except MemoryPlanError:
        raise
    except (ValueError, RuntimeError) as error:
        if not _memory_in(error):
            raise
        done = False
    gc.collect()  # the error's frames held tensors
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return record if done else None


def _memory_in(error: BaseException | None) -> bool:
    while error is not None:
        if "out of memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _report(
    pipeline: Pipeline, kind: str, budget: float, record: Manifest, high: dict[str, int], held: list[bool], runs: int
) -> None:
    needs = {n.name: n for n in pipeline.plan(kind).needs}  # type: ignore[union-attr]
    facts = record.facts["stages"]
    entries = {e["stage"]: e for e in record.facts["memory"]["stages"]}
    print(f"\n{kind}, plan for {budget:g} GiB without room, {runs} runs, limits held afterwards: {held}")
    for name, least in high.items():
        need, entry, found = needs[name], entries[name], facts[name]
        mode, parts = found["weights"], found.get("parts", 1)
        tokens = found.get("tokens", facts["shape"]["tokens"] if name.startswith("decode") else 1)
        if name == "cascade":
            tokens = facts["shape_low"]["tokens"]
        voxels = facts["decode_shape"]["voxels"] if name.startswith("decode") else None
        recorded = 0 if mode == "stream" else need.cost.recorded(tokens)
        activations = need.activations(tokens, parts, voxels)
        counted = entry["planned"] + recorded
        print(
            f"  {name:<14} {mode}/{parts:<2} counted {counted / GIB:6.3f} (activations {activations / GIB:6.3f}, recorded "
            f"{recorded / GIB:.3f})  peak {entry['peak'] / GIB:6.3f}  reserved {entry['peak_reserved'] / GIB:6.3f}  least "
            f"{least / GIB:6.3f}  room {(least - counted) / (activations + recorded):6.3f} of both, planned {PIECES:g}",
            flush=True,
        )
    print(f"  least budget {(max(high.values()) + plan.CONTEXT) / GIB:.2f} GiB", flush=True)


if __name__ == "__main__":
    sys.exit(main())
