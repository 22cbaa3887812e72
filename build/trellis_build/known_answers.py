"""Runs inside a verified environment: one operation of each extension on inputs whose answer is known by hand.

usage: known_answers.py DEVICES TORCH CUDA     (such as: cpu,cuda 2.11.0 13.0)
Imports nothing of trellis_build, which is not installed there.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch


def sparse(package: Any, device: str) -> str:
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.int32, device=device)
    neighbors = package.neighbor_map(coords, (1, 2, 2, 2))
    expected = torch.full((2, 27), -1, dtype=torch.int32)
    expected[0, 13], expected[0, 22] = 0, 1  # itself, and +1 along x: ((2 * 3) + 1) * 3 + 1
    expected[1, 13], expected[1, 4] = 1, 0
    assert torch.equal(neighbors.cpu(), expected), neighbors
    return "neighbours of two voxels"


def mesh(package: Any, device: str) -> str:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]], device=device)
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    normals = package.vertex_normals(vertices, faces).cpu()
    assert torch.allclose(normals, torch.tensor([[0.0, 0, 1]]).expand(3, 3), atol=1e-6), normals
    return "normals of one triangle"


def voxel(package: Any, device: str) -> str:
    coords = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]], dtype=torch.int32, device=device)
    crossed = torch.zeros((4, 3), dtype=torch.bool, device=device)
    crossed[0, 0] = True  # the edge along x that the four voxels share
    half = torch.full((4, 3), 0.5, device=device)
    box = [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]
    vertices, faces = package.dual_grid_to_mesh(coords, half, crossed, None, aabb=box, grid_size=2)
    assert torch.equal(vertices.cpu(), coords.cpu() + 0.5), vertices
    corners = vertices.cpu()[faces.cpu().long()]
    doubled = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert faces.shape == (2, 3) and torch.equal(doubled.abs().sum(0), torch.tensor([2.0, 0.0, 0.0])), faces
    return "one quad of four voxels"


def raster(package: Any, device: str) -> str:
    clip = torch.tensor([[[-1.0, -1, 0, 1], [3, -1, 0, 1], [-1, 3, 0, 1]]], device=device)
    faces = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    image = package.rasterize(clip, faces, (4, 4))
    assert image.shape == (1, 4, 4, 4) and bool((image[..., 3] == 1).all()), image[..., 3]
    return "a triangle over the whole image"


def shade(package: Any, device: str) -> str:
    light = package.EnvironmentLight.from_latlong(torch.ones((16, 32, 3), device=device))
    up = torch.tensor([[0.0, 0.0, 1.0]], device=device)
    one = torch.ones((1, 1), device=device)
    view = torch.tensor([[0.0, 0.0, 3.0]], device=device)
    rgb = light.shade(up * 0, up, one.expand(1, 3).contiguous(), one, one * 0.2, view).cpu()
    # White metal under white light is white: no energy is lost, whatever the roughness.
    assert torch.allclose(rgb, torch.ones_like(rgb), atol=0.01), rgb
    return "white metal under a white sky"


CHECKS: dict[str, Callable[[Any, str], str]] = {
    "sparse": sparse,
    "mesh": mesh,
    "voxel": voxel,
    "raster": raster,
    "shade": shade,
}


def main(devices: str, version: str, cuda: str) -> int:
    have = torch.__version__.split("+")[0]
    if have != version or (cuda != "none" and torch.version.cuda != cuda):
        print(
            f"  torch {torch.__version__} for CUDA {torch.version.cuda} is installed; the row says {version} for {cuda}"
        )
        return 1
    failed = 0
    for device in devices.split(","):
        for name, check in CHECKS.items():
            label = f"  trellis_{name} on {device}"
            try:
                print(
                    f"{label}: {check(importlib.import_module(f'trellis_{name}'), device)}, as it must be", flush=True
                )
            except NotImplementedError as error:  # stated in the README's table, and never silent
                print(f"{label}: {error}", flush=True)
                failed += device == "cpu"
            except Exception as error:
                print(f"{label}: FAILED: {type(error).__name__}: {error}", flush=True)
                failed += 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
