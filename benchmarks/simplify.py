"""Times simplification and compares what it gives with the CPU path: ``python benchmarks/simplify.py --help``.

The input is the mesh of a dual grid, as the export road feeds it. On CUDA: device events, median after a warm-up.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import trellis_mesh as mesh
import trellis_voxel as voxel
from heading import heading
from run import AABB, Clock, fitted, made_mesh, read_mesh
from trellis_mesh import MeshResult, SimplifyReport

Simplified = MeshResult[SimplifyReport]


def dual_grid_mesh(path: Path | None, resolution: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices and faces of the surface at this resolution, on the CPU."""
    vertices, faces = read_mesh(path) if path else made_mesh()
    v, f = torch.from_numpy(fitted(vertices)), torch.from_numpy(faces.astype(np.int32))
    grid = voxel.mesh_to_dual_grid(
        v, f, grid_size=resolution, aabb=AABB, face_weight=1.0, boundary_weight=0.2, regularization_weight=0.01
    )
    local = (grid.dual_vertices * resolution - grid.coords).contiguous()
    result: tuple[torch.Tensor, torch.Tensor] = voxel.dual_grid_to_mesh(
        grid.coords, local, grid.intersected, None, aabb=AABB, grid_size=resolution
    )
    return result[0].cpu(), result[1].cpu()


def samples(v: torch.Tensor, f: torch.Tensor, count: int) -> torch.Tensor:
    """Points spread evenly over the surface, the same ones for the same mesh."""
    generator = torch.Generator().manual_seed(0)
    t = v.cpu()[f.cpu().long()].double()
    area = torch.linalg.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]).norm(dim=1).cumsum(0)
    face = torch.searchsorted(area, torch.rand(count, generator=generator, dtype=torch.float64) * area[-1])
    r = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    r = torch.where(r.sum(1, keepdim=True) > 1, 1 - r, r)
    t = t[face.clamp(max=len(t) - 1)]
    point = t[:, 0] + r[:, :1] * (t[:, 1] - t[:, 0]) + r[:, 1:] * (t[:, 2] - t[:, 0])
    return point.float().to(v.device)


def face_quality(v: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """1 for an equilateral triangle, 0 for one without area."""
    t = v[f.long()].double()
    twice_area = torch.linalg.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]).norm(dim=1)
    return 3.4641016151377544 * twice_area / sum(((t[:, i] - t[:, i - 1]) ** 2).sum(1) for i in range(3))


def describe(result: Simplified, v: torch.Tensor, f: torch.Tensor, points: torch.Tensor) -> str:
    """Distances in units of 1e-6 of the cube's side, shapes of triangles, and the report."""
    there = mesh.Bvh(result.vertices, result.faces).closest_point(points)[0]
    back = mesh.Bvh(v, f).closest_point(samples(result.vertices, result.faces, len(points)))[0]
    q = face_quality(result.vertices, result.faces)
    r = result.report
    return (
        f"faces {len(result.faces):,}, rounds {r.rounds}, topology changes {r.topology_changes}; distance to result mean "
        f"{float(there.mean()) * 1e6:.2f} max {float(there.max()) * 1e6:.0f}, from result mean {float(back.mean()) * 1e6:.2f} "
        f"max {float(back.max()) * 1e6:.0f}; reported deviation {r.deviation * 1e6:.0f} bound {r.error_bound * 1e6:.0f} "
        f"quadric {r.quadric_error * 1e6:.0f}; quality mean {float(q.mean()):.4f} 1 % {float(q.quantile(0.01)):.3f} "
        f"min {float(q.min()):.4f}"
    )


def print_passes(v: torch.Tensor, f: torch.Tensor, target: int) -> None:
    """Device time by kernel, in one call."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as trace:
        mesh.simplify(v, f, target_faces=target)
        torch.cuda.synchronize()
    total: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    longest: dict[str, float] = defaultdict(float)
    for event in trace.events():
        if event.device_type != torch.autograd.DeviceType.CUDA:
            continue
        ours = re.search(r"(\w+_kernel)\(", event.name) if "tk::" in event.name else None
        library = re.search(r"Device(RadixSort|Scan|Select)\w*", event.name)
        name = ours[1] if ours else library[0] if library else event.name[:60]
        total[name] += event.device_time / 1000
        longest[name] = max(longest[name], event.device_time / 1000)
        calls[name] += 1
    print(f"kernels of one call to {target:,} faces: {sum(total.values()):.2f} ms in {sum(calls.values())} launches")
    for name, ms in sorted(total.items(), key=lambda item: -item[1])[:24]:
        print(f"  {name:<44} {ms:8.3f} ms  {calls[name]:5d} calls  longest {longest[name]:7.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mesh", type=Path, help=".npz with vertices and faces; made here by default")
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--faces", type=int, nargs="+", default=[200_000, 1_000_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--baseline", type=Path, help="upstream's timings, a JSON with `device` and `mesh_dragon`")
    parser.add_argument("--quality", action="store_true", help="compare with the CPU path at the same targets")
    parser.add_argument("--passes", action="store_true", help="device time by kernel (CUDA)")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    v, f = (x.to(device) for x in dual_grid_mesh(arguments.mesh, arguments.resolution))
    upstream = json.loads(arguments.baseline.read_text())["mesh_dragon"] if arguments.baseline else {}
    theirs = upstream.get(f"simplify_200k_{arguments.resolution}_ms")
    print(heading(device, f"{len(f):,} faces, {len(v):,} vertices"))
    clock = Clock(device, arguments.repeats)
    points = samples(v, f, 1_000_000) if arguments.quality else v
    for target in arguments.faces:
        result, seconds = clock(lambda target=target: mesh.simplify(v, f, target_faces=target))  # type: ignore[misc]
        note = f", upstream {theirs:.1f} ms" if theirs and target == 200_000 else ""
        print(f"to {target:,}: {seconds * 1000:.2f} ms{note}", flush=True)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            mesh.simplify(v, f, target_faces=target)
            print(f"  memory beside the input: {(torch.cuda.max_memory_allocated() - before) / 2**20:.0f} MiB")
        if arguments.passes and device.type == "cuda":
            print_passes(v, f, target)
        if arguments.quality:
            print(f"  {device.type}: {describe(result, v, f, points)}", flush=True)
            if device.type == "cuda":
                other = mesh.simplify(v.cpu(), f.cpu(), target_faces=target)
                moved = MeshResult(other.vertices.to(device), other.faces.to(device), other.report)
                print(f"  cpu:  {describe(moved, v, f, points)}", flush=True)


if __name__ == "__main__":
    main()
