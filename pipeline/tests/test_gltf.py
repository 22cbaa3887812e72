"""The GLB writer on meshes made by hand: alpha, orientation, channels and refusals."""

import numpy as np
import pytest
import torch
from trellis_pipeline.export import Placement, Textures, UnwrappedMesh, write_glb
from trellis_pipeline.export.gltf import choose_alpha_mode
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
