"""Times our operations and upstream's in one process, on the same inputs, for whichever upstream modules are installed.

python benchmarks/upstream.py [--mesh FILE.npz] [--resolution N] [--faces N] [--texture N] [--export]

Looks for o_voxel, cumesh, flex_gemm and nvdiffrast. A module that cannot be imported is named and left out, and a call that
fails is named beside its error. Upstream needs a CUDA device; its first calls (compilation, autotuning) are timed apart from
the later ones, as are ours. ``--export`` adds the whole way from a mesh to a GLB file: upstream's `o_voxel.postprocess.to_glb`
with trimesh's writer, which needs all four, beside our export.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_mesh as mesh
import trellis_raster as raster
import trellis_sparse as sparse
import trellis_voxel as voxel
from heading import heading
from run import AABB, Clock, fitted, made_mesh, read_mesh

MODULES = {
    "o_voxel": "o_voxel",
    "cumesh": "cumesh",
    "flex_gemm": "flex_gemm.ops",
    "nvdiffrast": "nvdiffrast.torch",
}
WEIGHTS = {"face_weight": 1.0, "boundary_weight": 0.2, "regularization_weight": 0.01}
SLOW = 1.0  # seconds: what takes longer is called twice in all


@dataclass(frozen=True)
class Pair:
    """One operation in two implementations: ours called with nothing, theirs with its module."""

    name: str
    module: str
    ours: Callable[[], Any]
    theirs: Callable[[Any], Any]


def cumesh_of(module: Any, v: torch.Tensor, f: torch.Tensor) -> Any:
    """Upstream's mesh object. It works in place, so every timed call makes one, which copies vertices and faces."""
    held = module.CuMesh()
    held.init(v, f)
    return held


def in_place(v: torch.Tensor, f: torch.Tensor, name: str, *arguments: Any) -> Callable[[Any], Any]:
    """A call of one of upstream's mesh operations, from two tensors to two tensors as ours."""

    def call(module: Any) -> Any:
        held = cumesh_of(module, v, f)
        getattr(held, name)(*arguments)
        return held.read()

    return call


def surface_pairs(v: torch.Tensor, f: torch.Tensor, target: int) -> Iterator[Pair]:
    """Operations on the dense surface of a dual grid."""
    count = f"{len(f):,} faces"
    yield Pair(
        f"fill holes, {count}", "cumesh",
        lambda: mesh.fill_holes(v, f, max_perimeter=3e-2), in_place(v, f, "fill_holes", 3e-2),
    )  # fmt: skip
    yield Pair(
        f"remove duplicate faces, {count}", "cumesh",
        lambda: mesh.remove_duplicate_faces(v, f), in_place(v, f, "remove_duplicate_faces"),
    )  # fmt: skip
    yield Pair(
        f"repair non-manifold edges, {count}", "cumesh",
        lambda: mesh.repair_non_manifold_edges(v, f), in_place(v, f, "repair_non_manifold_edges"),
    )  # fmt: skip
    yield Pair(
        f"remove small components, {count}", "cumesh",
        lambda: mesh.remove_small_components(v, f, min_area=1e-5),
        in_place(v, f, "remove_small_connected_components", 1e-5),
    )  # fmt: skip
    yield Pair(
        f"unify orientation, {count}", "cumesh",
        lambda: mesh.unify_orientation(v, f), in_place(v, f, "unify_face_orientations"),
    )  # fmt: skip
    yield Pair(
        f"simplify {count} to {target:,}", "cumesh",
        lambda: mesh.simplify(v, f, target_faces=target), in_place(v, f, "simplify", target),
    )  # fmt: skip
    yield Pair(f"tree, {count}", "cumesh", lambda: mesh.Bvh(v, f), lambda m: m.cuBVH(v, f))


def query_pairs(v: torch.Tensor, f: torch.Tensor, modules: dict[str, Any], resolution: int) -> Iterator[Pair]:
    """Questions to a tree that is at hand."""
    if "cumesh" not in modules:
        return
    ours, theirs = mesh.Bvh(v, f), modules["cumesh"].cuBVH(v, f)
    points = v[f.long()].mean(1)[torch.randperm(len(f), device=v.device)[: 1 << 21]]
    points = points + torch.randn_like(points) / resolution
    yield Pair(
        f"closest point, {len(points):,} near the surface", "cumesh",
        lambda: ours.closest_point(points), lambda _: theirs.unsigned_distance(points, return_uvw=True),
    )  # fmt: skip
    origins = torch.nn.functional.normalize(torch.randn_like(points), dim=1)
    directions = torch.nn.functional.normalize(torch.randn_like(points) * 0.2 - origins, dim=1)
    yield Pair(
        f"cast {len(points):,} rays", "cumesh",
        lambda: ours.ray_cast(origins, directions), lambda _: theirs.ray_trace(origins, directions),
    )  # fmt: skip
    half = resolution // 2
    center, scale = torch.zeros(3, device=v.device), (half + 3) / half
    box = [[-scale / 2] * 3, [scale / 2] * 3]
    yield Pair(
        f"remesh at {half}^3, tree at hand", "cumesh",
        lambda: mesh.remesh_dual_contouring(v, f, resolution=half, band=1.0, project=0.9, aabb=box, bvh=ours),
        lambda m: m.remeshing.remesh_narrow_band_dc(v, f, center, scale, half, band=1, project_back=0.9, bvh=theirs),
    )  # fmt: skip


def sparse_pairs(coords: torch.Tensor, resolution: int) -> Iterator[Pair]:
    """Convolution and sampling on the voxels of a surface."""
    half = torch.float16 if coords.is_cuda else torch.float32
    shape = (1, resolution, resolution, resolution)
    feats = torch.randn(len(coords), 64, device=coords.device, dtype=half)
    kernel = torch.randn(64, 3, 3, 3, 64, device=coords.device, dtype=half) / 40
    known: dict[str, Any] = {}

    def convolve() -> torch.Tensor:
        plan = sparse.conv_map(coords, shape)
        return sparse.submanifold_conv3d(feats, kernel, None, plan.neighbors, plan=plan)

    def with_map() -> torch.Tensor:
        if "plan" not in known:
            known["plan"] = sparse.conv_map(coords, shape)
        plan = known["plan"]
        return sparse.submanifold_conv3d(feats, kernel, None, plan.neighbors, plan=plan)

    def theirs(m: Any) -> Any:
        return m.spconv.sparse_submanifold_conv3d(feats, coords, torch.Size((1, 64, *shape[1:])), kernel, None)

    def theirs_with_map(m: Any) -> Any:
        if "cache" not in known:
            known["cache"] = theirs(m)[1]
        size = torch.Size((1, 64, *shape[1:]))
        return m.spconv.sparse_submanifold_conv3d(feats, coords, size, kernel, None, known["cache"])

    with torch.no_grad():
        yield Pair(f"map and convolution, {len(coords):,} voxels x 64", "flex_gemm", convolve, theirs)
        yield Pair(f"convolution, map at hand, {len(coords):,} voxels x 64", "flex_gemm", with_map, theirs_with_map)
    table = torch.rand(len(coords), 6, device=coords.device)
    points = (coords[:, 1:] + torch.rand(len(coords), 3, device=coords.device))[None].contiguous()
    for mode in ("trilinear", "nearest"):
        yield Pair(
            f"sample {mode}, {len(coords):,} points x 6", "flex_gemm",
            lambda mode=mode: sparse.grid_sample_3d(table, coords, shape, points, mode),
            lambda m, mode=mode: m.grid_sample.grid_sample_3d(
                table, coords, torch.Size((1, 6, *shape[1:])), points, mode
            ),
        )  # fmt: skip


def picture_pairs(v: torch.Tensor, f: torch.Tensor, modules: dict[str, Any], size: int) -> Iterator[Pair]:
    """A picture of the dense surface, and what is read from it."""
    if "nvdiffrast" not in modules:
        return
    clip = torch.cat([v[:, :2] * 2, v[:, 2:], torch.ones_like(v[:, :1])], 1)[None].contiguous()
    context = modules["nvdiffrast"].RasterizeCudaContext(device=v.device)
    rast = raster.rasterize(clip, f, (size, size))
    attrs = v[None].contiguous()
    yield Pair(
        f"rasterise {len(f):,} faces at {size}^2", "nvdiffrast",
        lambda: raster.rasterize(clip, f, (size, size)),
        lambda m: m.rasterize(context, clip, f, (size, size), grad_db=False),
    )  # fmt: skip
    yield Pair(
        f"interpolate 3 values at {size}^2", "nvdiffrast",
        lambda: raster.interpolate(attrs, rast, f), lambda m: m.interpolate(attrs, rast, f),
    )  # fmt: skip
    image = torch.rand(1, 4096, 4096, 4, device=v.device)
    uv = torch.rand(1, size, size, 2, device=v.device)
    yield Pair(
        f"texture, {size}^2 places at random of 4096^2 x 4", "nvdiffrast",
        lambda: raster.sample_texture(image, uv), lambda m: m.texture(image, uv),
    )  # fmt: skip


def unwrap_pairs(v: torch.Tensor, f: torch.Tensor, faces: int, texture: int) -> Iterator[Pair]:
    coarse_v, coarse_f = mesh.simplify(v, f, target_faces=faces)
    charts = {"refine_iterations": 0, "global_iterations": 1}
    yield Pair(
        f"unwrap {len(coarse_f):,} faces, raw", "cumesh",
        lambda: mesh.unwrap_uv(coarse_v, coarse_f, resolution=texture),
        lambda m: cumesh_of(m, coarse_v, coarse_f).uv_unwrap(charts),
    )  # fmt: skip


def export_pairs(v: torch.Tensor, f: torch.Tensor, resolution: int, faces: int, texture: int) -> Iterator[Pair]:
    """The voxels of a mesh to a file: dual grid at hand, as both pipelines have it after decoding."""
    from export import VoxelPictures, psnr, voxels_of
    from trellis_pipeline.export import Mesh, Reference, export_asset

    asset = voxels_of(v, f, resolution)
    attrs = torch.cat([asset.attrs[name] for name in ("base_color", "metallic", "roughness")], 1).float() / 255
    attrs = torch.cat([attrs, torch.ones_like(attrs[:, :1])], 1).contiguous()
    layout = {"base_color": slice(0, 3), "metallic": slice(3, 4), "roughness": slice(4, 5), "alpha": slice(5, 6)}
    folder = Path(tempfile.mkdtemp())
    box = torch.tensor(AABB, device=v.device)

    def theirs(m: Any, remesh: bool) -> Any:
        dense_v, dense_f = m.convert.flexible_dual_grid_to_mesh(
            asset.coords, asset.local_dual, asset.intersected, None, aabb=box, grid_size=resolution
        )
        made = m.postprocess.to_glb(
            dense_v, dense_f, attrs, asset.coords, layout, AABB, grid_size=resolution, decimation_target=faces,
            texture_size=texture, remesh=remesh, remesh_band=1, remesh_project=0.9,
        )  # fmt: skip
        made.export(str(folder / "theirs.glb"))
        return made

    for remesh in (True, False):
        yield Pair(
            f"voxels to GLB, {resolution}^3, {faces:,} faces, {texture}^2" + (", remeshed" if remesh else ", as it is"), "o_voxel",
            lambda remesh=remesh: export_asset(
                asset, folder / "ours.glb", faces=faces, texture=texture, remeshed=remesh, reference=Reference(Mesh(v, f))
            ),
            lambda m, remesh=remesh: theirs(m, remesh),
        )  # fmt: skip
        # Both files are of this way now, if it was asked for.
        if all((folder / f"{who}.glb").exists() for who in ("ours", "theirs")):
            truth = VoxelPictures(asset, Mesh(v, f))
            said = [psnr(folder / f"{who}.glb", truth, 1024) for who in ("ours", "theirs")]
            shown = " | ".join(f"{decibels:.2f}, {lone * 100:.3f}" for decibels, lone in said)
            print(f"| its pictures beside the voxels', dB, outline % | | {shown} | |", flush=True)
            for who in ("ours", "theirs"):
                (folder / f"{who}.glb").unlink()


def pairs(v: torch.Tensor, f: torch.Tensor, modules: dict[str, Any], arguments: argparse.Namespace) -> Iterator[Pair]:
    """Each operation, fed with what our own one before gave."""
    resolution = arguments.resolution
    box = torch.tensor(AABB)
    grid = voxel.mesh_to_dual_grid(v, f, grid_size=resolution, aabb=AABB, **WEIGHTS)
    local = (grid.dual_vertices * resolution - grid.coords).contiguous()
    yield Pair(
        f"mesh -> dual grid, {resolution}^3", "o_voxel",
        lambda: voxel.mesh_to_dual_grid(v, f, grid_size=resolution, aabb=AABB, **WEIGHTS),
        lambda m: m.convert.mesh_to_flexible_dual_grid(v.cpu(), f.cpu(), grid_size=resolution, aabb=box, **WEIGHTS),
    )  # fmt: skip
    yield Pair(
        f"dual grid -> mesh, {len(grid.coords):,} voxels", "o_voxel",
        lambda: voxel.dual_grid_to_mesh(grid.coords, local, grid.intersected, None, aabb=AABB, grid_size=resolution),
        lambda m: m.convert.flexible_dual_grid_to_mesh(
            grid.coords, local, grid.intersected, None, aabb=box.to(v.device), grid_size=resolution
        ),
    )  # fmt: skip
    coords = torch.cat([torch.zeros_like(grid.coords[:, :1]), grid.coords], 1).contiguous()
    yield from sparse_pairs(coords, resolution)
    dense_v, dense_f = voxel.dual_grid_to_mesh(
        grid.coords, local, grid.intersected, None, aabb=AABB, grid_size=resolution
    )
    yield from picture_pairs(dense_v, dense_f, modules, 2048)
    yield from surface_pairs(dense_v, dense_f, arguments.faces)
    yield from query_pairs(dense_v, dense_f, modules, resolution)
    if arguments.export:
        yield from export_pairs(v, f, resolution, arguments.faces, arguments.texture)
    else:
        yield from unwrap_pairs(dense_v, dense_f, arguments.faces, arguments.texture)


def first_and_later(call: Callable[[], Any], clock: Clock) -> tuple[float, float]:
    """Milliseconds of the first call, by the host's clock, and the median of later ones (of one where calls are slow)."""

    def once() -> float:
        begin = time.perf_counter()
        call()
        if clock.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    first = once()
    if first < SLOW:
        return first * 1000, clock(call)[1] * 1000
    if first > 20 * SLOW:
        return first * 1000, first * 1000
    second = once()  # after compilation or tuning the others may be fast
    return first * 1000, (second if second > SLOW else clock(call)[1]) * 1000


def timed(call: Callable[[], Any], clock: Clock) -> tuple[float, str]:
    """Later milliseconds (not a number where the call fails) and what the table says."""
    try:
        first, later = first_and_later(call, clock)
    except Exception as error:  # upstream's modules raise of every kind
        return float("nan"), f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    return later, f"{later:,.2f} ({first:,.0f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mesh", type=Path, help=".npz with vertices and faces; made here by default")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--faces", type=int, default=200_000, help="of the simplified mesh")
    parser.add_argument("--texture", type=int, default=2048)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="words, one of which an operation's name must have")
    parser.add_argument("--export", action="store_true", help="the whole way to a file instead of unwrapping alone")
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
    print(heading(device) + "\n")
    print("| operation | module | ours ms (first) | theirs ms (first) | ratio |\n|---|---|---|---|---|")
    clock = Clock(device, arguments.repeats)
    for pair in pairs(v, f, modules, arguments):
        if pair.module not in modules or (arguments.only and not any(word in pair.name for word in arguments.only)):
            continue
        ours, ours_said = timed(pair.ours, clock)
        theirs, theirs_said = timed(lambda p=pair: p.theirs(modules[p.module]), clock)
        ratio = f"{theirs / ours:,.2f}" if theirs == theirs and ours == ours else ""
        print(f"| {pair.name} | {pair.module} | {ours_said} | {theirs_said} | {ratio} |", flush=True)


if __name__ == "__main__":
    main()
