"""o_voxel.postprocess.to_glb, whole, beside trellis_pipeline's export: the same voxels to a file each."""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_mesh as mesh
import trellis_raster as raster
import trellis_sparse as sparse
import trellis_voxel as voxel
from harness import Finding, Setting, case
from shapes import in_box, surface

BOX = [[-0.5] * 3, [0.5] * 3]
LAYOUT = {"base_color": slice(0, 3), "metallic": slice(3, 4), "roughness": slice(4, 5), "alpha": slice(5, 6)}


class _Written:
    """A GLB of one textured mesh: its surface in the voxels' axes and the colours at points of it."""

    def __init__(self, path: Path, device: torch.device) -> None:
        import trimesh

        scene = trimesh.load(path)
        meshes = list(scene.geometry.values())
        v = np.concatenate([np.asarray(m.vertices) for m in meshes])
        starts = np.cumsum([0] + [len(m.vertices) for m in meshes])
        f = np.concatenate([np.asarray(m.faces) + start for m, start in zip(meshes, starts, strict=False)])
        self.uv = torch.from_numpy(np.concatenate([np.asarray(m.visual.uv) for m in meshes])).float().to(device)
        self.vertices = torch.from_numpy(np.stack([v[:, 0], -v[:, 2], v[:, 1]], 1)).float().to(device)
        self.faces = torch.from_numpy(f).int().to(device)
        material = meshes[0].visual.material
        self.images = [
            torch.from_numpy(np.array(image.convert("RGB"))).float().to(device)
            for image in (material.baseColorTexture, material.metallicRoughnessTexture)
        ]

    def draw(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Points spread evenly over the surface, and base colour and (0, roughness, metallic) there, of 255."""
        corners = self.vertices[self.faces.long()]
        areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
        generator = torch.Generator(self.vertices.device).manual_seed(0)
        # torch.multinomial takes 2^24 categories at most and float32 sums; the cumulative sum has no such limits.
        total = areas.double().cumsum(0)
        at = torch.rand(count, generator=generator, device=areas.device, dtype=torch.float64) * total[-1]
        face = torch.searchsorted(total, at).clamp(max=len(areas) - 1)
        weights = torch.rand(count, 2, generator=generator, device=areas.device)
        weights = torch.where(weights.sum(1, keepdim=True) > 1, 1 - weights, weights)
        weights = torch.cat([1 - weights.sum(1, keepdim=True), weights], 1)[..., None]
        points = (corners[face] * weights).sum(1)
        uv = (self.uv[self.faces[face].long()] * weights).sum(1)
        uv = torch.stack([uv[:, 0], 1 - uv[:, 1]], 1)  # trimesh turns v over
        seen = [raster.sample_texture(image[None], uv[None, None])[0, 0] for image in self.images]
        return points, torch.cat([seen[0], seen[1][:, 1:]], 1)


def _far(points: torch.Tensor, tree: mesh.Bvh) -> float:
    return float(tree.closest_point(points)[0].quantile(0.999))


@case("o_voxel", "cumesh", "flex_gemm", "nvdiffrast", share=0.1)
def exports(setting: Setting) -> Iterator[Finding]:
    """Faces, distance to the surface of the voxels and back, and colours against those of the voxels, of both files."""
    from trellis_pipeline.export import VoxelAsset, export_asset

    kind, points, triangles = surface(setting, damaged=False)
    size, texture, target = int(setting.one_of(128, 256)), 1024, int(setting.one_of(5_000, 20_000))
    remeshed = setting.seed % 2 == 1
    v, f = setting.tensor(in_box(points, *np.array(BOX), 0.95)), setting.tensor(triangles)
    said = f"seed {setting.seed}: {kind}, {len(f)} faces, {size}^3 to {target}, remeshed {remeshed}"
    grid = voxel.mesh_to_dual_grid(v, f, grid_size=size, aabb=BOX, boundary_weight=0.2, regularization_weight=0.01)
    local = (grid.dual_vertices * size - grid.coords).contiguous()
    dense_v, dense_f = voxel.dual_grid_to_mesh(grid.coords, local, grid.intersected, None, aabb=BOX, grid_size=size)
    if not len(dense_f):
        return
    place = (grid.coords + 0.5) / size
    values = torch.cat([place, place[:, :1] * 0 + 0.25, place[:, 1:2], torch.ones_like(place[:, :1])], 1).contiguous()
    held = (values * 255).round().to(torch.uint8)
    attrs = {name: held[:, part].contiguous() for name, part in LAYOUT.items()}
    asset = VoxelAsset(grid.coords, local, grid.intersected, None, grid.coords, attrs, size)
    tree = mesh.Bvh(dense_v, dense_f)

    def truth(at: torch.Tensor) -> torch.Tensor:
        """Base colour, roughness and metallic of the voxels at the nearest point of their surface."""
        _, face, weights = tree.closest_point(at)
        near = (dense_v[dense_f[face.long()].long()] * weights[..., None]).sum(1)
        rows = torch.cat([torch.zeros_like(grid.coords[:, :1]), grid.coords], 1).contiguous()
        found = sparse.grid_sample_3d(
            held.float(), rows, (1, size, size, size), ((near + 0.5) * size)[None].contiguous()
        )
        return found[0][:, [0, 1, 2, 4, 3]]

    with tempfile.TemporaryDirectory() as folder:
        for who in ("ours", "theirs"):
            path, begin = Path(folder) / f"{who}.glb", time.perf_counter()
            if who == "ours":
                export_asset(asset, path, faces=target, texture=texture, remeshed=remeshed)
            else:
                made: Any = setting.modules["o_voxel"].postprocess.to_glb(
                    dense_v, dense_f, values, grid.coords, LAYOUT, BOX, grid_size=size, decimation_target=target,
                    texture_size=texture, remesh=remeshed, remesh_band=1, remesh_project=0.9,
                )  # fmt: skip
                data = io.BytesIO(made.export(file_type="glb"))
                path.write_bytes(data.getvalue())
            taken = time.perf_counter() - begin
            written = _Written(path, setting.device)
            at, seen = written.draw(20_000)
            note = f"{who}{', remeshed' if remeshed else ''}"
            back = _far(dense_v, mesh.Bvh(written.vertices, written.faces)) * size
            limit = 1.0 if who == "ours" else float("inf")
            yield Finding(said, f"{note}: faces over the target", len(written.faces) / target, limit)
            yield Finding(said, f"{note}: from the voxels' surface, in voxels", _far(at, tree) * size, 1.5 * limit)
            # Remeshing is to leave the outer sheet alone: what lies inside has no counterpart. Crumbs of a soup are left out.
            yield Finding(
                said,
                f"{note}: from the voxels' surface to it, in voxels",
                back,
                float("inf") if remeshed or kind == "soup" else 2.0 * limit,
            )
            apart = (seen - truth(at)).abs()
            yield Finding(said, f"{note}: values, mean gap of 255", float(apart.mean()), 2.0 * limit)
            yield Finding(
                said, f"{note}: values, share beyond 16 of 255", float((apart > 16).double().mean()), 0.02 * limit
            )
            yield Finding(said, f"{note}: seconds", taken, float("inf"))
