"""Times of trellis_voxel's operations, beside upstream's and the least that memory traffic allows.

    python benchmarks/voxel.py [--device cuda] [--mesh FILE.npz] [--baseline FILE.json] [--sizes 512 1024 1536]

Medians: device events after a warm-up on CUDA, wall time on the CPU. The floor is the time in which the device reads the
inputs once and writes the outputs once, at the bandwidth measured here by a copy; `peak` is device memory beyond the inputs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_voxel as voxel
from heading import heading
from run import Clock, fitted, made_mesh, read_mesh

AABB = [[-0.5] * 3, [0.5] * 3]


def size_of(*values: object) -> int:
    """Bytes of tensors, also inside tuples, dicts and dataclasses."""
    total = 0
    for value in values:
        if isinstance(value, torch.Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, dict):
            total += size_of(*value.values())
        elif isinstance(value, (list, tuple)):
            total += size_of(*value)
        elif hasattr(value, "__dataclass_fields__"):
            total += size_of(*(getattr(value, name) for name in value.__dataclass_fields__))
    return total


def textured(vertices: np.ndarray, faces: np.ndarray, texels: int, device: torch.device) -> voxel.TexturedMesh:
    """The mesh with four textures of noise, one small chart a face, as an unwrapped asset has."""
    g = torch.Generator().manual_seed(0)
    side = int(np.ceil(np.sqrt(len(faces))))
    corner = torch.stack([torch.arange(len(faces)) % side, torch.arange(len(faces)) // side], 1)[:, None]
    uvs = (corner + torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]])) / side
    images = [
        torch.randint(0, 256, (texels, texels, c), generator=g, dtype=torch.uint8).to(device) for c in (4, 3, 3, 3)
    ]
    base, rough, emissive, normal = images
    material = voxel.PbrMaterial(
        base_color_texture=base, metallic_roughness_texture=rough, emissive_texture=emissive, normal_texture=normal
    )
    soup = torch.from_numpy(vertices)[torch.from_numpy(faces).long().reshape(-1)]
    return voxel.TexturedMesh(
        soup.to(device),
        torch.arange(len(soup), device=device).reshape(-1, 3),
        (material,),
        uvs.reshape(-1, 2).float().to(device),
    )


def bandwidth(clock: Clock, device: torch.device) -> float:
    """Bytes a second of a copy, reads and writes together."""
    block = torch.zeros(1 << 28, dtype=torch.uint8, device=device)
    return 2 * block.numel() / clock(block.clone)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mesh", type=Path, help="an .npz of vertices and faces; otherwise a mesh is made here")
    parser.add_argument("--baseline", type=Path, help="upstream's timings, a JSON file")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 1536])
    parser.add_argument("--texels", type=int, default=2048, help="side of the textures")
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    device = torch.device(options.device)
    upstream = json.loads(options.baseline.read_text())["mesh_dragon"] if options.baseline else {}
    if options.mesh:
        v, f = read_mesh(options.mesh)
    else:
        v, f = made_mesh()
        v = fitted(v)
    vertices, faces = torch.from_numpy(v).to(device), torch.from_numpy(f).int().to(device)
    asset = textured(v, f, options.texels, device)
    clock = Clock(device, options.repeats)
    rate = bandwidth(clock, device)
    print(heading(device, f"copies at {rate / 1e12:.2f} TB/s", f"{len(f):,} faces") + "\n")
    print("| operation | out | ms | upstream ms | ratio | floor ms | peak MB |\n|---|---|---|---|---|---|---|")
    for size in options.sizes:
        grid = voxel.mesh_to_dual_grid(vertices, faces, grid_size=size, aabb=AABB)
        local = grid.local_dual(voxel.Grid.of(size, AABB))
        back = partial(voxel.dual_grid_to_mesh, grid.coords, local, grid.intersected, None, grid_size=size, aabb=AABB)
        split = torch.rand(len(local), device=device)
        weighted = partial(
            voxel.dual_grid_to_mesh, grid.coords, local, grid.intersected, split, grid_size=size, aabb=AABB
        )
        triangles = (vertices, faces)
        operations: list[tuple[str, Callable[[], Any], object, float | None]] = [
            (
                "mesh_to_dual_grid",
                partial(voxel.mesh_to_dual_grid, vertices, faces, grid_size=size, aabb=AABB),
                triangles,
                upstream.get(f"mesh2fdg_cpu_{size}_s", 0) * 1e3 or None,
            ),
            ("dual_grid_to_mesh", back, (grid, local), upstream.get(f"fdg2mesh_gpu_{size}_ms")),
            ("dual_grid_to_mesh, split weights", weighted, (grid, local, split), None),
        ]
        operations += [
            (
                f"voxelize_attributes, {average}",
                partial(voxel.voxelize_attributes, asset, grid_size=size, aabb=AABB, average=average),
                asset,
                None,
            )
            for average in ("crossing", "area")
        ]
        for what, call, inputs, theirs in operations:
            if device.type == "cuda":
                before = torch.cuda.memory_allocated()
                torch.cuda.reset_peak_memory_stats()
            result, seconds = clock(call)
            peak = f"{(torch.cuda.max_memory_allocated() - before) / 1e6:.0f}" if device.type == "cuda" else ""
            rows = (
                len(result[-1])
                if what.startswith("dual_grid_to_mesh")
                else len(result.coords if what[0] == "m" else result[0])
            )
            floor = size_of(inputs, result) / rate * 1e3
            compared = f"{theirs:.1f} | {theirs / seconds / 1e3:.1f}" if theirs else " | "
            print(f"| {what}, {size} | {rows} | {seconds * 1e3:.2f} | {compared} | {floor:.3f} | {peak} |", flush=True)
            del result


if __name__ == "__main__":
    main()
