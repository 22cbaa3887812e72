"""Times of trellis_sparse's operations at the levels of a decoder, beside upstream's figures where they are given.

python benchmarks/sparse.py [--device cuda] [--mesh FILE.npz] [--baseline FILE.json] [--resolution N] [--largest N]

The voxels are those of a mesh's dual grid and their parents, level by level; without --mesh a mesh is made here. On
CUDA times are medians of device events after warm-up, on the CPU of wall-clock time. Each call is waited for, so that
what the host does for it counts; "queued" is the time of one call among many, where it does not. Pairs are voxels and neighbours
that exist; executed products are what tiles of 64 rows make of them. Weights and features are in the given dtype.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import trellis_sparse as sparse
import trellis_voxel as voxel
from heading import heading
from run import AABB, Clock, fitted, made_mesh, read_mesh

CHANNELS = {1: 64, 2: 128, 4: 256, 8: 512, 16: 1024}  # of the decoder's level that is so many times coarser


def pyramid(mesh: Path | None, resolution: int) -> dict[int, torch.Tensor]:
    """Voxels int32 [N, 4] of each level, by how many times coarser it is."""
    vertices, faces = read_mesh(mesh) if mesh else made_mesh()
    # TRELLIS.2's figures were taken with meshes that fill 0.98 of the grid.
    grid = voxel.mesh_to_dual_grid(
        torch.from_numpy(fitted(vertices) * 0.98), torch.from_numpy(faces.astype(np.int32)),
        grid_size=resolution, aabb=AABB, face_weight=1.0, boundary_weight=0.2, regularization_weight=0.01,
    )  # fmt: skip
    coords = torch.cat([torch.zeros_like(grid.coords[:, :1]), grid.coords], 1).contiguous()
    levels = {}
    for coarser in CHANNELS:
        levels[coarser] = coords
        coords = sparse.downsample(coords).coords
    return levels


def executed(plan: sparse.ConvPlan) -> int:
    """Rows times taps that tiles of 64 rows go through."""
    bits = plan.forward[1].flatten().cpu().numpy().astype(np.uint32)
    return 64 * int(np.unpackbits(bits.view(np.uint8)).sum())


def repeated(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median milliseconds."""
    for _ in range(3 if device.type == "cuda" else 0):
        call()
    return Clock(device, repeats)(call)[1] * 1000


def queued(call: Callable[[], object], repeats: int) -> float:
    """Median milliseconds between the ends of calls that the device has waiting. CUDA."""
    for _ in range(3):
        call()
    ends = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    ends[0].record()
    for end in ends[1:]:
        call()
        end.record()
    ends[-1].synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in itertools.pairwise(ends))


def convolutions(
    levels: dict[int, torch.Tensor],
    resolution: int,
    device: torch.device,
    dtype: torch.dtype,
    known: dict[str, dict[str, float]],
) -> None:
    print(
        "| level, rows, channels | conv ms | queued | upstream | ratio | TFLOP/s in pairs, executed | map + plan ms | upstream |"
    )
    print("|---|---|---|---|---|---|---|---|")
    repeats = 20 if device.type == "cuda" else 3
    for coarser, channels in reversed(CHANNELS.items()):
        coords = levels[coarser].to(device)
        side = resolution // coarser
        shape = (1, side, side, side)
        neighbors = sparse.neighbor_map(coords, shape)
        plan = sparse.conv_plan(neighbors)
        pairs = int((neighbors >= 0).sum())
        products = executed(plan) if plan.forward else pairs
        generator = torch.Generator(device).manual_seed(0)
        feats = torch.randn(len(coords), channels, device=device, dtype=dtype, generator=generator)
        weight = torch.randn(channels, 3, 3, 3, channels, device=device, dtype=dtype, generator=generator)
        weight /= (14 * channels) ** 0.5
        bias = torch.zeros(channels, device=device, dtype=dtype)
        call = lambda: sparse.submanifold_conv3d(feats, weight, bias, neighbors, plan=plan)  # noqa: B023, E731
        conv = repeated(call, device, repeats)
        in_line = f"{queued(call, repeats):.3f}" if device.type == "cuda" else ""
        made = repeated(lambda: sparse.conv_plan(sparse.neighbor_map(coords, shape)), device, repeats)  # noqa: B023
        theirs = next((v for k, v in known.items() if k.startswith(f"subm_{resolution}_lvl{side}_")), None)
        rate = [2e-9 * n * channels**2 / conv for n in (pairs, products)]
        cells = [
            f"{side}, {len(coords):,}, {channels}", f"{conv:.3f}", in_line, f"{theirs['conv_ms']:.2f}" if theirs else "",
            f"{theirs['conv_ms'] / conv:.2f}" if theirs else "", f"{rate[0]:.0f}, {rate[1]:.0f}", f"{made:.3f}",
            f"{theirs['with_map_ms'] - theirs['conv_ms']:.2f}" if theirs else "",
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |", flush=True)


def others(coords: torch.Tensor, resolution: int, device: torch.device, known: dict[str, float]) -> None:
    print("\n| operation | ms | upstream |\n|---|---|---|")
    repeats = 20 if device.type == "cuda" else 3
    coords = coords.to(device)
    shape = (1, resolution, resolution, resolution)
    g = torch.Generator(device).manual_seed(0)
    # Points in the order of the voxels that they lie in, as texels of charts are.
    rows = torch.arange(0, len(coords), max(1, len(coords) // 2_500_000), device=device)
    points = coords[None, rows, 1:] + torch.rand(1, len(rows), 3, device=device, generator=g)
    feats = torch.randn(len(coords), 6, device=device, generator=g)
    mask = torch.rand(len(coords), 8, device=device, generator=g) < 0.5
    operations: dict[str, Callable[[], object]] = {
        f"neighbor_map, {len(coords):,} voxels": lambda: sparse.neighbor_map(coords, shape),
        f"grid_sample_3d, {len(rows):,} points, 6 channels": lambda: sparse.grid_sample_3d(
            feats, coords, shape, points
        ),
        "downsample": lambda: sparse.downsample(coords),
        "upsample": lambda: sparse.upsample(coords, mask),
        "encode_order, Hilbert": lambda: sparse.encode_order(coords[:, 1:], "hilbert"),
    }
    for name, call in operations.items():
        theirs = known.get(f"grid_sample_{resolution}_ms") if name.startswith("grid_sample") else None
        print(
            f"| {name} | {repeated(call, device, repeats):.3f} | {'' if theirs is None else f'{theirs:.2f}'} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mesh", type=Path, help=".npz with vertices and faces; made here by default")
    parser.add_argument("--baseline", type=Path, help="upstream's timings, a JSON with `models` and `mesh_dragon`")
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--tf32", action="store_true", help="let float32 run on tensor cores")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.tf32:
        torch.set_float32_matmul_precision("high")
    known = json.loads(arguments.baseline.read_text()) if arguments.baseline else {}
    levels = pyramid(arguments.mesh, arguments.resolution)
    first = []
    if device.type == "cuda":
        start = time.perf_counter()
        few = levels[16].to(device)
        neighbors = sparse.neighbor_map(few, (1, *[arguments.resolution // 16] * 3))
        x = torch.randn(len(few), 64, device=device, dtype=torch.float16)
        sparse.submanifold_conv3d(x, torch.randn(64, 3, 3, 3, 64, device=device, dtype=x.dtype), None, neighbors)
        torch.cuda.synchronize()
        first = [f"first map, plan and convolution {time.perf_counter() - start:.2f} s"]
    print(heading(device, *first) + "\n")
    convolutions(levels, arguments.resolution, device, getattr(torch, arguments.dtype), known.get("models", {}))
    others(levels[1], arguments.resolution, device, known.get("mesh_dragon", {}))


if __name__ == "__main__":
    main()
