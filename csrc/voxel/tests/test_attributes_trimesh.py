"""Attribute voxelisation of what trimesh loads: materials, colours, scenes and files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import trellis_voxel as tv
import trimesh
from attributes_meshes import BOX, image_of, only, quad, rows, texture, trimesh_quad
from PIL import Image
from trellis_voxel import PbrMaterial
from trimesh.visual.material import MultiMaterial, PBRMaterial, SimpleMaterial


def test_trimesh_pbr_material_equals_the_plain_form() -> None:
    rng = np.random.default_rng(5)
    color, rough, normal = (rng.integers(0, 256, (16, 16, c)).astype(np.uint8) for c in (4, 3, 3))
    mesh = trimesh_quad(
        PBRMaterial(
            baseColorFactor=[255, 128, 64, 255],
            baseColorTexture=image_of(color),
            metallicRoughnessTexture=image_of(rough),
            normalTexture=image_of(normal),
            emissiveFactor=[0.5, 0.5, 0.5],
            emissiveTexture=image_of(rough),
            metallicFactor=0.5,
            alphaMode="BLEND",
        )
    )
    plain = quad(
        material=PbrMaterial(
            base_color_factor=(1.0, 128 / 255, 64 / 255, 1.0),
            base_color_texture=texture(color),
            metallic_roughness_texture=texture(rough),
            normal_texture=texture(normal),
            emissive_factor=(0.5, 0.5, 0.5),
            emissive_texture=texture(rough),
            metallic_factor=0.5,
            alpha_mode="BLEND",
        )
    )
    a = tv.voxelize_attributes(mesh, grid_size=8, aabb=BOX)
    b = tv.voxelize_attributes(plain, grid_size=8, aabb=BOX)
    assert torch.equal(a[0], b[0]) and all(torch.equal(a[1][k], b[1][k]) for k in tv.ATTRIBUTES)


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "RGBA", "I;16"])
def test_images_of_every_mode(mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.full((2, 2), 90 * 256 + 17, dtype=np.uint16))
        assert picture.mode == "I;16"
    else:
        picture = image_of(np.full((2, 2, 3), 90))
        picture = picture.quantize(2) if mode == "P" else picture.convert(mode)
    _, attrs = tv.voxelize_attributes(trimesh_quad(PBRMaterial(baseColorTexture=picture)), grid_size=4, aabb=BOX)
    assert only(attrs, "base_color") == [90, 90, 90]


def test_material_with_nothing_set_has_the_defaults_of_gltf() -> None:
    _, attrs = tv.voxelize_attributes(trimesh_quad(PBRMaterial()), grid_size=4, aabb=BOX)
    assert {k: only(attrs, k) for k in ("base_color", "metallic", "roughness", "emissive", "alpha")} == {
        "base_color": [255] * 3, "metallic": [255], "roughness": [255], "emissive": [0] * 3, "alpha": [255],
    }  # fmt: skip


def test_simple_material_becomes_a_dielectric() -> None:
    picture = image_of(np.full((2, 2, 3), [10, 20, 30]))
    _, attrs = tv.voxelize_attributes(trimesh_quad(SimpleMaterial(image=picture)), grid_size=4, aabb=BOX)
    assert only(attrs, "base_color") == [10, 20, 30] and only(attrs, "metallic") == [0]
    _, attrs = tv.voxelize_attributes(
        trimesh_quad(SimpleMaterial(diffuse=[200, 100, 50, 255], glossiness=0)), grid_size=4, aabb=BOX
    )
    assert only(attrs, "base_color") == [200, 100, 50] and only(attrs, "roughness") == [255]
    tinted = SimpleMaterial(image=picture, diffuse=[255, 51, 255, 255], glossiness=30)
    _, attrs = tv.voxelize_attributes(trimesh_quad(tinted), grid_size=4, aabb=BOX)
    assert only(attrs, "base_color") == [10, 4, 30] and only(attrs, "roughness") == [128]


def test_multi_material() -> None:
    red, blue = (PBRMaterial(baseColorFactor=c) for c in ([255, 0, 0, 255], [0, 0, 255, 255]))
    mesh = trimesh_quad(MultiMaterial([red, blue]), face_materials=[1, 0])
    coords, attrs = tv.voxelize_attributes(mesh, grid_size=8, aabb=BOX)
    color = rows(coords, attrs["base_color"])
    assert color[6, 1, 4] == [0, 0, 255] and color[1, 6, 4] == [255, 0, 0]


def test_trimesh_vertex_and_face_colors() -> None:
    mesh = trimesh.creation.box(bounds=[[0.1] * 3, [0.9] * 3])
    mesh.visual.vertex_colors = np.tile([10, 20, 30, 255], (8, 1))
    _, attrs = tv.voxelize_attributes(mesh, grid_size=8, aabb=BOX)
    assert (
        only(attrs, "base_color") == [10, 20, 30] and only(attrs, "metallic") == [0] and only(attrs, "alpha") == [255]
    )
    mesh = trimesh.creation.box(bounds=[[0.1] * 3, [0.9] * 3])
    mesh.visual.face_colors = np.where(mesh.face_normals[:, 2:] > 0.5, [255, 0, 0, 255], [0, 255, 0, 100]).astype(
        np.uint8
    )
    coords, attrs = tv.voxelize_attributes(mesh, grid_size=8, aabb=BOX)
    color = rows(coords, torch.cat([attrs["base_color"], attrs["alpha"]], dim=1))
    assert color[4, 4, 7] == [255, 0, 0, 255] and color[4, 4, 0] == [0, 255, 0, 100]
    textured = trimesh_quad(PBRMaterial(baseColorFactor=[255, 255, 255, 255]))
    textured.visual.vertex_attributes["color"] = np.tile(np.float32([0.2, 0.4, 0.6]), (4, 1))
    assert only(tv.voxelize_attributes(textured, grid_size=4, aabb=BOX)[1], "base_color") == [51, 102, 153]


def test_scene_of_instances_with_transforms() -> None:
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box(bounds=[[0.05] * 3, [0.2] * 3]), node_name="a", geom_name="box")
    turned = trimesh.transformations.rotation_matrix(np.pi / 2, [0, 0, 1], [0.5, 0.5, 0.5])
    scene.graph.update(frame_to="b", geometry="box", matrix=turned)
    mirrored = np.diag([1.0, 1.0, -1.0, 1.0])
    mirrored[2, 3] = 1.0
    scene.graph.update(frame_to="c", geometry="box", matrix=mirrored)
    scene.add_geometry(trimesh.load_path(np.array([[[0, 0, 0], [1, 1, 1]]])))
    coords, attrs = tv.voxelize_attributes(scene, grid_size=16, aabb=BOX)
    parts = []
    for matrix in (np.eye(4), turned, mirrored):
        mesh = trimesh.creation.box(bounds=[[0.05] * 3, [0.2] * 3])
        mesh.apply_transform(matrix)
        parts.append(tv.voxelize_attributes(mesh, grid_size=16, aabb=BOX))
    expected = {k: v for c, a in parts for k, v in rows(c, a["normal"]).items()}
    got = rows(coords, attrs["normal"])
    assert set(got) == set(expected)
    assert all(np.abs(np.subtract(got[k], v)).max() <= 1 for k, v in expected.items())


def test_glb_file(tmp_path: Any) -> None:
    rng = np.random.default_rng(6)
    picture = rng.integers(0, 256, (32, 16, 3)).astype(np.uint8)
    mesh = trimesh_quad(PBRMaterial(baseColorTexture=image_of(picture), metallicFactor=0.25, roughnessFactor=0.75))
    path = tmp_path / "quad.glb"
    path.write_bytes(
        trimesh.Scene([mesh, trimesh_quad(PBRMaterial(baseColorFactor=[255, 0, 0, 255]), z=0.2)]).export(
            file_type="glb"
        )
    )
    coords, attrs = tv.voxelize_attributes(trimesh.load(path), grid_size=16, aabb=BOX)
    plain = quad(material=PbrMaterial(base_color_texture=texture(picture), metallic_factor=0.25, roughness_factor=0.75))
    coords2, attrs2 = tv.voxelize_attributes(plain, grid_size=16, aabb=BOX)
    upper = coords[:, 2] == 8
    assert torch.equal(coords[upper], coords2)
    assert all(
        torch.equal(attrs[k][upper], attrs2[k]) for k in ("base_color", "metallic", "roughness", "alpha", "normal")
    )
    assert attrs["base_color"][~upper].unique(dim=0).tolist() == [[255, 0, 0]]
