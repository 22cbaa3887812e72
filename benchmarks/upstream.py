"""Times our operations and upstream's in one process, on the same inputs, for whichever upstream modules are installed.

python benchmarks/upstream.py [--mesh FILE.npz] [--resolution N] [--repeats N]

Looks for o_voxel, cumesh, flex_gemm and nvdiffrast. A module that cannot be imported is named and left out. Upstream
needs a CUDA device; its first calls (compilation, autotuning) are timed apart from the later ones, as are ours.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_mesh as mesh
import trellis_raster as raster
import trellis_sparse as sparse
import trellis_voxel as voxel
from run import AABB, Clock, fitted, made_mesh, processor, read_mesh

MODULES = {
    "o_voxel": "o_voxel.convert",
    "cumesh": "cumesh",
    "flex_gemm": "flex_gemm.ops.spconv",
    "nvdiffrast": "nvdiffrast.torch",
}


@dataclass(frozen=True)
class Pair:
    """One operation in two implementations, called with nothing."""

    name: str
    module: str
    ours: Callable[[], Any]
    theirs: Callable[[Any], Any]


def pairs(v: torch.Tensor, f: torch.Tensor, resolution: int) -> Iterator[Pair]:
    """Each operation, fed with what our own one before gave."""
    box = torch.tensor(AABB)
    weights = {"face_weight": 1.0, "boundary_weight": 0.2, "regularization_weight": 0.01}
    yield Pair(
        f"mesh -> dual grid, {resolution}^3", "o_voxel",
        lambda: voxel.mesh_to_dual_grid(v, f, grid_size=resolution, aabb=AABB, **weights),
        lambda m: m.mesh_to_flexible_dual_grid(v.cpu(), f.cpu(), grid_size=resolution, aabb=box, **weights),
    )  # fmt: skip
    grid = voxel.mesh_to_dual_grid(v, f, grid_size=resolution, aabb=AABB, **weights)
    local = (grid.dual_vertices * resolution - grid.coords).contiguous()
    yield Pair(
        f"dual grid -> mesh, {len(grid.coords):,} voxels", "o_voxel",
        lambda: voxel.dual_grid_to_mesh(grid.coords, local, grid.intersected, None, aabb=AABB, grid_size=resolution),
        lambda m: m.flexible_dual_grid_to_mesh(
            grid.coords, local, grid.intersected, None, aabb=box.to(v.device), grid_size=resolution
        ),
    )  # fmt: skip
    dense_v, dense_f = voxel.dual_grid_to_mesh(
        grid.coords, local, grid.intersected, None, aabb=AABB, grid_size=resolution
    )

    def simplify(m: Any) -> Any:
        held = m.CuMesh()
        held.init(dense_v, dense_f)
        held.simplify(len(dense_f) // 25)
        return held.read()

    yield Pair(
        f"simplify {len(dense_f):,} faces to a 25th", "cumesh",
        lambda: mesh.simplify(dense_v, dense_f, target_faces=len(dense_f) // 25), simplify,
    )  # fmt: skip
    yield Pair(
        f"BVH build, {len(dense_f):,} faces", "cumesh",
        lambda: mesh.Bvh(dense_v, dense_f), lambda m: m.cuBVH(dense_v, dense_f),
    )  # fmt: skip
    coords = torch.cat([torch.zeros_like(grid.coords[:, :1]), grid.coords], 1).contiguous()
    half = torch.float16 if v.is_cuda else torch.float32
    feats = torch.randn(len(coords), 64, device=v.device, dtype=half)
    kernel = torch.randn(64, 3, 3, 3, 64, device=v.device, dtype=half) / 40
    shape = (1, resolution, resolution, resolution)

    def convolve() -> torch.Tensor:
        neighbors = sparse.neighbor_map(coords, shape)
        return sparse.submanifold_conv3d(feats, kernel, None, neighbors)

    yield Pair(
        f"map and convolution, {len(coords):,} voxels x 64", "flex_gemm", convolve,
        lambda m: m.sparse_submanifold_conv3d(feats, coords, (1, 64, *shape[1:]), kernel, None),
    )  # fmt: skip
    clip = torch.cat([dense_v[:, :2] * 2, dense_v[:, 2:], torch.ones_like(dense_v[:, :1])], 1)[None].contiguous()

    def draw(m: Any) -> Any:
        return m.rasterize(m.RasterizeCudaContext(device=v.device), clip, dense_f, (2048, 2048))

    yield Pair(
        f"rasterise {len(dense_f):,} faces at 2048^2", "nvdiffrast",
        lambda: raster.rasterize(clip, dense_f, (2048, 2048)), draw,
    )  # fmt: skip


def first_and_later(call: Callable[[], Any], clock: Clock) -> tuple[float, float]:
    """Milliseconds of the first call, by the host's clock, and the median of later ones."""
    begin = time.perf_counter()
    call()
    if clock.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) * 1000, clock(call)[1] * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mesh", type=Path, help=".npz with vertices and faces; made here by default")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    modules: dict[str, Any] = {}
    for name, path in MODULES.items():
        try:
            modules[name] = importlib.import_module(path)
        except ImportError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
    if not modules:
        parser.exit(1, f"none of {', '.join(MODULES)} can be imported: there is nothing to compare with\n")
    vertices, faces = read_mesh(arguments.mesh) if arguments.mesh else made_mesh()
    v = torch.from_numpy(fitted(vertices)).to(device)
    f = torch.from_numpy(faces.astype(np.int32)).to(device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    print(f"{date.today()}: python {' '.join(sys.argv)} on {where}\n")
    print("| operation | module | ours ms (first) | theirs ms (first) | ratio |\n|---|---|---|---|---|")
    clock = Clock(device, arguments.repeats)
    for pair in pairs(v, f, arguments.resolution):
        if pair.module not in modules:
            continue
        module = modules[pair.module]
        ours_first, ours = first_and_later(pair.ours, clock)
        theirs_first, theirs = first_and_later(lambda p=pair, m=module: p.theirs(m), clock)
        row = (pair.name, f"{pair.module} {getattr(module, '__version__', '')}".strip(),
               f"{ours:.2f} ({ours_first:.0f})", f"{theirs:.2f} ({theirs_first:.0f})", f"{theirs / ours:.2f}")  # fmt: skip
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
