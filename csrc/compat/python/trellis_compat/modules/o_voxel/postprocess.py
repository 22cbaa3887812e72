"""As o_voxel.postprocess: from an extracted mesh and its attribute voxels to a textured mesh.

Made of the five extensions alone, so that code written for o_voxel needs no more of this project than they are.
`trellis_pipeline.export` is this project's own road: it cleans by volume, keeps creases sharp, writes the file itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import trellis_mesh
import trellis_raster
import trellis_sparse
from trellis_voxel import Grid

from ._settings import grid_of

__all__ = ["to_glb"]

_HOLE_PERIMETER = 3e-2
_SMALL_AREA = 1e-5
_CHUNK = 1 << 20  # points looked up at a time, which bounds the memory of a large texture


@torch.no_grad()
def to_glb(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    attr_volume: torch.Tensor,
    coords: torch.Tensor,
    attr_layout: Mapping[str, slice],
    aabb: Any,
    voxel_size: Any = None,
    grid_size: Any = None,
    decimation_target: int = 1000000,
    texture_size: int = 2048,
    remesh: bool = False,
    remesh_band: float = 1,
    remesh_project: float = 0.9,
    mesh_cluster_threshold_cone_half_angle_rad: float = np.pi / 2,
    mesh_cluster_refine_iterations: int = 0,
    mesh_cluster_global_iterations: int = 1,
    mesh_cluster_smooth_strength: float = 1,
    verbose: bool = False,
    use_tqdm: bool = False,
) -> Any:
    """Cleans, simplifies and unwraps a mesh and bakes its voxels' attributes, on the device of `vertices`.

    Args:
        vertices: float32 [V, 3], in the units and axes (z up) of `aabb`.
        faces: int [F, 3].
        attr_volume: [N, C], attributes in [0, 1].
        coords: int [N, 3], their voxels.
        attr_layout: columns of base_color (3), metallic, roughness and alpha.
        aabb, voxel_size, grid_size: the grid of the voxels; one of the sizes is enough.
        decimation_target: faces of the result.
        texture_size: side of the textures.
        remesh: make the surface anew first, `remesh_band` cells away from the old one and `remesh_project` of the way
            back. Only the outer sheet is kept, so that no faces are spent on one that nobody sees.
        mesh_cluster_...: options of upstream's clustering, which change nothing here.
        verbose, use_tqdm: either prints each step.

    Returns:
        A trimesh.Trimesh in glTF's axes (y up) with a PBRMaterial, ready for ``.export("x.glb", extension_webp=True)``.
    """
    say = print if verbose or use_tqdm else _nothing
    grid = grid_of(voxel_size, grid_size, aabb)
    source = trellis_mesh.fill_holes(vertices.float(), faces.int(), max_perimeter=_HOLE_PERIMETER)
    say(f"Holes closed: {source.report.closed} of {source.report.loops}; {len(source.faces)} faces")
    bvh = trellis_mesh.Bvh(source.vertices, source.faces)
    if remesh:
        v, f = _remeshed(source.vertices, source.faces, grid, bvh, remesh_band, remesh_project)
        say(f"Remeshed: {len(f)} faces")
        v, f = trellis_mesh.simplify(v, f, target_faces=decimation_target)
    else:
        # Far from the target first: cleaning is for the mesh that is left, and may add faces.
        v, f = _cleaned(*trellis_mesh.simplify(*source, target_faces=3 * decimation_target))
        v, f = _cleaned(*trellis_mesh.simplify(v, f, target_faces=decimation_target))
        v, f = trellis_mesh.unify_orientation(v, f, outward=True)
    v, f = trellis_mesh.remove_degenerate_faces(v, f)
    say(f"Simplified: {len(f)} faces")
    out_v, out_f, uv, vertex_map = trellis_mesh.unwrap_uv(v, f, resolution=texture_size)
    normals = trellis_mesh.vertex_normals(v, f)[vertex_map.long()]
    say(f"Unwrapped: {len(out_v)} vertices")
    attributes = _baked(out_v, out_f, uv, source, bvh, attr_volume, coords, grid, texture_size)
    say(f"Baked: {texture_size} x {texture_size}")
    return _trimesh(out_v, out_f, uv, normals, attributes, attr_layout, double_sided=not remesh)


def _nothing(text: str) -> None:
    pass


def _remeshed(
    v: torch.Tensor, f: torch.Tensor, grid: Grid, bvh: trellis_mesh.Bvh, band: float, project: float
) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = (torch.tensor(corner, dtype=torch.float64) for corner in (grid.aabb_min, grid.aabb_max))
    resolution = max(grid.size)
    # A band's width more on each side, so that what touches the box's border still gets a closed surface around it.
    side = float((high - low).max()) * (resolution + 3 * band) / resolution
    middle = (low + high) / 2
    return trellis_mesh.remesh_dual_contouring(
        v,
        f,
        resolution=resolution,
        band=float(band),
        project=float(project),
        shell="outer",
        aabb=torch.stack([middle - side / 2, middle + side / 2]),
        bvh=bvh,
    )


def _cleaned(v: torch.Tensor, f: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    v, f = trellis_mesh.remove_duplicate_faces(v, f)
    v, f = trellis_mesh.repair_non_manifold_edges(v, f)
    v, f = trellis_mesh.remove_small_components(v, f, min_area=_SMALL_AREA)
    return trellis_mesh.fill_holes(v, f, max_perimeter=_HOLE_PERIMETER)


def _baked(
    v: torch.Tensor,
    f: torch.Tensor,
    uv: torch.Tensor,
    source: tuple[torch.Tensor, torch.Tensor],
    bvh: trellis_mesh.Bvh,
    attr_volume: torch.Tensor,
    coords: torch.Tensor,
    grid: Grid,
    size: int,
) -> torch.Tensor:
    """[size, size, C]: the voxels' attributes at each texel's point of the surface before it was simplified."""
    clip = torch.cat([uv * 2 - 1, torch.zeros_like(uv[:, :1]), torch.ones_like(uv[:, :1])], 1)
    rast = trellis_raster.rasterize(clip[None], f, (size, size))
    covered = rast[0, ..., 3] > 0
    points = trellis_raster.interpolate(v[None], rast, f)[0][covered]
    voxels = torch.cat([torch.zeros_like(coords[:, :1]), coords], 1).int()
    image = attr_volume.new_zeros((size, size, attr_volume.shape[1]), dtype=torch.float32)
    values = image.new_empty((len(points), image.shape[2]))
    for start in range(0, len(points), _CHUNK):
        _, face, weights = bvh.closest_point(points[start : start + _CHUNK])
        corners = source[0][source[1][face].long()]
        at = grid.to_voxel((corners * weights[..., None]).sum(1))
        values[start : start + _CHUNK] = trellis_sparse.grid_sample_3d(attr_volume, voxels, (1, *grid.size), at[None])[
            0
        ].float()
    image[covered] = values
    return trellis_raster.fill_gaps(image, covered)


def _trimesh(
    v: torch.Tensor,
    f: torch.Tensor,
    uv: torch.Tensor,
    normals: torch.Tensor,
    attributes: torch.Tensor,
    layout: Mapping[str, slice],
    *,
    double_sided: bool,
) -> Any:
    import trimesh
    from PIL import Image

    visual: Any = trimesh.visual

    texels = (attributes.clamp(0, 1) * 255).round().byte().cpu().numpy()
    color, metallic, roughness, alpha = (
        texels[..., layout[name]] for name in ("base_color", "metallic", "roughness", "alpha")
    )
    material = visual.material.PBRMaterial(
        baseColorTexture=Image.fromarray(np.concatenate([color, alpha], axis=-1)),
        baseColorFactor=np.full(4, 255, dtype=np.uint8),
        # glTF 2.0, section 3.9.2: roughness is green, metallic blue.
        metallicRoughnessTexture=Image.fromarray(np.concatenate([np.zeros_like(metallic), roughness, metallic], -1)),
        metallicFactor=1.0,
        roughnessFactor=1.0,
        alphaMode="OPAQUE",
        doubleSided=double_sided,
    )
    upright = torch.tensor([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # rows times this: (x, y, z) to (x, z, -y)
    return trimesh.Trimesh(
        vertices=(v.cpu() @ upright).numpy(),
        faces=f.cpu().numpy(),
        vertex_normals=(normals.cpu() @ upright).numpy(),
        process=False,
        # trimesh has v upwards, as OBJ files have; here row 0 is at v = 0.
        visual=visual.TextureVisuals(uv=torch.stack([uv[:, 0], 1 - uv[:, 1]], 1).cpu().numpy(), material=material),
    )
