"""Times the operations of the export road: ``python benchmarks/run.py --help``."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_mesh as mesh
import trellis_raster as raster
import trellis_sparse as sparse
import trellis_voxel as voxel
from heading import heading, where

AABB = [[-0.5] * 3, [0.5] * 3]


@dataclass(frozen=True)
class Row:
    """One timed operation: what, seconds, and the key of upstream's figure with its unit in seconds."""

    name: str
    seconds: float
    baseline: str | None = None


class Clock:
    """Median seconds of a call: device events on CUDA, wall time on the CPU."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats

    def __call__(self, call: Callable[[], Any]) -> tuple[Any, float]:
        result = call()
        samples = []
        for _ in range(self.repeats):
            if self.device.type == "cuda":
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                result = call()
                end.record()
                end.synchronize()
                samples.append(start.elapsed_time(end) / 1000)
            else:
                begin = time.perf_counter()
                result = call()
                samples.append(time.perf_counter() - begin)
        return result, statistics.median(samples)


def made_mesh() -> tuple[np.ndarray, np.ndarray]:
    """About 80,000 faces with fine detail: a sphere with ripples (no file needed, no licence)."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=6)
    x, y, z = ball.vertices.T
    radius = 0.4 + 0.04 * np.sin(14 * x) * np.sin(17 * y) * np.sin(11 * z) + 0.05 * x
    return (ball.vertices * radius[:, None]).astype(np.float32), ball.faces.astype(np.int32)


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and faces of an .npz, under these names or as v and f."""
    data = np.load(path)
    v, f = ("vertices", "faces") if "vertices" in data else ("v", "f")
    return data[v], data[f]


def fitted(vertices: np.ndarray) -> np.ndarray:
    low, high = vertices.min(0), vertices.max(0)
    return ((vertices - (low + high) / 2) * (0.99999 / (high - low).max())).astype(np.float32)


def run(v: torch.Tensor, f: torch.Tensor, resolution: int, faces: int, texture: int, clock: Clock) -> list[Row]:
    """Every step once, each fed with what the step before gave."""
    rows: list[Row] = []

    def timed(name: str, call: Callable[[], Any], baseline: str | None = None) -> Any:
        result, seconds = clock(call)
        rows.append(Row(name, seconds, baseline))
        print(f"{name:<48} {seconds * 1000:12.2f} ms", file=sys.stderr, flush=True)
        return result

    r = resolution
    grid = timed(
        f"mesh -> dual grid, {r}^3",
        lambda: voxel.mesh_to_dual_grid(v, f, grid_size=r, aabb=AABB, face_weight=1.0, boundary_weight=0.2, regularization_weight=0.01),
        f"mesh2fdg_cpu_{r}_s",
    )  # fmt: skip
    local = (grid.dual_vertices * r - grid.coords).contiguous()
    rv, rf = timed(
        f"dual grid -> mesh, {r}^3 ({len(grid.coords):,} voxels)",
        lambda: voxel.dual_grid_to_mesh(grid.coords, local, grid.intersected, None, aabb=AABB, grid_size=r),
        f"fdg2mesh_gpu_{r}_ms",
    )
    timed(f"fill holes, {len(rf):,} faces", lambda: mesh.fill_holes(rv, rf, max_perimeter=3e-2), f"fill_holes_{r}_ms")
    timed("remove duplicate faces", lambda: mesh.remove_duplicate_faces(rv, rf), f"remove_dup_{r}_ms")
    timed("repair non-manifold edges", lambda: mesh.repair_non_manifold_edges(rv, rf), f"repair_nm_{r}_ms")
    timed("remove small components", lambda: mesh.remove_small_components(rv, rf, min_area=1e-5), f"small_cc_{r}_ms")
    timed("unify orientation", lambda: mesh.unify_orientation(rv, rf), f"unify_{r}_ms")
    bvh = timed(f"BVH build, {len(rf):,} faces", lambda: mesh.Bvh(rv, rf), f"bvh_build_{r}_ms")
    sv, sf = timed(
        f"simplify to {faces:,} faces", lambda: mesh.simplify(rv, rf, target_faces=faces), f"simplify_200k_{r}_ms"
    )
    uv_mesh = timed(
        f"UV unwrap (fast), {len(sf):,} faces",
        lambda: mesh.unwrap_uv(sv, sf, resolution=texture),
        f"uv_unwrap_200k_{r}_s",
    )
    uv_v, uv_f, uv = uv_mesh[:3]
    clip = torch.cat([uv * 2 - 1, torch.zeros_like(uv[:, :1]), torch.ones_like(uv[:, :1])], 1)[None].contiguous()
    rast = timed(
        f"rasterise UV, {texture}^2",
        lambda: raster.rasterize(clip, uv_f, (texture, texture)),
        f"rasterize_uv_{texture}_{r}_ms",
    )
    position = timed(
        "interpolate positions", lambda: raster.interpolate(uv_v[None], rast, uv_f), f"interp_{texture}_{r}_ms"
    )
    covered = rast[0, ..., 3] > 0
    points = position[0][covered].contiguous()
    timed(f"closest point, {len(points):,} points", lambda: bvh.closest_point(points))
    feats = torch.rand(len(grid.coords), 6, device=v.device)
    coords = torch.cat([torch.zeros_like(grid.coords[:, :1]), grid.coords], 1).contiguous()
    where = ((points + 0.5) * r)[None].contiguous()
    timed(
        f"grid sample, {len(points):,} points x 6",
        lambda: sparse.grid_sample_3d(feats, coords, (1, r, r, r), where, mode="trilinear"),
    )
    image = torch.zeros(texture, texture, 6, dtype=torch.uint8, device=v.device)
    timed(f"fill texture gaps, {texture}^2 x 6", lambda: raster.fill_gaps(image, covered))
    return rows


def table(rows: list[Row], baseline: dict[str, float]) -> list[tuple[str, str, str, str]]:
    lines = []
    for row in rows:
        theirs = baseline.get(row.baseline or "")
        if theirs is None:
            lines.append((row.name, f"{row.seconds * 1000:,.1f} ms", "", ""))
            continue
        seconds = theirs if (row.baseline or "").endswith("_s") else theirs / 1000
        lines.append(
            (row.name, f"{row.seconds * 1000:,.1f} ms", f"{seconds * 1000:,.1f} ms", f"{seconds / row.seconds:.2f}")
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mesh", type=Path, help=".npz with vertices and faces; made here by default")
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--faces", type=int, default=200_000)
    parser.add_argument("--texture", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--baseline", type=Path, help="upstream's timings, a JSON with `device` and `mesh_dragon`")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    if arguments.mesh:
        vertices, faces = read_mesh(arguments.mesh)
    else:
        vertices, faces = made_mesh()
    device = torch.device(arguments.device)
    v = torch.from_numpy(fitted(vertices)).to(device)
    f = torch.from_numpy(faces.astype(np.int32)).to(device)
    rows = run(v, f, arguments.resolution, arguments.faces, arguments.texture, Clock(device, arguments.repeats))
    known = json.loads(arguments.baseline.read_text()) if arguments.baseline else {}
    head = ("operation", f"ours ({where(device)})", f"upstream ({known.get('device', 'no baseline')})", "speed-up")
    lines = [head, *table(rows, known.get("mesh_dragon", {}))]
    print(heading(device, f"input {len(faces):,} faces"))
    if arguments.markdown:
        print(
            "\n".join(
                "| " + " | ".join(line) + " |" + ("\n|---|---|---|---|" if line is head else "") for line in lines
            )
        )
    else:
        widths = [max(len(line[i]) for line in lines) for i in range(4)]
        print(
            "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)
        )


if __name__ == "__main__":
    main()
