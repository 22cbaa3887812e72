"""Times every attention backend that is installed, at the shapes of the flow models: ``python benchmarks/attention.py --help``.

For each shape: device time of a call (repeated calls replayed from one CUDA graph, so that the host's part is not in
it), the host's part of a call, the largest error against the formula's own rounding-free answer on a sample of queries,
and the memory that a call takes beside its result, which the memory planner has to know of.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from heading import heading
from trellis_pipeline.attention import AttentionError, Backend, attend, choose, order, using
from trellis_pipeline.attention_backends import BACKENDS

HEADS, WIDTH = 12, 128
H100_BF16 = 989e12


@dataclass(frozen=True)
class Shape:
    """What one call is given: lengths of the entries' queries and of their keys."""

    name: str
    lengths: tuple[int, ...]
    key_lengths: tuple[int, ...]

    @property
    def flops(self) -> float:
        return sum(4.0 * HEADS * WIDTH * n * m for n, m in zip(self.lengths, self.key_lengths, strict=True))


SHAPES = (
    Shape("structure, self", (4096,), (4096,)),
    Shape("structure, both passes", (4096, 4096), (4096, 4096)),
    Shape("structure, 1029 image", (4096,), (1029,)),
    Shape("512, self", (2368,), (2368,)),
    Shape("512, 1029 image", (2368,), (1029,)),
    Shape("1024, self", (9825,), (9825,)),
    Shape("1024, 4101 image", (9825,), (4101,)),
    Shape("1536, self", (22255,), (22255,)),
    Shape("limit, self", (49152,), (49152,)),
    Shape("two assets, self", (9825, 2368), (9825, 2368)),
    Shape("two assets, image", (9825, 2368), (4101, 1029)),
    Shape("image and none", (4096, 4096), (1029, 1)),
    Shape("eight assets, self", (2368, 1713, 3011, 940, 2048, 4097, 129, 1500), (2368, 1713, 3011, 940, 2048, 4097, 129, 1500)),
)  # fmt: skip


def made(shape: Shape, dtype: torch.dtype, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values as a block has them: slices of wider tensors where they are of the same tokens."""
    generator = torch.Generator(device).manual_seed(0)

    def random(*size: int) -> torch.Tensor:
        return torch.randn(*size, HEADS, WIDTH, generator=generator, device=device, dtype=torch.float32).to(dtype)

    n, m = sum(shape.lengths), sum(shape.key_lengths)
    if shape.lengths == shape.key_lengths:
        q, k = random(n, 2).unbind(1)
        return q, k, random(n, 3)[:, 2]
    return random(n), random(m), random(m)


def error(out: torch.Tensor, inputs: tuple[torch.Tensor, ...], shape: Shape) -> float:
    """Largest difference from the formula in float64, over up to 64 queries of each entry."""
    q, k, v = inputs
    worst, n, m = 0.0, 0, 0
    for length, keys in zip(shape.lengths, shape.key_lengths, strict=True):
        rows = torch.linspace(n, n + length - 1, min(64, length), device=q.device).long()
        scores = torch.einsum("qhd,khd->hqk", q[rows].double(), k[m : m + keys].double()) / WIDTH**0.5
        right = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[m : m + keys].double())
        worst = max(worst, float((out[rows].double() - right).abs().max()))
        n, m = n + length, m + keys
    return worst


def measured(backend: Backend, shape: Shape, dtype: torch.dtype, device: torch.device, repeats: int) -> dict[str, Any]:
    inputs = made(shape, dtype, device)
    arguments = (*inputs, list(shape.lengths), list(shape.key_lengths))
    with using(backend):
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            out = attend(*arguments)
            worst = error(out, inputs, shape)
            for _ in range(3):
                attend(*arguments)
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            again = attend(*arguments)
            torch.cuda.synchronize(device)
            scratch = torch.cuda.max_memory_allocated(device) - before - again.untyped_storage().nbytes()
            begin = time.perf_counter()
            for _ in range(10):
                attend(*arguments)
            host = (time.perf_counter() - begin) / 10
            torch.cuda.synchronize(device)
            calls = max(1, min(20, int(2e12 / shape.flops)))
            graph = torch.cuda.CUDAGraph()
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                for _ in range(calls):
                    again = attend(*arguments)
            finally:
                graph.capture_end()
            samples = []
            for _ in range(repeats + 2):
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                graph.replay()
                end.record()
                end.synchronize()
                samples.append(start.elapsed_time(end) / calls)
        torch.cuda.current_stream(device).wait_stream(stream)
    ms = statistics.median(samples[2:])
    return {
        "ms": round(ms, 4), "TFLOP/s": round(shape.flops / ms / 1e9), "host ms": round(host * 1e3, 3),
        "scratch MiB": round(scratch / 2**20, 2), "error": float(f"{worst:.1e}"), "same bits": torch.equal(out, again),
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float16"), default="bfloat16", help="the flows compute in bfloat16"
    )
    parser.add_argument(
        "--backends", nargs="+", choices=list(BACKENDS), help="by default all that can serve, without math"
    )
    parser.add_argument("--shapes", nargs="+", choices=[s.name for s in SHAPES], help="by default all")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("-o", "--output", type=Path, help="also write the rows as JSON")
    options = parser.parse_args()
    device, dtype = torch.device(options.device, torch.cuda.current_device()), getattr(torch, options.dtype)
    backends: list[Backend] = []
    for name in options.backends or [n for n in BACKENDS if n != "math"]:
        try:
            backends.append(choose(device, dtype, name))
        except AttentionError as reason:
            print(f"refused: {reason}", file=sys.stderr)
    rows = []
    for shape in SHAPES:
        if options.shapes and shape.name not in options.shapes:
            continue
        for backend in backends:
            try:
                row = measured(backend, shape, dtype, device, options.repeats)
            except (RuntimeError, ValueError) as reason:
                print(f"{shape.name}: {backend.name}: {str(reason).splitlines()[0]}", file=sys.stderr)
                continue
            rows.append({"shape": shape.name, "backend": backend.name, **row})
            torch.cuda.empty_cache()
    print(heading(device, options.dtype))
    print(
        f"order of choice here: {', '.join(order(device))}; installed: "
        + "; ".join(f"{b.name} {b.version}" for b in backends)
    )
    print("ms on the device (host ms; scratch MiB)\n")
    print("| shape | floor | " + " | ".join(b.name for b in backends) + " |\n|---|" + "---|" * (len(backends) + 1))
    for shape in SHAPES:
        found = {r["backend"]: r for r in rows if r["shape"] == shape.name}
        if found:
            cells = [
                f"{r['ms']:.3f} ({r['host ms']:.2f}; {r['scratch MiB']:.1f})" if (r := found.get(b.name)) else ""
                for b in backends
            ]
            print(f"| {shape.name} | {shape.flops / H100_BF16 * 1e3:.3f} | " + " | ".join(cells) + " |")
    print(f"\nlargest error {max((r['error'] for r in rows), default=0):.1e}; not the same bits again: "
          + (", ".join(f"{r['backend']} ({r['shape']})" for r in rows if not r["same bits"]) or "none"))  # fmt: skip
    if options.output:
        options.output.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
