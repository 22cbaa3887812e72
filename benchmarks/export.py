"""From a mesh to a GLB on one device, stage by stage: ``python benchmarks/export.py --device cuda``.

The input has no texture, so its voxels get a colour by their place, of waves a few voxels long: enough detail that a
wrong or blurred texel shows. ``--quality`` unwraps with every method and compares pictures of each exported file with
pictures of the voxels themselves.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_mesh as mesh
import trellis_raster as raster
import trellis_sparse as sparse
import trellis_voxel as voxel
from heading import heading
from run import fitted, made_mesh, read_mesh
from trellis_pipeline.export import UNIT_AABB, Mesh, Reference, VoxelAsset, clean, export_asset, extract, orient
from trellis_pipeline.export.load import Y_UP_TO_Z_UP
from trellis_regression.glb import read_glb
from trellis_regression.render import Renderer, camera
from trellis_regression.scene import load_parts

AABB = [list(UNIT_AABB[0]), list(UNIT_AABB[1])]
# Which of upstream's steps do what a stage of ours does. Its total leaves out the writing of the file.
THEIRS = {
    "clean": (
        "fill_holes", "remove_duplicate_faces", "repair_non_manifold_edges", "remove_small_connected_components",
        "unify_face_orientations",
    ),
    "remesh": ("remesh_dc",),
    "simplify": ("simplify",),
    "unwrap": ("uv_unwrap",),
    "bake": ("bvh_build", "bvh_query", "rasterize", "grid_sample", "inpaint"),
    "write": ("export_png",),
}  # fmt: skip
VIEWS = ((0, 0), (90, 0), (180, 0), (270, 0), (0, 80), (0, -80), (45, 35), (225, -35))


def colour_at(points: torch.Tensor) -> torch.Tensor:
    """sRGB in [0, 1] of points of the unit cube, float32 [N, 3]: slow slopes and waves about 1 / 60 long."""
    slow = points + 0.5
    waves = torch.sin(points * torch.tensor([370.0, 410.0, 390.0], device=points.device))
    return (0.25 + 0.5 * slow + 0.12 * waves + 0.1 * waves.roll(1, 1) * waves).clamp(0, 1)


def voxels_of(vertices: torch.Tensor, faces: torch.Tensor, resolution: int) -> VoxelAsset:
    """Dual grid of a mesh, with procedural attributes in its voxels."""
    grid = voxel.mesh_to_dual_grid(
        vertices, faces, grid_size=resolution, aabb=AABB,
        face_weight=1.0, boundary_weight=0.2, regularization_weight=0.01,
    )  # fmt: skip
    centres = (grid.coords + 0.5) / resolution - 0.5
    colour = (colour_at(centres) * 255).round().to(torch.uint8)
    surface = ((centres + 0.5) * 255).round().to(torch.uint8)
    attrs = {"base_color": colour, "metallic": surface[:, :1].contiguous(), "roughness": surface[:, 1:2].contiguous()}
    local = grid.dual_vertices * resolution - grid.coords
    return VoxelAsset(grid.coords, local, grid.intersected, None, grid.coords, attrs, resolution)


class Stages:
    """Wall time of each stage, the device's work included."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, Any]]:
        self._wait()
        start = time.perf_counter()
        yield {}
        self._wait()
        self.seconds[name] = time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def once(
    v: torch.Tensor,
    f: torch.Tensor,
    out: Path,
    arguments: argparse.Namespace,
    keep: Callable[[str, Any], None] | None = None,
) -> dict[str, float]:
    """Seconds of each stage of one export, from the mesh to the file that was read back."""
    normals = mesh.vertex_normals(v, f)  # the file of a source has them
    stage = Stages(v.device)
    with stage("voxelize"):
        voxels = voxels_of(v, f, arguments.resolution)
    export_asset(
        voxels, out, faces=arguments.faces, texture=arguments.texture, remeshed=arguments.remesh,
        unwrap_method=arguments.unwrap, reference=Reference(Mesh(v, f), normals), stage=stage, keep=keep,
    )  # fmt: skip
    return stage.seconds


def speed(v: torch.Tensor, f: torch.Tensor, arguments: argparse.Namespace) -> None:
    out = arguments.out / "export.glb"
    first = once(v, f, out, arguments)
    runs = [once(v, f, out, arguments) for _ in range(arguments.repeats)]
    if arguments.coarse:

        def save(name: str, value: Any) -> None:
            if name == "coarse":
                np.savez(arguments.coarse, vertices=value.vertices.cpu().numpy(), faces=value.faces.cpu().numpy())

        once(v, f, out, arguments, save)
    later = {name: sorted(run[name] for run in runs)[len(runs) // 2] for name in first}
    keys = [
        f"{arguments.resolution}_remesh{int(r)}_tex{arguments.texture}_dec{arguments.faces}"
        for r in (arguments.remesh, not arguments.remesh)
    ]
    known = json.loads(arguments.baseline.read_text())["glb_export"] if arguments.baseline else {}
    key = next((k for k in keys if k in known), None)
    theirs = known[key] if key else {}
    print("| stage | first run, ms | later, ms | upstream, ms |\n|---|---|---|---|")
    for name, seconds in later.items():
        parts = [theirs[k] for k in THEIRS.get(name, ()) if k in theirs]
        other = f"{sum(parts) * 1000:,.0f}" if parts else ""
        print(f"| {name} | {first[name] * 1000:,.0f} | {seconds * 1000:,.0f} | {other} |")
    total = f"{(theirs['total_s'] + theirs['export_png']) * 1000:,.0f}" if theirs else ""
    print(f"| **voxels to file** | {_sum(first):,.0f} | {_sum(later):,.0f} | {total} |")
    print(f"| mesh to file | {sum(first.values()) * 1000:,.0f} | {sum(later.values()) * 1000:,.0f} | |")
    print(f"\n{out.stat().st_size:,} bytes; upstream: {key or 'no figure'}")
    if v.is_cuda:
        print(f"peak device memory {torch.cuda.max_memory_allocated(v.device) / 2**30:.2f} GiB")


def _sum(seconds: dict[str, float]) -> float:
    return sum(s for name, s in seconds.items() if name != "voxelize") * 1000


class VoxelPictures:
    """Pictures of the voxels themselves: their surface as it was extracted, with the attributes sampled at each pixel."""

    def __init__(self, voxels: VoxelAsset, reference: Mesh) -> None:
        fine, _ = clean(extract(voxels), min_fraction=1e-5)
        tree = mesh.Bvh(reference.vertices, reference.faces)
        self.fine = orient(fine, tree, reference.vertices, reference.faces)
        self.voxels = voxels

    def draw(self, matrix: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Display colour [S, S, 3] in [0, 1] and whether a pixel is covered."""
        v = self.fine.vertices
        shown = v @ torch.from_numpy(Y_UP_TO_Z_UP[:3, :3]).float().to(v.device)
        clip = torch.cat([shown, torch.ones_like(v[:, :1])], 1) @ matrix.to(v.device).T
        rast = raster.rasterize(clip[None].contiguous(), self.fine.faces, (size, size))
        where = (raster.interpolate(v[None], rast, self.fine.faces)[0] + 0.5) * self.voxels.grid_size
        coords = torch.cat([torch.zeros_like(self.voxels.attr_coords[:, :1]), self.voxels.attr_coords], 1)
        grid = (1, *[self.voxels.grid_size] * 3)
        table = self.voxels.attrs["base_color"].float()
        colour = sparse.grid_sample_3d(table, coords.contiguous(), grid, where.view(1, -1, 3).contiguous())
        return colour.view(size, size, 3) / 255, rast[0, ..., 3] > 0


def psnr(path: Path, truth: VoxelPictures, size: int) -> tuple[float, float]:
    """dB of base-colour pictures of a file against those of the voxels, over pixels that both cover (all views
    together), and the share of pixels that only one covers among those that any does."""
    renderer = Renderer(load_parts(read_glb(path)), None, truth.fine.vertices.device)
    squared = count = lone = 0.0
    for azimuth, elevation in VIEWS:
        matrix, _ = camera(renderer.frame, azimuth, elevation)
        expected, inside = truth.draw(matrix, 2 * size)
        shown = renderer.draw(azimuth, elevation, size, "base_color")
        expected = expected.view(size, 2, size, 2, 3).mean((1, 3))
        share = inside.view(size, 2, size, 2).float().mean((1, 3))
        both = (share == 1) & (shown.coverage == 1)
        squared += float(((shown.rgb.float() / 255 - expected)[both].double() ** 2).sum())
        count += 3 * float(both.sum())
        lone += float(((share > 0) != (shown.coverage > 0)).sum()) / float(((share > 0) | (shown.coverage > 0)).sum())
    return -10 * float(np.log10(squared / count)), lone / len(VIEWS)


def quality(v: torch.Tensor, f: torch.Tensor, arguments: argparse.Namespace) -> None:
    voxels = voxels_of(v, f, arguments.resolution)
    truth = VoxelPictures(voxels, Mesh(v, f))
    print("| unwrap | seconds | charts | stretch L2, L∞ | utilisation | faults | texels | PSNR, dB | outline, % |")
    print("|---|---|---|---|---|---|---|---|---|")
    for method in ("fast", "xatlas"):
        out = arguments.out / f"{method}.glb"
        try:
            facts = export_asset(
                voxels, out, faces=arguments.faces, texture=arguments.texture, remeshed=arguments.remesh,
                unwrap_method=method, reference=Reference(Mesh(v, f)),
            )  # fmt: skip
        except RuntimeError as error:  # xatlas leaves some faces out of some meshes
            print(f"| {method} | {error} | | | | | | | |", flush=True)
            continue
        u = facts["unwrap"]
        faults = u["overlapping_faces"] + u["flipped_faces"] + u["outside_faces"]
        decibels, lone = psnr(out, truth, 1024)
        print(
            f"| {method} | {u['seconds']:.2f} | {u['charts']} | {u['stretch_l2']:.3f}, {u['stretch_linf']:.2f} | "
            f"{u['utilisation']:.3f} | {faults} | {facts['bake']['texels_covered']:,} | {decibels:.2f} | {lone * 100:.3f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--mesh", type=Path, help=".npz with vertices and faces; made here by default")
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--texture", type=int, default=4096)
    parser.add_argument("--remesh", action="store_true", help="one closed shell, as upstream's remesh=True")
    parser.add_argument("--unwrap", choices=("fast", "xatlas"), default="fast")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--quality", action="store_true", help="compare unwrapping methods by pictures instead of timing"
    )
    parser.add_argument("--baseline", type=Path, help="upstream's timings, a JSON with `glb_export`")
    parser.add_argument("--coarse", type=Path, help="also write the mesh that is unwrapped, an .npz for unwrap.py")
    parser.add_argument("--out", type=Path, default=Path("out/benchmark"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    vertices, faces = read_mesh(arguments.mesh) if arguments.mesh else made_mesh()
    device = torch.device(arguments.device)
    v = torch.from_numpy(fitted(vertices)).to(device)
    f = torch.from_numpy(np.asarray(faces).astype(np.int32)).to(device)
    print(heading(device, f"input {len(f):,} faces") + "\n")
    gc.freeze()
    (quality if arguments.quality else speed)(v, f, arguments)


if __name__ == "__main__":
    main()
