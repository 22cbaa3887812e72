"""Meshes, images and readers of results that the tests of attribute voxelisation share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import trimesh
from PIL import Image
from trellis_voxel import PbrMaterial, TexturedMesh
from trimesh.visual.texture import TextureVisuals

BOX = [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
Array = npt.NDArray[Any]


def f32(values: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(values), dtype=torch.float32)


def texture(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.uint8))


def quad(
    z: float = 0.53, uv_scale: float = 1.0, uv_offset: float = 0.0, material: PbrMaterial | None = None, **more: Any
) -> TexturedMesh:
    """A square across the box at height z, with u along x and v along y."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
    return TexturedMesh(
        vertices=f32(np.column_stack([corners, np.full(4, z)])),
        faces=torch.tensor([[0, 1, 2], [0, 2, 3]]),
        materials=(material or PbrMaterial(),),
        uvs=f32(corners * uv_scale + uv_offset),
        **more,
    )


def random_soup(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
    """Triangles (vertices [3 n, 3] in the unit box) and texture coordinates, neither with anything on the lattice."""
    centre = rng.uniform(0.2, 0.8, (count, 1, 3))
    return np.float32(centre + rng.uniform(-0.2, 0.2, (count, 3, 3))).reshape(-1, 3), np.float32(
        rng.uniform(-1, 2, (3 * count, 2))
    )


def soup_mesh(vertices: Array, uvs: Array | None, material: PbrMaterial, **more: Any) -> TexturedMesh:
    faces = torch.arange(len(vertices)).reshape(-1, 3)
    return TexturedMesh(f32(vertices), faces, (material,), None if uvs is None else f32(uvs), **more)


def rows(coords: torch.Tensor, values: torch.Tensor) -> dict[tuple[int, ...], list[int]]:
    return {tuple(c): v for c, v in zip(coords.tolist(), values.tolist(), strict=True)}


def only(attrs: dict[str, torch.Tensor], name: str) -> list[int]:
    """The one value that all voxels have."""
    assert len(attrs[name])
    assert (attrs[name] == attrs[name][0]).all(), attrs[name].unique(dim=0)
    value: list[int] = attrs[name][0].tolist()
    return value


def image_of(values: Any, mode: str | None = None) -> Image.Image:
    picture = Image.fromarray(np.asarray(values, dtype=np.uint8))
    return picture.convert(mode) if mode else picture


def trimesh_quad(material: Any, z: float = 0.53, **more: Any) -> trimesh.Trimesh:
    base = quad(z=z)
    return trimesh.Trimesh(
        base.vertices.numpy(),
        base.faces.numpy(),
        visual=TextureVisuals(uv=base.uvs.numpy(), material=material, **more),
        process=False,
    )
