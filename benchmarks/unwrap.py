"""UV unwrapping: our method beside the xatlas package on the same meshes: ``python benchmarks/unwrap.py``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
import trimesh
from run import made_mesh, processor, read_mesh
from trellis_mesh import unwrap_uv


def meshes(extra: Path | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Made here, and one from a file when it is given."""
    ball, ring = trimesh.creation.icosphere(4), trimesh.creation.torus(1, 0.35, 96, 48)
    box = trimesh.creation.box()
    rippled = made_mesh()
    found = {
        f"{name} ({len(f):,} faces)": (v, f)
        for name, (v, f) in {
            "box": (box.vertices, box.faces),
            "sphere": (ball.vertices, ball.faces),
            "torus": (ring.vertices, ring.faces),
            "rippled sphere": rippled,
        }.items()
    }
    if extra:
        vertices, faces = read_mesh(extra)
        found[f"{extra.name} ({len(faces):,} faces)"] = (vertices, faces)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", type=Path, help="another mesh: .npz with vertices and faces")
    parser.add_argument("--resolution", type=int, default=2048)
    arguments = parser.parse_args()
    print(f"{date.today()}: python {' '.join(sys.argv)} on {processor()}, {len(os.sched_getaffinity(0))} cores\n")
    print("| mesh | method | charts | stretch L2, L∞ | utilisation | overlapping, collapsed faces | processor s |")
    print("|---|---|---|---|---|---|---|")
    for name, (vertices, faces) in meshes(arguments.mesh).items():
        v, f = (
            torch.tensor(np.asarray(vertices), dtype=torch.float32),
            torch.tensor(np.asarray(faces), dtype=torch.int32),
        )
        for method in ("fast", "xatlas"):
            begin = time.process_time()
            try:
                *_, report = unwrap_uv(v, f, method=method, resolution=arguments.resolution, return_report=True)
            except RuntimeError as error:
                print(f"| {name} | {method} | {error} | | | | |")
                continue
            seconds = time.process_time() - begin
            print(
                f"| {name} | {method} | {report.charts} | {report.stretch_l2:.3f}, {report.stretch_linf:.2f} "
                f"| {report.utilisation:.2f} | {report.overlapping_faces}, {report.collapsed_faces} | {seconds:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
