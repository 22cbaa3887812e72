"""UV unwrapping and baking: every texel looks up the attribute voxels at its point of the unsimplified surface."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
import trellis_mesh as mesh
import trellis_raster as raster
import trellis_sparse as sparse

from .stages import Mesh, Textures, UnwrappedMesh, VoxelAsset

# Attributes that an asset may lack take the glTF defaults.
_DEFAULTS = {"base_color": (3, 255), "metallic": (1, 0), "roughness": (1, 255), "alpha": (1, 255), "emissive": (3, 0)}
# Faces that meet at a sharper angle are shaded with an edge between them. Wide enough that the steps of a coarse voxel
# surface stay smooth, and well below the right angle of a box.
CREASE_ANGLE = 50.0
# Closest points are looked up this many at a time, which bounds the memory of a large texture.
_CHUNK = 1 << 20


def unwrap(shape: Mesh, *, texture_size: int, method: str) -> tuple[UnwrappedMesh, dict[str, Any]]:
    """Charts, parameterisation and packing for textures of `texture_size`^2, with normals that keep creases sharp."""
    v, f, uv, _, report = mesh.unwrap_uv(
        shape.vertices, shape.faces, method=method, resolution=texture_size, return_report=True
    )
    # Faces and corners come back in their order, so normals of the mesh before the cuts belong to the same corners.
    normals, leaders = mesh.corner_normals(shape.vertices, shape.faces, crease_angle=CREASE_ANGLE)
    # A vertex of a file has one normal: it is split again where its corners have several.
    corners = f.view(-1).long()
    key = corners * (3 * len(f)) + leaders.view(-1).long()
    kinds, corner_kind = torch.unique(key, return_inverse=True)
    source = kinds // (3 * len(f))
    split_normals = torch.empty(len(kinds), 3, device=v.device)
    split_normals[corner_kind] = normals.view(-1, 3)  # corners of one kind have the very same normal
    split = UnwrappedMesh(v[source], corner_kind.view(-1, 3).to(torch.int32), uv[source], split_normals)
    return split, asdict(report)


def bake(
    unwrapped: UnwrappedMesh, reference: Mesh, bvh: mesh.Bvh, asset: VoxelAsset, *, texture_size: int
) -> tuple[Textures, dict[str, Any]]:
    """Textures of `texture_size`^2 for an unwrapped mesh.

    Each texel's centre is interpolated on the simplified mesh, moved to the closest point of `reference` (the mesh
    before simplification, which `bvh` searches) and looked up there in the attribute voxels by trilinear weights
    over the voxels that exist. Texels outside every chart, and those with no voxel near, take the nearest texel that
    has a value, so that neither filtering nor mip levels mix in a background colour. The second result counts both.

    Raises:
        ValueError: no texel has a voxel near it.
    """
    uv = unwrapped.uv
    clip = torch.cat([uv * 2 - 1, torch.zeros_like(uv[:, :1]), torch.ones_like(uv[:, :1])], 1)
    rast = raster.rasterize(clip[None].contiguous(), unwrapped.faces, (texture_size, texture_size))
    covered = rast[0, ..., 3] > 0
    points = raster.interpolate(unwrapped.vertices[None].contiguous(), rast, unwrapped.faces)[0][covered]
    names = list(_DEFAULTS)
    # The last column is 1 at every voxel: it samples to 1 where any voxel is near a point, and to 0 where none is.
    table = torch.cat(
        [*(_attribute(asset, name) for name in names), torch.ones(len(asset.attr_coords), 1, device=uv.device)], 1
    )
    coords = torch.cat([torch.zeros_like(asset.attr_coords[:, :1]), asset.attr_coords], 1).contiguous()
    low = torch.tensor(asset.aabb[0], device=points.device)
    size = (torch.tensor(asset.aabb[1], device=points.device) - low) / asset.grid_size
    grid = (1, asset.grid_size, asset.grid_size, asset.grid_size)
    values = torch.empty(len(points), table.shape[1], device=points.device)
    for start in range(0, len(points), _CHUNK):
        part = points[start : start + _CHUNK].contiguous()
        _, face, weights = bvh.closest_point(part)
        corners = reference.vertices[reference.faces[face.long()].long()]
        on_surface = (corners * weights[..., None]).sum(1)
        found = sparse.grid_sample_3d(
            table, coords, grid, ((on_surface - low) / size)[None].contiguous(), mode="trilinear"
        )
        values[start : start + _CHUNK] = found[0]
    known = covered.clone()
    known[covered] = values[:, -1] > 0.5
    if not bool(known.any()):
        raise ValueError("no texel lies near an attribute voxel: the mesh and its attributes do not belong together")
    image = torch.zeros(texture_size, texture_size, table.shape[1] - 1, dtype=torch.uint8, device=points.device)
    image[covered] = values[:, :-1].round().clamp(0, 255).to(torch.uint8)
    image = raster.fill_gaps(image, known)
    maps = dict(zip(names, image.split([_DEFAULTS[n][0] for n in names], 2), strict=True))
    facts = {
        "texels_covered": int(covered.sum()),
        "coverage": float(covered.float().mean()),
        "texels_without_voxel": int(covered.sum() - known.sum()),
    }
    return Textures(**maps, covered=covered), facts


def _attribute(asset: VoxelAsset, name: str) -> torch.Tensor:
    width, default = _DEFAULTS[name]
    if name in asset.attrs:
        return asset.attrs[name].float()
    return torch.full((len(asset.attr_coords), width), float(default), device=asset.attr_coords.device)
