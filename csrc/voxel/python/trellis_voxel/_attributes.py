"""Attribute voxelisation: the material of a textured mesh in each voxel that it occupies."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from trellis_native import check

from ._grid import Aabb, Grid, GridSize
from ._library import EXTENSION, OPS
from ._materials import TexturedMesh, from_trimesh, pack
from ._memory import device_memory

ATTRIBUTES: dict[str, int] = {"base_color": 3, "metallic": 1, "roughness": 1, "emissive": 3, "alpha": 1, "normal": 3}
"""Channels of each attribute, in the order in which they are stored side by side."""

AVERAGES = ("crossing", "area")

_WIDTH = sum(ATTRIBUTES.values())


@OPS.define(
    "voxelize_attributes(Tensor vertices, Tensor faces, Tensor normals, Tensor uvs, Tensor colors, Tensor face_materials, "
    "Tensor material_factors, Tensor material_indices, Tensor texels, Tensor textures, float[] voxel_size, int[] grid_size, "
    "float mip_bias, int average) -> (Tensor, Tensor)"
)
def _voxelize(
    vertices: torch.Tensor,
    faces: torch.Tensor,
    normals: torch.Tensor,
    uvs: torch.Tensor,
    colors: torch.Tensor,
    face_materials: torch.Tensor,
    material_factors: torch.Tensor,
    material_indices: torch.Tensor,
    texels: torch.Tensor,
    textures: torch.Tensor,
    voxel_size: list[float],
    grid_size: list[int],
    mip_bias: float,
    average: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    device = vertices.device
    state, count = ctypes.c_void_p(), ctypes.c_int64()
    factors, indices, table = (t.cpu().contiguous() for t in (material_factors, material_indices, textures))
    with device_memory(device) as allocate:
        EXTENSION.call(
            "attributes_begin",
            vertices,
            faces,
            len(faces),
            normals,
            uvs,
            colors,
            face_materials,
            factors.data_ptr(),
            indices.data_ptr(),
            len(factors),
            texels,
            texels.numel(),
            table.data_ptr(),
            len(table),
            (ctypes.c_double * 3)(*voxel_size),
            (ctypes.c_int32 * 3)(*grid_size),
            mip_bias,
            average,
            allocate,
            ctypes.byref(state),
            ctypes.byref(count),
            device=device,
        )
        try:
            coords = torch.empty(count.value, 3, dtype=torch.int32, device=device)
            attributes = torch.empty(count.value, _WIDTH, dtype=torch.uint8, device=device)
            EXTENSION.call("attributes_fill", state, coords, attributes, device=device)
        finally:
            EXTENSION.call("attributes_end", state, device=device)
    return coords, attributes


@OPS.fake("voxelize_attributes")
def _(vertices: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, torch.Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    return vertices.new_empty(count, 3, dtype=torch.int32), vertices.new_empty(count, _WIDTH, dtype=torch.uint8)


def voxelize_attributes(
    scene_or_mesh: Any,
    *,
    grid_size: GridSize,
    aabb: Aabb,
    average: str = "crossing",
    mip_bias: float = 0.0,
    device: torch.device | str | None = None,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Materials of the voxels that a textured mesh occupies.

    A voxel is occupied when a triangle crosses one of the lattice edges around it, the rule of the flexible dual grid
    (Xiang et al., "Native and Compact Structured Latents for 3D Generation", 2025). Its attributes are a mean of
    filtered textures (Williams, "Pyramidal parametrics", 1983) times factors and vertex colours. Texels are used as
    stored: base colour and emission of glTF stay sRGB. On CUDA the bytes are those of the CPU; the call waits for the device.

    Args:
        scene_or_mesh: a trimesh Scene (each instance in its place) or Trimesh, or `TexturedMesh` or a sequence of those.
        grid_size: voxels along each axis, one number or three.
        aabb: ``[[x, y, z], [x, y, z]]``, the grid's box in world units. Geometry outside is cut off; exactly on a face
            of the box it counts as inside.
        average: "crossing" counts each triangle that crosses there once, sampled where the voxel's centre drops onto
            its plane over a footprint of the voxel's size; this is what the released models were trained on. "area"
            is the mean over the surface inside the voxel, each piece sampled over its own footprint: no colour bleeds
            in across texture seams, at about half as much cost again. Pieces count by their area times their alpha;
            alpha itself is the mean over each material's area, and of those the mean by what is seen: cut-out texels
            give no colour, and take nothing from an opaque surface of another material in the same voxel.
        mip_bias: added to the mip level; positive blurs.
        device: where to work and where the results are; by default where the meshes are, which for trimesh is the CPU.

    Returns:
        coords int32 [N, 3] in ascending order of x, y, z; and a dict of uint8 [N, c] with c as in `ATTRIBUTES`:
        base_color, metallic, roughness, emissive and alpha with 255 for 1, normal with 0 to 255 for -1 to 1
        (the mean of a voxel's, which "area" makes of unit length unless they cancel).

    Raises:
        TypeError: not a scene or mesh, or a tensor of another dtype.
        ValueError: positions or texture coordinates that are not finite, indices out of range, textures that cannot
            be decoded, or an empty box; the text names the argument.
        torch.OutOfMemoryError: the device has no room for the lists in between, about 300 bytes a voxel.
    """
    grid = Grid.of(grid_size, aabb)
    check.choice("average", average, AVERAGES)
    mip_bias = check.number("mip_bias", mip_bias)
    if isinstance(scene_or_mesh, TexturedMesh):
        meshes = [scene_or_mesh]
    elif isinstance(scene_or_mesh, (list, tuple)):
        meshes = list(scene_or_mesh)
    else:
        meshes = from_trimesh(scene_or_mesh)
    if meshes:
        scene = pack(meshes, None if device is None else torch.device(device))
        coords, packed = _voxelize(
            scene.vertices - scene.vertices.new_tensor(grid.aabb_min),
            scene.faces,
            scene.normals,
            scene.uvs,
            scene.colors,
            scene.face_materials,
            scene.material_factors,
            scene.material_indices,
            scene.texels,
            scene.textures,
            list(grid.voxel_size),
            list(grid.size),
            mip_bias,
            AVERAGES.index(average),
        )
    else:
        coords = torch.empty(0, 3, dtype=torch.int32, device=device)
        packed = torch.empty(0, _WIDTH, dtype=torch.uint8, device=device)
    columns = packed.split(list(ATTRIBUTES.values()), dim=1)
    return coords, {name: column.contiguous() for name, column in zip(ATTRIBUTES, columns, strict=True)}
