"""What the first call of each extension takes in a fresh process: ``python benchmarks/first_use.py --mesh dragon.npz``.

A process for each extension, with torch imported and the device awake. The first call there includes the import of the
package and the loading of its library and kernels; then come first calls of its other operations, and second calls of
all. Goal: half a second for a first call, whatever its work.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from heading import heading
from run import fitted, made_mesh, read_mesh

GOAL = 0.5
Steps = list[tuple[str, Callable[[], Any]]]
AABB = [[-0.5] * 3, [0.5] * 3]


def sparse_steps(v: torch.Tensor, f: torch.Tensor) -> Steps:
    cells = torch.unique(((v + 0.5) * 256).long().clamp(0, 255), dim=0)
    coords = torch.cat([cells[:, :1] * 0, cells], 1).int().contiguous()
    feats, weight = torch.randn(len(coords), 128).to(v).half(), torch.randn(128, 3, 3, 3, 128).to(v).half()
    shape, kept = (1, 256, 256, 256), {}
    import trellis_sparse as sparse

    def convolve() -> Any:
        kept["plan"] = sparse.conv_map(coords, shape)
        return sparse.submanifold_conv3d(feats, weight, None, kept["plan"].neighbors, plan=kept["plan"])

    return [
        ("map, plan and convolution", convolve),
        ("grid_sample_3d", lambda: sparse.grid_sample_3d(feats, coords, shape, (v[None] + 0.5) * 256)),
        ("downsample", lambda: sparse.downsample(coords)),
    ]


def mesh_steps(v: torch.Tensor, f: torch.Tensor) -> Steps:
    import trellis_mesh as mesh

    return [
        ("Bvh and closest_point", lambda: mesh.Bvh(v, f).closest_point(v)),
        ("fill_holes", lambda: mesh.fill_holes(v, f, max_perimeter=0.1)),
        ("remesh_dual_contouring", lambda: mesh.remesh_dual_contouring(v, f, resolution=128)),
        ("simplify", lambda: mesh.simplify(v, f, target_faces=len(f) // 2)),
        ("unwrap_uv", lambda: mesh.unwrap_uv(v, f)),
    ]


def unwrap_steps(v: torch.Tensor, f: torch.Tensor) -> Steps:
    import trellis_mesh as mesh

    return [("unwrap_uv before all else", lambda: mesh.unwrap_uv(v, f))]


def voxel_steps(v: torch.Tensor, f: torch.Tensor) -> Steps:
    import trellis_voxel as voxel

    grids: list[Any] = []

    def there() -> Any:
        grids.append(voxel.mesh_to_dual_grid(v, f, grid_size=512, aabb=AABB))
        return grids[-1]

    def back() -> Any:
        grid = grids[-1]
        local = grid.dual_vertices * 512 - grid.coords
        return voxel.dual_grid_to_mesh(grid.coords, local, grid.intersected, None, grid_size=512, aabb=AABB)

    look = voxel.PbrMaterial(base_color_factor=(1.0, 0.0, 0.0, 1.0))
    painted = voxel.TexturedMesh(v, f, [look])
    attributes = lambda: voxel.voxelize_attributes(painted, grid_size=512, aabb=AABB)  # noqa: E731
    return [("mesh_to_dual_grid", there), ("dual_grid_to_mesh", back), ("voxelize_attributes", attributes)]


def raster_steps(v: torch.Tensor, f: torch.Tensor) -> Steps:
    clip = torch.cat([v * 1.9, torch.ones_like(v[:, :1])], 1)[None].contiguous()
    kept: dict[str, torch.Tensor] = {}
    import trellis_raster as raster

    def draw() -> Any:
        kept["rast"] = raster.rasterize(clip, f, (2048, 2048))
        return kept["rast"]

    return [
        ("rasterize", draw),
        ("interpolate", lambda: raster.interpolate(v[None].contiguous(), kept["rast"], f)),
        ("fill_gaps", lambda: raster.fill_gaps(kept["rast"][0, ..., :3].contiguous(), kept["rast"][0, ..., 3] > 0)),
    ]


def shade_steps(v: torch.Tensor, f: torch.Tensor) -> Steps:
    sky = torch.rand(256, 512, 3).to(v)
    normal = torch.nn.functional.normalize(v, dim=1)
    lights: list[Any] = []
    import trellis_shade as shade

    def light() -> Any:
        lights.append(shade.EnvironmentLight.from_latlong(sky))
        return lights[-1].radiance(normal[:1], 0.5)

    def lit() -> Any:
        rough = normal[:, :1].abs()
        return shade.tonemap(lights[-1].shade(v, normal, normal.abs(), rough, rough, v * 3), "aces")

    return [("EnvironmentLight.from_latlong", light), ("shade and tonemap", lit)]


STEPS = {
    "sparse": sparse_steps,
    "mesh": mesh_steps,
    "mesh again": unwrap_steps,
    "voxel": voxel_steps,
    "raster": raster_steps,
    "shade": shade_steps,
}


def measure(extension: str, path: Path | None, device: torch.device) -> list[tuple[str, float, float]]:
    """(operation, first, second) in seconds, in this process."""
    vertices, faces = read_mesh(path) if path else made_mesh()
    v = torch.from_numpy(fitted(vertices)).to(device)
    f = torch.from_numpy(faces.astype("int32")).to(device)

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    begin = time.perf_counter()
    steps = STEPS[extension](v, f)
    prepared = time.perf_counter() - begin
    rounds: list[list[float]] = []
    for which in range(2):
        seconds = []
        for i, (_, step) in enumerate(steps):
            wait()
            begin = time.perf_counter()
            step()
            wait()
            seconds.append(time.perf_counter() - begin + (prepared if which == i == 0 else 0.0))
        rounds.append(seconds)
    return [(name, *times) for (name, _), *times in zip(steps, *rounds, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mesh", type=Path, help=".npz with vertices and faces; made here by default")
    parser.add_argument("--extension", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.extension:
        print(json.dumps(measure(arguments.extension, arguments.mesh, device)))
        return 0
    print(heading(device) + "\n")
    print("| extension | operation | first, ms | second, ms |\n|---|---|---|---|")
    worst = 0.0
    for extension in STEPS:
        command = [sys.executable, __file__, "--device", arguments.device, "--extension", extension]
        command += ["--mesh", str(arguments.mesh)] if arguments.mesh else []
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for i, (name, first, second) in enumerate(json.loads(done.stdout.splitlines()[-1])):
            what = f"trellis_{extension}, with its import" if i == 0 else ""
            print(f"| {what} | {name} | {first * 1000:.0f} | {second * 1000:.1f} |", flush=True)
            worst = max(worst, first)
    print(f"\nlongest first call {worst * 1000:.0f} ms, goal {GOAL * 1000:.0f} ms")
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
