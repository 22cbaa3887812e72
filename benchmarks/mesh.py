"""Times trellis_mesh's connectivity, cleaning, tree, queries and remeshing on the surface of a dual grid.

python benchmarks/mesh.py --device cuda [--mesh FILE.npz] [--resolution 1024] [--baseline FILE.json] [--only PART ...]

Upstream's figures and ours are of one kind: the whole call with its checks, medians after a warm-up. The floor is the
time that reading the arguments once and writing the results once takes at the memory speed measured here.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_mesh as mesh
import trellis_voxel as voxel
from heading import heading, where
from run import AABB, Clock, fitted, made_mesh, read_mesh


@dataclass(frozen=True)
class Case:
    name: str
    call: Callable[[], Any]
    bytes: int
    """Arguments read once and results written once."""
    baseline: str | None = None


def surface(source: Path | None, resolution: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The raw mesh of the dual grid of a mesh, made on the CPU."""
    vertices, faces = read_mesh(source) if source else made_mesh()
    v, f = torch.from_numpy(fitted(vertices)), torch.from_numpy(faces.astype(np.int32))
    weights = {"face_weight": 1.0, "boundary_weight": 0.2, "regularization_weight": 0.01}
    grid = voxel.mesh_to_dual_grid(v, f, grid_size=resolution, aabb=AABB, **weights)
    local = (grid.dual_vertices * resolution - grid.coords).contiguous()
    raw: tuple[torch.Tensor, torch.Tensor] = voxel.dual_grid_to_mesh(
        grid.coords, local, grid.intersected, None, aabb=AABB, grid_size=resolution
    )
    return raw


def near_points(v: torch.Tensor, f: torch.Tensor, count: int, spread: float) -> torch.Tensor:
    """Random points at a distance of about `spread` from the surface, in the order of the faces below them."""
    g = torch.Generator().manual_seed(0)
    face = torch.randint(len(f), (count,), generator=g).sort().values.to(v.device)
    weight = torch.distributions.Dirichlet(torch.ones(3)).sample((count,)).to(v.device)
    points = (v[f[face].long()] * weight[:, :, None]).sum(1)
    return (points + spread * torch.randn(count, 3, generator=g).to(v.device)).contiguous()


def memory_speed(device: torch.device) -> float:
    """Bytes a second of a large copy (read and written ones counted)."""
    source = torch.zeros(1 << 28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    _, took = Clock(device, 5)(lambda: target.copy_(source))
    return 2 * source.numel() / took


def cases(v: torch.Tensor, f: torch.Tensor, resolution: int, num_points: int) -> list[Case]:
    faces, vertices = 12 * len(f), 12 * len(v)
    tree = mesh.Bvh(v, f)
    tree_bytes = sum(x.numel() * x.element_size() for x in (tree.nodes, tree.leaves, tree.ids))
    points = near_points(v, f, num_points, 0.5 / resolution)
    shuffled = points[torch.randperm(num_points, generator=torch.Generator().manual_seed(1)).to(v.device)].contiguous()
    inward = torch.nn.functional.normalize(-points, dim=1)
    r = resolution
    queries = 12 * num_points + 24 * num_points
    return [
        Case("edges", lambda: mesh.edges(f), faces + 12 * len(f)),
        Case("boundary_edges", lambda: mesh.boundary_edges(f), faces),
        Case("connected_components", lambda: mesh.connected_components(f, len(v)), faces + 4 * len(f)),
        Case("vertex_normals", lambda: mesh.vertex_normals(v, f), faces + 2 * vertices),
        Case(
            "fill_holes",
            lambda: mesh.fill_holes(v, f, max_perimeter=3e-2),
            2 * (faces + vertices),
            f"fill_holes_{r}_ms",
        ),
        Case(
            "remove_duplicate_faces",
            lambda: mesh.remove_duplicate_faces(v, f),
            2 * (faces + vertices),
            f"remove_dup_{r}_ms",
        ),
        Case("remove_duplicate_vertices", lambda: mesh.remove_duplicate_vertices(v, f), 2 * (faces + vertices)),
        Case(
            "repair_non_manifold_edges",
            lambda: mesh.repair_non_manifold_edges(v, f),
            2 * (faces + vertices),
            f"repair_nm_{r}_ms",
        ),
        Case(
            "remove_small_components",
            lambda: mesh.remove_small_components(v, f, min_area=1e-5),
            2 * (faces + vertices),
            f"small_cc_{r}_ms",
        ),
        Case("unify_orientation", lambda: mesh.unify_orientation(v, f), 2 * (faces + vertices), f"unify_{r}_ms"),
        Case(
            "unify_orientation, outward",
            lambda: mesh.unify_orientation(v, f, outward=True),
            2 * (faces + vertices),
        ),
        Case("Bvh", lambda: mesh.Bvh(v, f), faces + vertices + tree_bytes, f"bvh_build_{r}_ms"),
        Case(
            f"closest_point, {num_points:,} in the order of faces",
            lambda: tree.closest_point(points),
            queries + tree_bytes,
            f"bvh_dist_near_4M_{r}_ms",
        ),
        Case(
            f"closest_point, {num_points:,} in random order",
            lambda: tree.closest_point(shuffled),
            queries + tree_bytes,
            f"bvh_dist_near_4M_{r}_ms",
        ),
        Case(
            f"ray_cast, {num_points:,} to the centre",
            lambda: tree.ray_cast(points, inward),
            queries + 12 * num_points + tree_bytes,
        ),
        Case(f"count_hits, {num_points:,}", lambda: tree.count_hits(points, inward), 28 * num_points + tree_bytes),
        Case(
            "remesh_dual_contouring (with its tree)",
            lambda: mesh.remesh_dual_contouring(v, f, resolution=r, aabb=AABB),
            2 * (faces + vertices),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mesh", type=Path, help=".npz with vertices and faces; made here by default")
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--points", type=int, default=1 << 22)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--baseline", type=Path, help="upstream's timings, a JSON with `device` and `mesh_dragon`")
    parser.add_argument("--only", nargs="*", default=[""], help="parts of the names of the operations to time")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    v, f = (x.to(device) for x in surface(arguments.mesh, arguments.resolution))
    known = json.loads(arguments.baseline.read_text()) if arguments.baseline else {}
    speed = memory_speed(device)
    print(heading(device, f"{len(v):,} vertices, {len(f):,} faces", f"{speed / 1e12:.2f} TB/s"))
    print(
        f"| operation | ours ({where(device)}) | upstream ({known.get('device', 'no baseline')}) | speed-up | floor |"
    )
    print("|---|---|---|---|---|")
    clock = Clock(device, arguments.repeats)
    for case in cases(v, f, arguments.resolution, arguments.points):
        if not any(part in case.name for part in arguments.only):
            continue
        try:
            _, seconds = clock(case.call)
        except NotImplementedError as missing:
            print(f"| {case.name} | {missing} | | | |", flush=True)
            continue
        theirs = known.get("mesh_dragon", {}).get(case.baseline or "")
        columns = (f"{theirs:,.2f} ms", f"{theirs / 1000 / seconds:.1f}") if theirs else ("", "")
        print(
            f"| {case.name} | {seconds * 1e3:,.2f} ms | {columns[0]} | {columns[1]} | {case.bytes / speed * 1e3:.2f} ms |",
            flush=True,
        )


if __name__ == "__main__":
    main()
