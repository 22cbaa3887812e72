"""Attribute voxelisation: factors, textures, alpha, colours and normals of materials in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import trellis_voxel as tv
import trimesh
from attributes_meshes import BOX, f32, only, quad, rows, texture
from trellis_voxel import PbrMaterial, TexturedMesh

Array = npt.NDArray[Any]


def test_factors_and_textures_multiply() -> None:
    image = texture(np.full((2, 2, 4), [200, 100, 50, 128]))
    material = PbrMaterial(
        base_color_factor=(0.5, 1.0, 0.0, 0.5),
        metallic_factor=0.5,
        roughness_factor=0.25,
        emissive_factor=(1.0, 0.5, 3.0),
        base_color_texture=image,
        metallic_roughness_texture=image,
        emissive_texture=image,
        alpha_mode="BLEND",
    )
    _, attrs = tv.voxelize_attributes(quad(material=material), grid_size=4, aabb=BOX)
    assert only(attrs, "base_color") == [100, 100, 0]
    assert only(attrs, "alpha") == [64]
    assert (only(attrs, "metallic"), only(attrs, "roughness")) == ([25], [25])
    assert only(attrs, "emissive") == [200, 50, 150]
    bright = PbrMaterial(emissive_factor=(0.5, 7.0, 1.0))
    assert only(tv.voxelize_attributes(quad(material=bright), grid_size=4, aabb=BOX)[1], "emissive") == [128, 255, 255]


@pytest.mark.parametrize(
    ("mode", "alpha", "cutoff", "expected"),
    [
        ("OPAQUE", 10, 0.5, 255),
        ("BLEND", 10, 0.5, 10),
        ("MASK", 127, 0.5, 0),
        ("MASK", 128, 0.5, 255),
        ("MASK", 60, 0.2, 255),
    ],
)
def test_alpha_modes(mode: str, alpha: int, cutoff: float, expected: int) -> None:
    image = texture(np.full((2, 2, 4), [9, 9, 9, alpha]))
    material = PbrMaterial(base_color_texture=image, alpha_mode=mode, alpha_cutoff=cutoff)
    _, attrs = tv.voxelize_attributes(quad(material=material), grid_size=4, aabb=BOX)
    assert only(attrs, "alpha") == [expected]


def test_alpha_at_the_cutoff_is_opaque() -> None:
    material = PbrMaterial(base_color_factor=(1.0, 1.0, 1.0, 0.5), alpha_mode="MASK", alpha_cutoff=0.5)
    assert only(tv.voxelize_attributes(quad(material=material), grid_size=4, aabb=BOX)[1], "alpha") == [255]


def test_vertex_colors_are_interpolated_and_multiplied() -> None:
    colors = f32(
        [[1, 0, 0, 0.5], [0, 0, 0, 0.5], [0, 0, 1, 0.5], [1, 0, 1, 0.5]]
    )  # red falls along x, blue grows along y
    material = PbrMaterial(base_color_factor=(0.5, 1.0, 1.0, 1.0), alpha_mode="BLEND")
    _, attrs = tv.voxelize_attributes(quad(material=material, colors=colors), grid_size=8, aabb=BOX)
    image, x = attrs["base_color"].reshape(8, 8, 3).float(), (torch.arange(8) + 0.5) / 8
    assert (image[..., 0] - (1 - x[:, None]) * 127.5).abs().max() <= 1
    assert (image[..., 2] - x[None, :] * 255).abs().max() <= 1
    assert only(attrs, "alpha") == [128]


def test_normals() -> None:
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.4)
    mesh = TexturedMesh(f32(sphere.vertices + 0.5), torch.tensor(sphere.faces), normals=f32(sphere.vertex_normals))
    for average in ("crossing", "area"):
        coords, attrs = tv.voxelize_attributes(mesh, grid_size=24, aabb=BOX, average=average)
        n = attrs["normal"].double() / 127.5 - 1
        assert (n.norm(dim=1) - 1).abs().max() < 0.01
        radial = torch.nn.functional.normalize((coords.double() + 0.5) / 24 - 0.5, dim=1)
        assert (n * radial).sum(1).min() > 0.98
    one = quad()
    across = [TexturedMesh(one.vertices, one.faces, normals=f32([n] * 4)) for n in ([1, 0, 0], [0, 1, 0])]
    # Normals that differ: as long as their mean is where crossings count, a direction where surface does.
    for average, expected in (("crossing", [191, 191, 128]), ("area", [218, 218, 128])):
        assert only(tv.voxelize_attributes(across, grid_size=4, aabb=BOX, average=average)[1], "normal") == expected
    # Without vertex normals those of the faces; two faces back to back cancel.
    assert only(tv.voxelize_attributes(one, grid_size=4, aabb=BOX)[1], "normal") == [128, 128, 255]
    both = TexturedMesh(one.vertices, torch.cat([one.faces, one.faces.flip(1)]))
    assert only(tv.voxelize_attributes(both, grid_size=4, aabb=BOX)[1], "normal") == [128, 128, 128]


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_normal_map_bends_along_u_and_v(mirrored: bool, scale: float) -> None:
    texel = np.array([0.6, 0.0, 0.8]) * 127.5 + 127.5
    image = texture(np.broadcast_to(np.round(texel), (2, 2, 3)))
    base = quad(material=PbrMaterial(normal_texture=image, normal_scale=scale))
    uvs = base.uvs if not mirrored else base.uvs * torch.tensor([-1.0, 1.0])
    mesh = TexturedMesh(base.vertices, base.faces, base.materials, uvs)
    _, attrs = tv.voxelize_attributes(mesh, grid_size=4, aabb=BOX)
    expected = np.array([0.6 * scale * (-1 if mirrored else 1), 0.0, 0.8])
    expected /= np.linalg.norm(expected)
    assert only(attrs, "normal") == pytest.approx(expected * 127.5 + 127.5, abs=2)


def test_faces_with_their_own_material() -> None:
    base = quad()
    materials = [PbrMaterial(metallic_factor=1.0), PbrMaterial(metallic_factor=0.0)]
    mesh = TexturedMesh(base.vertices, base.faces, materials, face_materials=torch.tensor([1, 0], dtype=torch.int32))
    coords, attrs = tv.voxelize_attributes(mesh, grid_size=8, aabb=BOX)
    metallic = rows(coords, attrs["metallic"])
    assert metallic[6, 1, 4] == [0] and metallic[1, 6, 4] == [255]


def test_textures_without_texture_coordinates_are_not_read() -> None:
    image = texture(np.zeros((2, 2, 3)))
    base = quad(
        material=PbrMaterial(base_color_factor=(0.2, 0.4, 0.6, 1.0), base_color_texture=image, normal_texture=image)
    )
    mesh = TexturedMesh(base.vertices, base.faces, base.materials)
    assert only(tv.voxelize_attributes(mesh, grid_size=4, aabb=BOX)[1], "base_color") == [51, 102, 153]


def test_one_texture_in_many_materials_is_stored_once() -> None:
    from trellis_voxel._materials import pack

    image = texture(np.zeros((8, 8, 3)))
    scene = pack([quad(material=PbrMaterial(base_color_texture=image, roughness_factor=r)) for r in (0.1, 0.2)])
    assert len(scene.textures) == 1 and scene.texels.numel() == 8 * 8 * 4
    assert scene.face_materials.tolist() == [0, 0, 1, 1]
    assert scene.faces.max() == 7


def crossing_sheets(shown: PbrMaterial, hidden: PbrMaterial) -> list[TexturedMesh]:
    """A level sheet of one material, and across it through all of its middle row of voxels an upright one of another."""
    level = quad(material=shown)
    corners = [[0.5, 0.0, 0.0], [0.5, 1.0, 0.0], [0.5, 1.0, 1.0], [0.5, 0.0, 1.0]]
    upright = TexturedMesh(f32(corners), torch.tensor([[0, 1, 2], [0, 2, 3]]), [hidden], normals=None)
    return [level, upright]


@pytest.mark.parametrize("mode", ["MASK", "BLEND"])
def test_what_is_cut_out_takes_nothing_from_what_it_crosses(mode: str) -> None:
    """A card of leaves, cut out where it goes through the trunk, neither holes the trunk nor colours it."""
    trunk = PbrMaterial(base_color_factor=(0.4, 0.2, 0.0, 1.0), metallic_factor=0.0, roughness_factor=0.8)
    leaves = PbrMaterial(base_color_factor=(0.0, 1.0, 0.0, 0.0), metallic_factor=1.0, alpha_mode=mode)
    coords, attrs = tv.voxelize_attributes(crossing_sheets(trunk, leaves), grid_size=9, aabb=BOX, average="area")
    alone = tv.voxelize_attributes(crossing_sheets(trunk, leaves)[:1], grid_size=9, aabb=BOX, average="area")
    level = set(map(tuple, alone[0].tolist()))
    inside = torch.tensor([tuple(c) in level for c in coords.tolist()])
    middle = inside & (coords[:, 0] == 4)
    assert middle.sum() == 9 and inside.sum() == 81
    assert attrs["alpha"][inside].min() == 255
    assert (attrs["base_color"][inside].int() - torch.tensor([102, 51, 0])).abs().max() <= 1
    assert attrs["metallic"][inside].max() == 0
    # Where nothing else is, a card has the colour that it hides.
    assert attrs["alpha"][~inside].max() == 0 and attrs["base_color"][~inside].tolist()[0] == [0, 255, 0]


def test_the_rim_of_a_cut_out_stays_where_it_is() -> None:
    """Of one material alpha is the plain mean over the area: three quarters of a voxel shown are three quarters."""
    image = np.full((180, 180, 4), 255, np.uint8)
    image[:, :95, 0], image[:, 95:, 3] = 60, 0
    material = PbrMaterial(base_color_texture=texture(image), alpha_mode="MASK", filter="nearest")
    coords, attrs = tv.voxelize_attributes(quad(material=material), grid_size=9, aabb=BOX, average="area")
    middle = coords[:, 0] == 4
    assert attrs["alpha"][middle].float().median() == 191
    assert (attrs["base_color"][middle][:, 0].int() - 60).abs().max() <= 1  # nothing of the 255 that is hidden
