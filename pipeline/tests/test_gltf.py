"""The GLB writer on meshes made by hand: alpha, orientation, channels and refusals."""

import dataclasses
import struct
import zlib

import numpy as np
import pytest
import torch
from handmade_glb import pack, triangle
from trellis_pipeline.export import Placement, Textures, UnwrappedMesh, gltf, write_glb
from trellis_pipeline.export.alpha import choose_alpha_mode, see_through_faces
from trellis_regression.glb import read_glb
from trellis_regression.khronos import errors, validate
from trellis_regression.scene import load_parts


def square(**changes):
    """A unit square in the road's x-z plane, facing the road's -y (the viewer, in glTF)."""
    values = {
        "vertices": torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1]]),
        "faces": torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32),
        "uv": torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1]]),
        "normals": torch.tensor([[0.0, -1, 0]] * 4),
    }
    return UnwrappedMesh(**{**values, **changes})


def textures(alpha=None, emissive=0):
    size = 4
    colour = torch.zeros(size, size, 3, dtype=torch.uint8)
    colour[0, 0] = torch.tensor([255, 0, 0], dtype=torch.uint8)  # red where u and v are near 0
    full = torch.full((size, size, 1), 255, dtype=torch.uint8)
    return Textures(
        base_color=colour, metallic=full // 5, roughness=full // 3, alpha=full if alpha is None else alpha,
        emissive=torch.full((size, size, 3), emissive, dtype=torch.uint8), covered=torch.ones(size, size, dtype=torch.bool),
    )  # fmt: skip


def written(path, *arguments, **options):
    facts = write_glb(path, *arguments, **options)
    (report,) = validate(path)
    assert errors(report) == []
    (part,) = load_parts(read_glb(path))
    return facts, part


def test_road_axes_become_gltf_axes_and_placement_is_applied_after(tmp_path):
    _, part = written(tmp_path / "a.glb", square(), textures(), placement=Placement(2.0, (10.0, 20.0, 30.0)))
    np.testing.assert_allclose(part.positions, [[10, 20, 30], [12, 20, 30], [12, 22, 30], [10, 22, 30]])
    np.testing.assert_allclose(part.normals, [[0, 0, 1]] * 4, atol=1e-7)


def test_first_texture_row_is_at_v_zero(tmp_path):
    _, part = written(tmp_path / "a.glb", square(), textures())
    image = part.material.textures["baseColorTexture"].image
    assert image[0, 0].tolist() == [255, 0, 0, 255]
    assert part.uvs[0][0].tolist() == [0, 0]


def test_roughness_is_green_and_metal_is_blue(tmp_path):
    _, part = written(tmp_path / "a.glb", square(), textures())
    assert part.material.textures["metallicRoughnessTexture"].image[1, 1].tolist() == [255, 85, 51, 255]
    assert part.material.metallic == part.material.roughness == 1.0


@pytest.mark.parametrize("image_format", ["png", "webp"])
@pytest.mark.parametrize("emissive", [0, 9])
def test_emissive_appears_only_where_there_is_light(tmp_path, image_format, emissive):
    _, part = written(tmp_path / "a.glb", square(), textures(emissive=emissive), image_format=image_format)
    assert ("emissiveTexture" in part.material.textures) == (emissive > 0)
    assert part.material.emissive == ((1, 1, 1) if emissive else (0, 0, 0))


@pytest.mark.parametrize(
    ("alpha", "mode"),
    [
        (np.full(1000, 255), "OPAQUE"),
        (np.full(1000, 251), "OPAQUE"),  # what averaging leaves of an opaque surface
        (np.r_[np.full(999, 255), 0], "OPAQUE"),  # a stray texel
        (np.r_[np.full(900, 255), np.zeros(100)], "MASK"),
        (np.r_[np.full(900, 255), np.full(100, 128)], "BLEND"),
        (np.linspace(0, 255, 1000), "BLEND"),
        (np.zeros(0), "OPAQUE"),
    ],
)
def test_alpha_mode_follows_the_statistics_of_alpha(alpha, mode):
    assert choose_alpha_mode(torch.from_numpy(alpha.astype(np.uint8))) == mode


def test_alpha_is_written_with_a_mode_that_shows_it_and_dropped_with_opaque(tmp_path):
    half = torch.full((4, 4, 1), 128, dtype=torch.uint8)
    facts, part = written(tmp_path / "a.glb", square(), textures(alpha=half))
    assert facts["alpha_mode"] == part.material.alpha_mode == "BLEND"
    assert part.material.textures["baseColorTexture"].image[0, 0, 3] == 128
    for mode in ("opaque", "mask"):
        _, part = written(tmp_path / "b.glb", square(), textures(alpha=half), alpha_mode=mode)
        assert part.material.alpha_mode == mode.upper()
        assert part.material.textures["baseColorTexture"].image[0, 0, 3] == (255 if mode == "opaque" else 128)


def test_zero_normals_are_replaced_by_unit_ones(tmp_path):
    normals = torch.tensor([[0.0, 0, 0], [0, -1, 0], [0, -2, 0], [0, -1, 0]])
    _, part = written(tmp_path / "a.glb", square(normals=normals), textures())
    np.testing.assert_allclose(np.linalg.norm(part.normals, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_format": "gif"}, "image_format: expected one of png, webp, got 'gif'"),
        ({"alpha_mode": "some"}, "alpha_mode: expected one of auto, opaque, mask, blend, got 'some'"),
    ],
)
def test_unknown_options_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        write_glb(tmp_path / "a.glb", square(), textures(), **changes)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_mesh_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="an empty GLB is never written"):
        write_glb(tmp_path / "a.glb", square(faces=torch.zeros(0, 3, dtype=torch.int32)), textures())
    assert list(tmp_path.iterdir()) == []


def test_only_faces_that_let_something_through_are_blended(tmp_path):
    """A solid body drawn by blending writes no depth and shows its far side through its near one."""
    two = square(
        vertices=torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1], [2, 0, 0], [3, 0, 0], [3, 0, 1]]),
        faces=torch.tensor([[4, 5, 6], [0, 1, 2], [0, 2, 3]], dtype=torch.int32),
        uv=torch.tensor([[0.0, 0], [0.5, 0], [0.5, 1], [0, 1], [0.7, 0], [1, 0], [1, 1]]),
        normals=torch.tensor([[0.0, -1, 0]] * 7),
    )
    alpha = torch.full((16, 16, 1), 255, dtype=torch.uint8)
    alpha[:, 11:] = 90  # under the first face alone
    wide = torch.zeros(16, 16, 3, dtype=torch.uint8)
    maps = dataclasses.replace(
        textures(alpha=alpha), base_color=wide, emissive=wide, covered=alpha[..., 0] > 0,
        **{name: torch.full_like(alpha, 9) for name in ("metallic", "roughness")},
    )  # fmt: skip
    path = tmp_path / "a.glb"
    facts = write_glb(path, two, maps, blended_double_sided=False, name="jar")
    (report,) = validate(path)
    assert report["issues"]["messages"] == []
    body, glass = load_parts(read_glb(path))
    assert facts["alpha_mode"] == "BLEND" and facts["vertices"] == 7 and facts["faces"] == 3
    assert (body.material.alpha_mode, body.material.double_sided, len(body.faces)) == ("OPAQUE", True, 2)
    assert (glass.material.alpha_mode, glass.material.double_sided, len(glass.faces)) == ("BLEND", False, 1)
    np.testing.assert_allclose(glass.positions, [[2, 0, 0], [3, 0, 0], [3, 1, 0]])
    np.testing.assert_allclose(glass.uvs[0], [[0.7, 0], [1, 0], [1, 1]])
    assert sorted(body.positions[:, 0].tolist()) == [0, 0, 1, 1]
    assert {m.name for m in (body.material, glass.material)} == {"jar", "jar_blended"}


def test_a_face_between_texel_centres_is_blended_with_the_glass_around_it(tmp_path):
    """It has no texel of its own, and would be a solid speck in the pane."""
    tiny = square(uv=torch.tensor([[0.26, 0.26], [0.27, 0.26], [0.27, 0.27], [0.26, 0.27]]))
    alpha = torch.full((4, 4, 1), 255, dtype=torch.uint8)
    alpha[1, 1] = 90
    assert see_through_faces(tiny, textures(alpha=alpha)).all()
    assert not see_through_faces(tiny, textures()).any()


def test_everything_has_a_name_for_the_lists_of_editors(tmp_path):
    path = tmp_path / "a.glb"
    write_glb(path, square(), textures(emissive=3), name="Old chair")
    document = read_glb(path).document
    for kind in ("nodes", "meshes", "materials", "scenes"):
        assert [item["name"] for item in document[kind]] == ["Old chair"]
    names = ["Old chair_baseColor", "Old chair_metallicRoughness", "Old chair_emissive"]
    assert [i["name"] for i in document["images"]] == [t["name"] for t in document["textures"]] == names


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_the_validator_has_nothing_to_say_at_all(tmp_path, image_format):
    """No warnings and no hints either: artists' tools show them."""
    path = tmp_path / "a.glb"
    write_glb(path, square(), textures(emissive=3), image_format=image_format)
    (report,) = validate(path)
    assert report["issues"]["messages"] == []


def test_the_largest_textures_are_read_back(tmp_path):
    """Pillow by itself takes 16,384 texels a side for an attack."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 16_384, 16_384, 8, 2, 0, 0, 0)
    chunks = [struct.pack(">I", 13) + header, b"\0\0\0\0IDAT", b"\0\0\0\0IEND"]
    png = b"\x89PNG\r\n\x1a\n" + b"".join(c + struct.pack(">I", zlib.crc32(c[4:])) for c in chunks)
    document, binary = triangle(images=[{"bufferView": 2}])
    document["bufferViews"].append({"buffer": 0, "byteOffset": 44, "byteLength": len(png)})
    document["buffers"] = [{"byteLength": 44 + len(png)}]
    (tmp_path / "a.glb").write_bytes(pack(document, binary + png))
    gltf._read_back(tmp_path / "a.glb", 3, 1)
