"""UV unwrapping: our method on CUDA and on the CPU beside the xatlas package, on the same meshes.

python benchmarks/unwrap.py --device cuda --mesh simplified.npz --picture atlas.png
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import trellis_raster
import trimesh
from heading import heading
from run import made_mesh, read_mesh
from trellis_mesh import measure_uv, unwrap_uv

XATLAS_LIMIT = 100_000  # faces; beyond, it takes minutes


def made_meshes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    ball, ring, box = trimesh.creation.icosphere(4), trimesh.creation.torus(1, 0.35, 96, 48), trimesh.creation.box()
    return {
        "box": (box.vertices, box.faces),
        "sphere": (ball.vertices, ball.faces),
        "torus": (ring.vertices, ring.faces),
        "rippled sphere": made_mesh(),
    }


def seconds_of(
    method: str, v: torch.Tensor, f: torch.Tensor, resolution: int, repeats: int
) -> tuple[list[torch.Tensor], float, float]:
    """The result, and the median and least wall time of `repeats` calls after one that is not counted (one call in all
    for 1)."""
    samples = []
    for i in range(repeats + (repeats > 1)):
        begin = time.perf_counter()
        result = unwrap_uv(v, f, method=method, resolution=resolution)
        if v.is_cuda:
            torch.cuda.synchronize()
        if i > 0 or repeats == 1:
            samples.append(time.perf_counter() - begin)
    return list(result), statistics.median(samples), min(samples)


def picture(uv: torch.Tensor, faces: torch.Tensor, chart: torch.Tensor, side: int, path: Path) -> None:
    """The layout as an image: a colour for each chart, white where there is none."""
    from PIL import Image

    uv, faces, chart = uv.cpu(), faces.cpu(), chart.cpu().long()
    clip = torch.cat([uv * 2 - 1, torch.zeros_like(uv[:, :1]), torch.ones_like(uv[:, :1])], 1)[None].contiguous()
    face = trellis_raster.rasterize(clip, faces, (side, side))[0, ..., 3].long()
    colours = torch.randint(40, 230, (int(chart.max()) + 2, 3), generator=torch.Generator().manual_seed(1))
    colours[0] = 255
    index = torch.where(face > 0, chart[(face - 1).clamp(min=0)] + 1, 0)
    Image.fromarray(colours[index].to(torch.uint8).numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--mesh", type=Path, action="append", help="a mesh in place of those made here: .npz with vertices and faces"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--methods", default="cuda,cpu,xatlas", help="which of cuda, cpu and xatlas")
    parser.add_argument("--resolution", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5, help="calls on CUDA; on the CPU one is timed")
    parser.add_argument("--picture", type=Path, help="the last layout of the first method, as an image")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    print(heading(device) + "\n")
    print(
        "| mesh | method | charts | below 8 texels | stretch L2, L∞ | utilisation | overlapping, flipped, collapsed | seconds, least |"
    )
    print("|---|---|---|---|---|---|---|---|")
    meshes = {p.stem: read_mesh(p) for p in arguments.mesh} if arguments.mesh else made_meshes()
    methods = [m for m in arguments.methods.split(",") if m != "cuda" or device.type == "cuda"]
    for name, (vertices, faces) in meshes.items():
        v, f = (
            torch.tensor(np.asarray(vertices), dtype=torch.float32),
            torch.tensor(np.asarray(faces), dtype=torch.int32),
        )
        for method in methods:
            if method == "xatlas" and len(f) > XATLAS_LIMIT:
                continue
            on = device if method == "cuda" else torch.device("cpu")
            try:
                result, seconds, least = seconds_of(
                    "xatlas" if method == "xatlas" else "fast", v.to(on), f.to(on), arguments.resolution,
                    arguments.repeats if on.type == "cuda" else 1,
                )  # fmt: skip
            except RuntimeError as error:
                print(f"| {name} ({len(f):,} faces) | {method} | {error} | | | | | |")
                continue
            report, by_face = measure_uv(*result[:3], resolution=arguments.resolution, return_faces=True)
            print(
                f"| {name} ({len(f):,} faces) | {method} | {report.charts} | {report.small_charts} "
                f"| {report.stretch_l2:.3f}, {report.stretch_linf:.2f} | {report.utilisation:.3f} "
                f"| {report.overlapping_faces}, {report.flipped_faces}, {report.collapsed_faces} "
                f"| {seconds:.3f}, {least:.3f} |",
                flush=True,
            )
            if arguments.picture and method == methods[0]:
                picture(result[2], result[1], by_face.chart, 1024, arguments.picture)


if __name__ == "__main__":
    main()
