"""UV unwrapping and baking: every texel looks up the attribute voxels at its point of the unsimplified surface."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
import trellis_mesh as mesh
import trellis_raster as raster
import trellis_sparse as sparse

from ..errors import require_finite
from .normals import Reference, corner_normals
from .stages import Mesh, Textures, UnwrappedMesh, VoxelAsset

# Attributes that an asset may lack take the glTF defaults.
_DEFAULTS = {"base_color": (3, 255), "metallic": (1, 0), "roughness": (1, 255), "alpha": (1, 255), "emissive": (3, 0)}
# Texels are moved to the surface this many at a time, which bounds the memory of a large texture.
_CHUNK = {"cpu": 1 << 20, "cuda": 1 << 23}


def unwrap(
    shape: Mesh, *, texture_size: int, method: str, reference: Reference | None = None, tree: mesh.Bvh | None = None,
    reach: float = 0.0,
) -> tuple[UnwrappedMesh, dict[str, Any]]:  # fmt: skip
    """Charts, parameterisation and packing for textures of `texture_size`^2, with normals that keep creases sharp.

    Args:
        reference, tree, reach: whose normals to take over, see `corner_normals`.
    """
    v, f, uv, _, report = mesh.unwrap_uv(
        shape.vertices, shape.faces, method=method, resolution=texture_size, return_report=True
    )
    # Faces and corners come back in their order, so normals of the mesh before the cuts belong to the same corners.
    normals, same = corner_normals(shape, reference, tree, reach)
    # A vertex of a file has one normal: it is split again where its corners have several.
    corners = f.view(-1).long()
    key = corners * (3 * len(f)) + same.view(-1)
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
    rast = rast.view(-1, 4)
    covered = rast[:, 3] > 0
    texel = _in_tiles(covered, texture_size)
    seen = rast.index_select(0, texel)[None, None]
    del rast
    points = raster.interpolate(unwrapped.vertices[None].contiguous(), seen, unwrapped.faces)[0, 0]
    del seen
    names = [name for name in _DEFAULTS if name in asset.attrs]
    values = _sample(asset, names, points, reference, bvh)
    require_finite("bake", "attributes at the texels", values)  # as bytes a NaN would be a colour like any other
    known = torch.zeros_like(covered)
    known[texel] = values[:, -1] > 0.5
    widths = [_DEFAULTS[name][0] for name in names]
    image = torch.zeros(texture_size * texture_size, sum(widths), dtype=torch.uint8, device=uv.device)
    image[texel] = values[:, :-1].round_().clamp_(0, 255).to(torch.uint8)
    covered, known = (mask.view(texture_size, texture_size) for mask in (covered, known))
    image = raster.fill_gaps(image.view(texture_size, texture_size, -1), known)
    found = int(known.sum())
    if found == 0:
        raise ValueError("no texel lies near an attribute voxel: the mesh and its attributes do not belong together")
    maps = dict(zip(names, image.split(widths, 2), strict=True))
    for name, (width, default) in _DEFAULTS.items():
        if name not in maps:
            maps[name] = image.new_full((1, 1, 1), default).expand(texture_size, texture_size, width)
    facts = {
        "texels_covered": len(texel),
        "coverage": len(texel) / texture_size**2,
        "texels_without_voxel": len(texel) - found,
    }
    return Textures(**maps, covered=covered), facts


def _in_tiles(covered: torch.Tensor, side: int) -> torch.Tensor:
    """Indices of the true elements of a bool [side * side], int64, those of a tile of 4 x 8 texels one after the other:
    on a GPU such a tile is one warp's, and neighbours in space search the same branches of a tree."""
    if side % 8:
        return covered.nonzero().squeeze(1)
    tiles = covered.view(side // 4, 4, side // 8, 8).permute(0, 2, 1, 3)
    at = tiles.reshape(-1).nonzero().squeeze(1)
    tile, x, y = at // 32, at & 7, at // 8 & 3
    row = tile // (side // 8)
    return (row * 4 + y) * side + (tile - row * (side // 8)) * 8 + x


def _sample(asset: VoxelAsset, names: list[str], points: torch.Tensor, reference: Mesh, bvh: mesh.Bvh) -> torch.Tensor:
    """The attributes `names` at the points of `reference` closest to `points`, float32 [P, sum of widths + 1].

    The last column is 1 where any voxel is near, and 0 where none is: it is sampled from ones.
    """
    count = len(asset.attr_coords)
    ones = torch.ones(count, 1, device=points.device)
    table = torch.cat([*(asset.attrs[name].float() for name in names), ones], 1)
    coords = torch.cat([torch.zeros_like(asset.attr_coords[:, :1]), asset.attr_coords], 1).contiguous()
    low = torch.tensor(asset.aabb[0], device=points.device)
    size = (torch.tensor(asset.aabb[1], device=points.device) - low) / asset.grid_size
    grid = (1, asset.grid_size, asset.grid_size, asset.grid_size)
    corners = [column.contiguous() for column in reference.faces.unbind(1)]
    values = torch.empty(len(points), table.shape[1], device=points.device)
    step = _CHUNK[points.device.type]
    for start in range(0, len(points), step):
        part = points[start : start + step].contiguous()
        _, face, weights = bvh.closest_point(part)
        on_surface = torch.zeros_like(part)
        for corner, weight in zip(corners, weights.unbind(1), strict=True):
            on_surface += reference.vertices.index_select(0, corner.index_select(0, face)) * weight[:, None]
        where = ((on_surface - low) / size)[None].contiguous()
        values[start : start + step] = sparse.grid_sample_3d(table, coords, grid, where, mode="trilinear")[0]
    return values
