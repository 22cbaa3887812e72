"""Pictures: the right side up, the right colours, holes where faces look away, glass and cut-outs."""

import dataclasses

import numpy as np
import pytest
import torch
import trellis_shade as shade
from trellis_regression.compare import compare_pictures
from trellis_regression.glb import read_glb
from trellis_regression.render import Renderer, camera, turntable_sheet
from trellis_regression.scene import Material, Part, Texture, frame_of, load_parts


@pytest.fixture(scope="module")
def light():
    return shade.EnvironmentLight.from_latlong(torch.ones(8, 16, 3))


def quad(axis=2, at=0.0, low=(-1, -1), high=(1, 1), flip=False, **material):
    """A square facing +axis, as a part."""
    corners = np.array([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]], np.float32)
    positions = np.insert(corners, axis, at, axis=1).astype(np.float32)
    if axis == 1:  # (x, z) has the other handedness
        positions = positions[::-1].copy()
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    normal = np.zeros(3, np.float32)
    normal[axis] = -1 if flip else 1
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)  # v grows downward: the first row is on top
    made = Material(**{"base_color": (1, 1, 1, 1), "metallic": 0.0, "roughness": 1.0, **material})
    return Part(positions, np.tile(normal, (4, 1)), faces[:, ::-1].copy() if flip else faces, {0: uv}, None, made)


def base_color(parts, light, azimuth=0, elevation=0, size=48):
    return Renderer(parts, light).draw(azimuth, elevation, size, "base_color")


def middle(picture):
    size = len(picture.rgb)
    return picture.rgb[size // 2, size // 2].tolist()


def test_left_right_up_and_down_are_those_of_the_viewer(light):
    parts = [
        quad(low=(-1, -1), high=(0, 0), base_color=(1, 0, 0, 1)),  # lower left is red
        quad(low=(0, 0), high=(1, 1), base_color=(0, 1, 0, 1)),  # upper right is green
        quad(low=(-1, 0), high=(0, 1), base_color=(0, 0, 1, 1)),  # upper left is blue
    ]
    rgb = base_color(parts, light).rgb
    assert rgb[16, 32].tolist() == [0, 255, 0]
    assert rgb[32, 16].tolist() == [255, 0, 0]
    assert rgb[16, 16].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("azimuth", "elevation", "axis", "flip"),
    [(0, 0, 2, False), (90, 0, 0, False), (180, 0, 2, True), (270, 0, 0, True), (0, 90, 1, False), (0, -90, 1, True)],
)
def test_each_view_looks_from_where_it_says(light, azimuth, elevation, axis, flip):
    sides = [
        quad(a, -1.0 if f else 1.0, flip=f, base_color=(float(a == axis and f == flip), 0, 0, 1))
        for a in range(3)
        for f in (False, True)
    ]
    assert middle(base_color(sides, light, azimuth, elevation)) == [255, 0, 0]


def test_the_nearer_surface_hides_the_farther(light):
    near, far = quad(at=0.5, base_color=(1, 0, 0, 1)), quad(at=-0.5, base_color=(0, 1, 0, 1))
    assert middle(base_color([near, far], light)) == middle(base_color([far, near], light)) == [255, 0, 0]


def test_single_sided_faces_are_seen_from_the_front_only(light):
    assert base_color([quad(flip=True)], light).coverage.max() == 0
    assert base_color([quad(flip=True, double_sided=True)], light).coverage.max() == 1
    assert middle(base_color([quad(flip=True, at=0.5), quad(at=-0.5, base_color=(0, 0, 1, 1))], light)) == [0, 0, 255]


def test_texture_rows_run_downward_and_columns_rightward(light):
    image = np.zeros((2, 2, 4), np.uint8)
    image[..., 3] = 255
    image[0, 0, 0] = image[0, 1, 1] = image[1, 0, 2] = 255
    texture = Texture(image.repeat(16, 0).repeat(16, 1), ("clamp", "clamp"), 0, np.eye(2, 3))
    rgb = base_color([quad(textures={"baseColorTexture": texture})], light).rgb
    assert rgb[16, 16].tolist() == [255, 0, 0]
    assert rgb[16, 32].tolist() == [0, 255, 0]
    assert rgb[32, 16].tolist() == [0, 0, 255]
    assert rgb[32, 32].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("wrap", "expected"), [("repeat", [255, 0, 0]), ("mirror", [0, 0, 255]), ("clamp", [0, 0, 255])]
)
def test_wrap_modes(light, wrap, expected):
    """A texture red on its left and blue on its right, looked up from u = 1 to 2: its middle left shows the mode."""
    image = np.zeros((4, 64, 4), np.uint8)
    image[:, :32, 0] = image[:, 32:, 2] = image[..., 3] = 255
    moved = np.array([[1.0, 0, 1.0], [0, 1, 0]])
    texture = Texture(image, (wrap, wrap), 0, moved)
    rgb = base_color([quad(textures={"baseColorTexture": texture})], light).rgb
    assert rgb[24, 18].tolist() == expected


def test_alpha_blends_masks_and_is_ignored(light):
    behind = quad(at=-0.5, base_color=(0, 1, 0, 1))
    glass = {"at": 0.5, "base_color": (1, 0, 0, 0.5)}
    blended = middle(base_color([behind, quad(**glass, alpha_mode="BLEND")], light))
    assert blended in ([127, 127, 0], [128, 128, 0])
    assert middle(base_color([behind, quad(**glass, alpha_mode="OPAQUE")], light)) == [255, 0, 0]
    assert middle(base_color([behind, quad(**glass, alpha_mode="MASK", alpha_cutoff=0.6)], light)) == [0, 255, 0]
    assert middle(base_color([behind, quad(**glass, alpha_mode="MASK", alpha_cutoff=0.4)], light)) == [255, 0, 0]


def test_normal_pictures_show_directions(light):
    rgb = Renderer([quad()], light).draw(0, 0, 32, "normal").rgb
    assert rgb[16, 16].tolist() == [128, 128, 255]


def test_white_surface_in_white_light_is_lit_evenly(light):
    rgb = Renderer([quad()], light).draw(0, 0, 32, "shaded").rgb.float()
    inside = rgb[10:22, 10:22]
    assert float(inside.std()) < 1.0 and float(inside.mean()) > 180


def test_camera_frames_the_whole_asset():
    parts = [quad(low=(-3, 1), high=(5, 2))]
    frame = frame_of(parts)
    matrix, _ = camera(frame, 33, 21)
    corners = torch.cat([torch.from_numpy(parts[0].positions), torch.ones(4, 1)], 1) @ matrix.T
    ndc = corners[:, :3] / corners[:, 3:]
    assert bool((ndc.abs() < 1).all())
    assert float(ndc[:, :2].abs().max()) > 0.3


def test_unknown_mode_is_refused(light):
    with pytest.raises(ValueError, match="mode: expected one of shaded, base_color, normal, got 'x'"):
        Renderer([quad()], light).draw(0, 0, 8, "x")


def test_turntable_has_a_row_a_file_and_a_column_a_view(painted_box, light):
    sheet = turntable_sheet([painted_box, painted_box], light, views=3, size=40)
    assert sheet.size == (120, 80)
    pixels = np.asarray(sheet)
    np.testing.assert_array_equal(pixels[14:40], pixels[54:80])  # the same file twice; names stand above


def test_comparison_of_a_file_with_itself_is_perfect(painted_box):
    assert compare_pictures(painted_box, painted_box, size=64) == {
        "silhouette_iou": 1.0,
        "color_error": 0.0,
        "worst_tile_error": 0.0,
    }


def test_comparison_sees_missing_geometry_and_wrong_colours(painted_box, tmp_path, monkeypatch):
    """Half of the faces removed, and colours swapped: each moves its own figure."""
    (part,) = load_parts(read_glb(painted_box))
    import trellis_regression.compare as compare

    def against(changed):
        parts = iter([[part], [changed]])
        monkeypatch.setattr(compare, "load_parts", lambda glb: next(parts))
        return compare.compare_pictures(painted_box, painted_box, size=64)

    half = against(dataclasses.replace(part, faces=part.faces[part.positions[part.faces].mean(1)[:, 0] < 10]))
    assert half["silhouette_iou"] < 0.75
    assert half["color_error"] > 0.3
    texture = part.material.textures["baseColorTexture"]
    swapped = dataclasses.replace(texture, image=texture.image[..., [1, 0, 2, 3]].copy())
    colours = against(
        dataclasses.replace(part, material=dataclasses.replace(part.material, textures={"baseColorTexture": swapped}))
    )
    assert colours["silhouette_iou"] == 1.0
    assert colours["color_error"] > 0.5
