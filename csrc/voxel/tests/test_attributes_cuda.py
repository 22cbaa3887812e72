"""Attribute voxelisation on CUDA: the voxels and the bytes of the CPU, which its own tests compare with oracles."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import trellis_voxel as tv
import trimesh
from attributes_meshes import BOX, f32, image_of, quad, random_soup, soup_mesh, texture, trimesh_quad
from trellis_native.testing import bits
from trellis_voxel import PbrMaterial, TexturedMesh

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


AVERAGES = ["crossing", "area"]


def images(seed: int, height: int, width: int) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {k: texture(rng.integers(0, 256, (height, width, 4 if k.startswith("base") else 3))) for k in (
        "base_color_texture", "metallic_roughness_texture", "emissive_texture", "normal_texture")}  # fmt: skip


def textured_soup(count: int = 200, reach: float = 1.0, **material: Any) -> TexturedMesh:
    rng = np.random.default_rng(count)
    vertices, uvs = random_soup(rng, count)
    vertices[:, :2] = (vertices[:, :2] - 0.5) * np.float32(reach) + 0.5
    return soup_mesh(vertices, uvs, PbrMaterial(**{**images(count, 131, 67), **material}))


def several_materials() -> list[TexturedMesh]:
    """Instances with and without textures, colours and normals, and a mesh of two materials."""
    rng = np.random.default_rng(3)
    first, uvs = random_soup(rng, 60)
    second, _ = random_soup(rng, 40)
    two = (
        PbrMaterial(**images(1, 64, 32), alpha_mode="MASK", alpha_cutoff=0.4, normal_scale=0.7),
        PbrMaterial(base_color_factor=(0.2, 0.4, 0.6, 0.5), alpha_mode="BLEND", metallic_factor=0.3),
    )
    faces = torch.arange(180).reshape(-1, 3)
    return [
        TexturedMesh(f32(first), faces, two, f32(uvs), face_materials=torch.arange(60) % 2),
        TexturedMesh(
            f32(second), torch.arange(120).reshape(-1, 3), colors=torch.rand(120, 4), normals=torch.randn(120, 3)
        ),
        quad(z=0.25, material=two[0]),
    ]


def on_the_lattice() -> TexturedMesh:
    """A box whose faces are the grid's own border, so that every side lies in a lattice plane."""
    box = trimesh.creation.box(bounds=BOX)
    soup = f32(box.vertices[box.faces].reshape(-1, 3))
    return TexturedMesh(
        soup, torch.arange(36).reshape(-1, 3), (PbrMaterial(**images(5, 33, 33)),), soup[:, :2] * 3 + soup[:, 2:]
    )


def degenerate() -> TexturedMesh:
    mesh = textured_soup(50)
    faces = torch.cat([torch.tensor([[0, 0, 1], [3, 3, 3]]), mesh.faces, mesh.faces[:20], mesh.faces[10:30].flip(1)])
    uvs = mesh.uvs.clone()
    uvs[:30] = 0.25  # triangles without area in the texture
    return TexturedMesh(mesh.vertices, faces, mesh.materials, uvs)


MESHES: dict[str, tuple[Callable[[], Any], list[Any]]] = {
    "soup": (textured_soup, [48, 1, 17, (5, 64, 30)]),
    "small triangles": (lambda: textured_soup(3000, 0.3), [8, 200]),
    "larger than the box": (lambda: textured_soup(30, 8.0), [40]),
    "of 1e6 boxes": (lambda: textured_soup(30, 1e6), [8]),
    "of 1e30 boxes": (lambda: textured_soup(30, 1e30), [8]),
    "nearest texels": (lambda: textured_soup(100, filter="nearest", wrap=("clamp", "mirror")), [48]),
    "clamped": (lambda: textured_soup(100, wrap=("clamp", "clamp")), [48]),
    "mirrored and masked": (lambda: textured_soup(100, wrap=("mirror", "repeat"), alpha_mode="MASK"), [48]),
    "small, several materials": (several_materials, [48]),
    "on the lattice": (on_the_lattice, [8, 7, (3, 8, 16)]),
    "small, degenerate": (degenerate, [40]),
    "small, one face": (lambda: textured_soup(1), [32]),
    "fine texels": (lambda: quad(material=PbrMaterial(**images(7, 1024, 1024))), [16]),
    "small, one texel": (lambda: quad(material=PbrMaterial(**images(8, 1, 1))), [16]),
    "plain": (lambda: quad(), [65536 // 128]),
    "small, no face": (lambda: TexturedMesh(torch.rand(3, 3), torch.empty(0, 3, dtype=torch.int64)), [8]),
}


def moved(mesh: Any, device: str) -> Any:
    if isinstance(mesh, list):
        return [moved(m, device) for m in mesh]
    fields = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in vars(mesh).items()}
    return TexturedMesh(**fields)


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("name", MESHES)
def test_bytes_are_those_of_the_cpu(name: str, average: str) -> None:
    make, sizes = MESHES[name]
    mesh = make()
    for size in sizes:
        expected = tv.voxelize_attributes(mesh, grid_size=size, aabb=BOX, average=average)
        got = tv.voxelize_attributes(moved(mesh, "cuda"), grid_size=size, aabb=BOX, average=average)
        assert got[0].is_cuda
        assert bits(got) == bits(expected)


@pytest.mark.parametrize("average", AVERAGES)
def test_a_large_grid(average: str) -> None:
    """More pieces than a launch has threads, over a texture of many levels, blurred."""
    ball = trimesh.creation.icosphere(subdivisions=6, radius=0.45)
    vertices = f32(ball.vertices) + 0.5
    uvs = torch.stack([vertices[:, 0] * 2, vertices[:, 1] + vertices[:, 2]], 1)
    mesh = TexturedMesh(vertices, torch.from_numpy(ball.faces), (PbrMaterial(**images(2, 1000, 600)),), uvs)
    expected = tv.voxelize_attributes(mesh, grid_size=512, aabb=BOX, average=average, mip_bias=0.5)
    got = tv.voxelize_attributes(mesh, grid_size=512, aabb=BOX, average=average, mip_bias=0.5, device="cuda")
    assert len(expected[0]) > 500_000
    assert bits(got) == bits(expected)


@pytest.mark.parametrize("average", AVERAGES)
def test_repeats_have_the_same_bits_on_any_stream(average: str) -> None:
    mesh = moved(textured_soup(), "cuda")
    first = bits(tv.voxelize_attributes(mesh, grid_size=64, aabb=BOX, average=average))
    stream = torch.cuda.Stream()
    for _ in range(3):
        with torch.cuda.stream(stream):
            again = tv.voxelize_attributes(mesh, grid_size=64, aabb=BOX, average=average)
        stream.synchronize()
        assert bits(again) == first


def test_trimesh_is_voxelised_on_the_device_that_is_named() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3))
    mesh = trimesh_quad(trimesh.visual.material.PBRMaterial(baseColorTexture=image_of(pixels)))
    expected = tv.voxelize_attributes(mesh, grid_size=16, aabb=BOX)
    got = tv.voxelize_attributes(mesh, grid_size=16, aabb=BOX, device="cuda")
    assert {t.device.type for t in (got[0], *got[1].values())} == {"cuda"}
    assert bits(got) == bits(expected)
    assert tv.voxelize_attributes([], grid_size=16, aabb=BOX, device="cuda")[0].is_cuda
