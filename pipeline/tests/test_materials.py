"""Materials of a source as the voxeliser reads them: what glTF says of factors, colours and where textures are looked up."""

import numpy as np
import pytest
import trellis_voxel as voxel
from trellis_pipeline.export.materials import linear_to_srgb, srgb_to_linear, textured
from trellis_regression.scene import Material, Part, Texture

BOX = [[0.0, 0, 0], [1, 1, 1]]
GRID = 8


def picture(*texels, alpha=255):
    """One row of texels [1, N, 4]."""
    rows = [[*texel, alpha] if len(texel) == 3 else texel for texel in texels]
    return np.array([rows], np.uint8)


def looked_up(image, uv_set=0, scale=(1, 1), offset=(0, 0), wrap=("repeat", "repeat")):
    transform = np.array([[scale[0], 0, offset[0]], [0, scale[1], offset[1]]], np.float64)
    return Texture(image, wrap, uv_set, transform)


def sheet(material, colors=None, uvs=None):
    """A level square, u along x and v along y."""
    corners = np.array([[0, 0, 0.51], [1, 0, 0.51], [1, 1, 0.51], [0, 1, 0.51]], np.float32)
    return Part(
        corners, np.tile(np.float32([0, 0, 1]), (4, 1)), np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        {0: corners[:, :2]} if uvs is None else uvs, colors, material,
    )  # fmt: skip


def seen(*parts):
    """The attributes by name, and the columns [N] that voxels are in."""
    attrs, coords = {}, None
    for meshes, names in textured(parts):
        coords, found = voxel.voxelize_attributes(meshes, grid_size=GRID, aabb=BOX, average="area")
        attrs |= {name: found[name] for name in names}
    assert set(attrs) == {"base_color", "alpha", "metallic", "roughness", "emissive", "normal"}
    return attrs, coords[:, 0]


def colour(attrs, name="base_color"):
    values = attrs[name].unique(dim=0)
    assert len(values) == 1
    return values[0].tolist()


def test_the_transfer_function_is_that_of_the_standard():
    x = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(srgb_to_linear(linear_to_srgb(x)), x, atol=1e-12)
    assert linear_to_srgb(np.array([0.5]))[0] == pytest.approx(0.735357, abs=1e-6)
    assert linear_to_srgb(np.array([-1.0, 0.0, 2.0])).tolist() == [0, 0, pytest.approx(1)]


def test_a_factor_is_linear_and_what_it_gives_is_encoded():
    """0.5 of the light is 188 of 255, not 128: a model without textures came out a third as bright."""
    attrs, _ = seen(
        sheet(Material(base_color=(0.5, 0.0, 1.0, 1.0), metallic=0.5, roughness=0.25, emissive=(0.5, 0, 3)))
    )
    assert colour(attrs) == [188, 0, 255]
    assert colour(attrs, "emissive") == [188, 0, 255]
    assert (colour(attrs, "metallic"), colour(attrs, "roughness")) == ([128], [64])  # these are not encoded


def test_a_factor_dims_a_texture_s_light():
    grey = looked_up(picture((128, 200, 255)))
    material = Material(
        base_color=(0.5, 1, 0.25, 1),
        emissive=(0.5, 1, 0.25),
        textures={"baseColorTexture": grey, "emissiveTexture": grey},
    )
    attrs, _ = seen(sheet(material))
    assert colour(attrs) == colour(attrs, "emissive") == [92, 200, 137]


def test_vertex_colours_are_linear_and_times_the_factor():
    half = np.tile(np.float32([0.5, 1, 1, 1]), (4, 1))
    assert colour(seen(sheet(Material(), colors=half))[0]) == [188, 255, 255]
    assert colour(seen(sheet(Material(base_color=(0.5, 1, 0.5, 1)), colors=half))[0]) == [137, 255, 188]


def test_a_texture_is_looked_up_where_its_transform_says():
    """The left half of the picture alone, mirrored: red at u = 1, green at u = 0."""
    image = picture((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 255))
    texture = looked_up(image.repeat(16, 1), scale=(-0.5, 1), offset=(0.5, 0))
    attrs, x = seen(sheet(Material(textures={"baseColorTexture": texture})))
    assert attrs["base_color"][x < 3].unique(dim=0).tolist() == [[0, 255, 0]]
    assert attrs["base_color"][x > 4].unique(dim=0).tolist() == [[255, 0, 0]]


def test_rows_of_a_picture_count_from_the_top():
    image = np.concatenate([picture((255, 0, 0)), picture((0, 255, 0))]).repeat(16, 0)
    meshes = seen(sheet(Material(textures={"baseColorTexture": looked_up(image)})))
    lower = voxel.voxelize_attributes(textured([sheet(Material())])[0][0], grid_size=GRID, aabb=BOX)[0][:, 1] < 3
    assert meshes[0]["base_color"][lower].unique(dim=0).tolist() == [[255, 0, 0]]  # v = 0 is the first row


def test_wrapping_is_the_texture_s_own():
    image = picture((255, 0, 0), (0, 255, 0)).repeat(16, 1)
    for wrap, beyond in (("repeat", [255, 0, 0]), ("clamp", [0, 255, 0]), ("mirror", [0, 255, 0])):
        texture = looked_up(image, scale=(2, 1), wrap=(wrap, wrap))
        attrs, x = seen(sheet(Material(textures={"baseColorTexture": texture})))
        assert attrs["base_color"][x == 5].unique(dim=0).tolist() == [beyond], wrap
        last = [255, 0, 0] if wrap == "mirror" else [0, 255, 0]
        assert attrs["base_color"][x == 6].unique(dim=0).tolist() == [last], wrap


def test_each_texture_has_its_own_coordinates():
    """Roughness by the second set, colour by the first; the other part needs no second look."""
    across, up = np.float32([[0, 0], [1, 0], [1, 1], [0, 1]]), np.float32([[1, 0], [0, 0], [0, 1], [1, 1]])
    stripes = picture((255, 0, 0), (0, 255, 0)).repeat(16, 1)
    levels = np.zeros((1, 32, 4), np.uint8)
    levels[:, :16, 1], levels[:, 16:, 1] = 200, 40
    both = sheet(
        Material(textures={"baseColorTexture": looked_up(stripes), "metallicRoughnessTexture": looked_up(levels, 1)}),
        uvs={0: across, 1: up},
    )
    assert [names for _, names in textured([both])] == [
        ("base_color", "alpha", "emissive", "normal"),
        ("metallic", "roughness"),
    ]
    attrs, x = seen(both)
    assert attrs["base_color"][x < 3].unique(dim=0).tolist() == [[255, 0, 0]]
    assert attrs["roughness"][x < 3].unique().tolist() == [40]  # mirrored
    same = sheet(Material(textures={"baseColorTexture": looked_up(stripes), "emissiveTexture": looked_up(stripes)}))
    assert len(textured([same, sheet(Material())])) == 1


def test_a_texture_without_coordinates_cannot_be_read():
    attrs, _ = seen(sheet(Material(textures={"baseColorTexture": looked_up(picture((9, 9, 9)))}), uvs={}))
    assert colour(attrs) == [255, 255, 255]


@pytest.mark.parametrize("mode", ["MASK", "BLEND"])
def test_the_colour_of_what_is_cut_out_does_not_show_at_its_rim(mode):
    """Leaves on a white sheet: where a voxel sees both, it is the leaf's colour."""
    image = np.full((256, 256, 4), (255, 255, 255, 0), np.uint8)
    image[:, 100:] = (20, 120, 30, 255)  # within the fourth of eight voxels, at any level of the pyramid
    texture = looked_up(image, wrap=("clamp", "clamp"))
    attrs, x = seen(sheet(Material(alpha_mode=mode, textures={"baseColorTexture": texture})))
    assert (attrs["base_color"].int() - attrs["base_color"].new_tensor([20, 120, 30]).int()).abs().max() <= 1
    assert attrs["alpha"][x < 2].max() == 0 and attrs["alpha"][x > 4].min() == 255
    assert attrs["alpha"][x == 3].min() > 100
