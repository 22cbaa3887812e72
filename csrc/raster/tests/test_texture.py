"""Texture look-ups, levels of detail and mip pyramids."""

import math

import numpy as np
import pytest
import torch
import trellis_raster as raster
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count

WRAPS = ("repeat", "clamp", "mirror", "zero")


def texel(image, row, column, wrap):
    """One texel of [H, W, C] by the definition of wrapping."""
    place = []
    for i, n in ((row, image.shape[0]), (column, image.shape[1])):
        if wrap == "repeat":
            i %= n
        elif wrap == "clamp":
            i = min(max(i, 0), n - 1)
        elif wrap == "mirror":
            i = [*range(n), *reversed(range(n))][i % (2 * n)]
        elif not 0 <= i < n:
            return np.zeros(image.shape[2])
        place.append(i)
    return image[place[0], place[1]]


def look_up(image, u, v, kind, wrap):
    """By the definition, in float64."""
    height, width, _ = image.shape
    if kind == "nearest":
        return texel(image, math.floor(v * height), math.floor(u * width), wrap)
    x, y = u * width - 0.5, v * height - 0.5
    column, row = math.floor(x), math.floor(y)
    ax, ay = x - column, y - row
    return sum(
        wx * wy * texel(image, row + dy, column + dx, wrap)
        for dy, wy in ((0, 1 - ay), (1, ay))
        for dx, wx in ((0, 1 - ax), (1, ax))
    )


def halve(row):
    """Level below a row by its definition: the piecewise constant row averaged over equal parts."""
    n, m = len(row), max(1, len(row) // 2)
    fine = np.repeat(row, m, axis=0)  # n m equal pieces
    return fine.reshape(m, n, *row.shape[1:]).mean(1)


def test_oracles_by_hand():
    image = np.array([[[0.0], [10.0]], [[20.0], [40.0]]])
    assert look_up(image, 0.5, 0.5, "linear", "clamp") == 17.5
    assert look_up(image, 0.75, 0.25, "linear", "clamp") == 10
    assert look_up(image, 1.0, 0.25, "linear", "repeat") == 5
    assert look_up(image, 1.0, 0.25, "linear", "zero") == 5
    assert look_up(image, 1.1, 0.25, "nearest", "mirror") == 10
    assert look_up(image, -0.1, 0.9, "nearest", "repeat") == 40
    np.testing.assert_allclose(halve(np.array([3.0, 6.0, 12.0])), [7])
    np.testing.assert_allclose(halve(np.array([1.0, 2, 3, 4, 5])), [(1 + 2 + 1.5) / 2.5, (1.5 + 4 + 5) / 2.5])


def test_by_hand():
    image = torch.tensor([[[[0.0], [10.0]], [[20.0], [40.0]]]])
    uv = torch.tensor([[[[0.5, 0.5], [0.75, 0.25], [1.0, 0.25]]]])
    assert raster.sample_texture(image, uv, wrap="clamp").flatten().tolist() == [17.5, 10.0, 10.0]
    assert raster.sample_texture(image, uv, wrap="repeat").flatten().tolist() == [17.5, 10.0, 5.0]


@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.parametrize("kind", ["nearest", "linear"])
@pytest.mark.parametrize(("height", "width", "channels"), [(5, 7, 3), (1, 1, 4), (4, 1, 1), (3, 8, 6)])
def test_equals_the_definition(kind, wrap, height, width, channels):
    rng = np.random.default_rng(height * width)
    image = rng.uniform(-1, 1, (2, height, width, channels)).astype(np.float32)
    uv = rng.uniform(-2.5, 3.5, (2, 6, 11, 2)).astype(np.float32)
    uv[:, 0, :4] = [[0, 0], [1, 1], [0.5, 1], [-1, 2]]
    out = raster.sample_texture(torch.from_numpy(image), torch.from_numpy(uv), filter=kind, wrap=wrap).numpy()
    for b, j, i in np.ndindex(2, 6, 11):
        expected = look_up(image[b].astype(float), float(uv[b, j, i, 0]), float(uv[b, j, i, 1]), kind, wrap)
        np.testing.assert_allclose(out[b, j, i], expected, atol=1e-6)  # float32 weights


def test_shared_texture_equals_repeated():
    image, uv = torch.rand(1, 4, 4, 3), torch.rand(3, 5, 5, 2)
    assert torch.equal(raster.sample_texture(image, uv), raster.sample_texture(image.expand(3, 4, 4, 3), uv))


@settings(deadline=None, max_examples=30)
@given(
    st.floats(width=32, allow_nan=False, allow_infinity=False),
    st.sampled_from(WRAPS),
    st.sampled_from(["nearest", "linear", "mip"]),
)
def test_any_coordinate_gives_a_value_of_the_image(u, wrap, kind):
    image = torch.tensor([1.0, 2.0, 3.0]).view(1, 1, 3, 1)
    out = raster.sample_texture(image, torch.tensor([u, 0.5]).view(1, 1, 1, 2), filter=kind, wrap=wrap).item()
    assert (0.0 if wrap == "zero" else 1.0 - 1e-6) <= out <= 3.0 + 1e-6


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_coordinates_that_are_not_finite_give_zero(bad):
    uv = torch.tensor([[bad, 0.5], [0.5, bad], [0.5, 0.5]]).view(1, 1, 3, 2)
    for kind in ("nearest", "linear", "mip"):
        assert raster.sample_texture(torch.ones(1, 2, 2, 1), uv, filter=kind).flatten().tolist() == [0, 0, 1]


# ---- pyramids ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 8), (7, 3), (1, 6), (1, 1), (13, 1), (31, 17)])
def test_pyramid_equals_area_averages(height, width):
    image = torch.rand(2, height, width, 3)
    pyramid = raster.build_mips(image)
    assert pyramid.levels == 1 + int(math.log2(max(height, width)))
    level = image.double().numpy()
    for index in range(pyramid.levels):
        np.testing.assert_allclose(pyramid.level(index).numpy(), level, atol=1e-6)
        assert pyramid.level(index).mean().item() == pytest.approx(image.mean().item(), abs=1e-6)
        level = np.stack([halve(halve(one).swapaxes(0, 1)).swapaxes(0, 1) for one in level])
    assert pyramid.level(pyramid.levels - 1).shape == (2, 1, 1, 3)


def test_explicit_levels_are_blended():
    image = torch.rand(1, 8, 16, 2)
    pyramid = raster.build_mips(image)
    uv = torch.rand(1, 6, 6, 2)
    for lod, expected in (
        (0.0, raster.sample_texture(image, uv)),
        (-3.0, raster.sample_texture(image, uv)),
        (1.0, raster.sample_texture(pyramid.level(1), uv)),
        (1.25, raster.sample_texture(pyramid.level(1), uv) * 0.75 + raster.sample_texture(pyramid.level(2), uv) * 0.25),
        (99.0, raster.sample_texture(pyramid.level(4), uv)),
    ):
        out = raster.sample_texture(pyramid, uv, filter="mip", lod=lod)
        torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)
        each = raster.sample_texture(image, uv, filter="mip", lod=torch.full((1, 6, 6), lod))
        assert torch.equal(each, out)
    assert torch.equal(
        raster.sample_texture(pyramid, uv, filter="mip", lod=torch.full((1, 6, 6), math.nan)),
        raster.sample_texture(image, uv),
    )


def test_level_of_a_linear_map():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(8.0), indexing="ij")
    # A pixel step moves 4 texels across and (3, 4) texels down: log2 of the longer, 5.
    uv = torch.stack([x * 4 / 64 + y * 3 / 64, y * 4 / 32], -1)[None]
    torch.testing.assert_close(raster.uv_lod(uv, (32, 64)), torch.full((1, 6, 8), math.log2(5)), atol=1e-5, rtol=0)
    assert (raster.uv_lod(uv / 100, (32, 64)) == 0).all()  # magnified
    assert (raster.uv_lod(torch.rand(2, 1, 1, 2), (32, 64)) == 0).all()  # no neighbours


def test_jumps_between_charts_do_not_blur():
    x = torch.arange(8.0).expand(4, 8)
    uv = torch.stack([x * 2 / 64, torch.zeros(4, 8)], -1)[None].clone()
    uv[:, :, 4:] += 0.5  # another chart
    torch.testing.assert_close(raster.uv_lod(uv, (64, 64)), torch.ones(1, 4, 8), atol=1e-5, rtol=0)
    uv[0, 1, 6] = math.nan
    assert torch.isfinite(raster.uv_lod(uv, (64, 64))).all()


def test_minified_checkerboard_is_grey():
    board = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(64, 64).view(1, 128, 128, 1)
    y, x = torch.meshgrid((torch.arange(16) + 0.5) / 16, (torch.arange(16) + 0.5) / 16, indexing="ij")
    uv = torch.stack([x, y], -1)[None] + 1 / 300
    torch.testing.assert_close(raster.sample_texture(board, uv, filter="mip"), torch.full((1, 16, 16, 1), 0.5))
    assert (raster.sample_texture(board, uv, filter="nearest") != 0.5).all()


def test_empty_inputs():
    assert raster.sample_texture(torch.rand(1, 2, 2, 3), torch.zeros(0, 4, 4, 2)).shape == (0, 4, 4, 3)
    assert raster.sample_texture(torch.rand(1, 2, 2, 0), torch.zeros(1, 4, 4, 2), filter="mip").shape == (1, 4, 4, 0)


def test_same_bits_for_any_thread_count():
    image, uv = torch.rand(1, 70, 90, 3), torch.rand(2, 150, 90, 2) * 4 - 2
    assert_same_bits_for_any_thread_count(raster.EXTENSION, lambda: raster.sample_texture(image, uv, filter="mip"))


# ---- arguments -----------------------------------------------------------------------------------------------------

IMAGE, UV = torch.zeros(1, 4, 6, 3), torch.zeros(2, 5, 5, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((IMAGE, UV), {"filter": "cubic"}, ValueError, "filter: expected 'nearest', 'linear' or 'mip', got 'cubic'"),
        ((IMAGE, UV), {"wrap": "border"}, ValueError, "wrap: expected 'repeat', 'clamp', 'mirror' or 'zero'"),
        ((IMAGE.byte(), UV), {}, TypeError, "image: expected dtype float32, got uint8"),
        ((IMAGE[0], UV), {}, ValueError, r"image: expected shape \[B, H, W, C\]"),
        ((IMAGE[:, :0], UV), {}, ValueError, r"image: expected sides in \[1, 32768\], got 0 x 6"),
        ((IMAGE.clone().requires_grad_(), UV), {}, ValueError, "image: requires a gradient"),
        ((IMAGE, UV.clone().requires_grad_()), {}, ValueError, "image, uv: one requires a gradient"),
        ((IMAGE, UV[..., :1]), {}, ValueError, r"uv: expected shape \[B, H, W, 2\]|uv: expected shape"),
        ((IMAGE, UV.double()), {}, TypeError, "uv: expected dtype float32"),
        ((IMAGE.to("meta"), UV), {}, ValueError, "image: expected a tensor on cpu"),
        ((IMAGE.expand(3, 4, 6, 3), UV), {}, ValueError, "image: expected a batch of 1 or 2 like uv, got 3"),
        ((IMAGE, UV), {"lod": 1.0}, ValueError, "lod: expected None with filter 'linear'"),
        ((IMAGE, UV), {"filter": "mip", "lod": "1"}, TypeError, "lod: expected a number, got str"),
        ((IMAGE, UV), {"filter": "mip", "lod": torch.zeros(2, 5)}, ValueError, r"lod: expected shape \[2, 5, 5\]"),
    ],
)
def test_arguments_of_sample_texture_are_checked(arguments, options, error, text):
    with pytest.raises(error, match=text):
        raster.sample_texture(*arguments, **options)


def test_arguments_of_the_rest_are_checked():
    with pytest.raises(ValueError, match=r"levels: expected in \[1, 3\], got 4"):
        raster.build_mips(IMAGE, levels=4)
    with pytest.raises(ValueError, match=r"index: expected in \[0, 1\], got 2"):
        raster.build_mips(IMAGE, levels=2).level(2)
    with pytest.raises(TypeError, match=r"texture_size: expected \(height, width\), got 4"):
        raster.uv_lod(UV, 4)
    with pytest.raises(ValueError, match=r"texture_size\[1\]: expected in \[1, 32768\], got 0"):
        raster.uv_lod(UV, (4, 0))
    with pytest.raises(ValueError, match=r"uv: expected shape \[B, H, W, 2\]"):
        raster.uv_lod(UV[0], (4, 4))
