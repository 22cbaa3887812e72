"""Nearest texels and gap filling."""

import numpy as np
import pytest
import torch
import trellis_raster as raster
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from trellis_native.testing import assert_same_bits_for_any_thread_count


def nearest_by_definition(mask):
    """All pairs: smallest squared distance, then smallest row-order index."""
    height, width = mask.shape
    valid = np.argwhere(mask)
    out = np.full((height, width), -1)
    for j, i in np.ndindex(height, width):
        if len(valid):
            squared = ((valid - [j, i]) ** 2).sum(1)
            out[j, i] = (valid @ [width, 1])[squared == squared.min()].min()
    return out


def test_oracle_by_hand():
    mask = np.array([[1, 0, 1], [0, 0, 0]], bool)
    assert nearest_by_definition(mask).tolist() == [[0, 0, 2], [0, 0, 2]]


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 14), st.integers(1, 14), st.floats(0, 1), st.integers(0, 2**31))
def test_nearest_texel_equals_the_definition(height, width, share, seed):
    mask = np.random.default_rng(seed).uniform(size=(height, width)) < share
    np.testing.assert_array_equal(raster.nearest_texel(torch.from_numpy(mask)).numpy(), nearest_by_definition(mask))


@pytest.mark.parametrize("shape", [(300, 77), (1, 500), (500, 1), (129, 260)])
def test_distances_equal_scipy_on_larger_masks(shape):
    mask = np.random.default_rng(shape[0]).uniform(size=shape) < 0.004
    mask[0, 0] = True
    nearest = raster.nearest_texel(torch.from_numpy(mask)).numpy()
    j, i = np.indices(shape)
    squared = (nearest // shape[1] - j) ** 2 + (nearest % shape[1] - i) ** 2
    np.testing.assert_array_equal(squared, np.rint(ndimage.distance_transform_edt(~mask) ** 2).astype(int))
    assert mask.flat[nearest].all()


def test_longest_sides():
    for shape in ((raster.MAX_SIDE, 2), (2, raster.MAX_SIDE)):
        mask = torch.zeros(shape, dtype=torch.bool)
        mask[-1, -1] = True
        assert (raster.nearest_texel(mask) == mask.numel() - 1).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [0, 1, 3, 4, 7])
def test_fill_copies_the_nearest(dtype, channels):
    image = (torch.rand(12, 9, channels) * 200).to(dtype)
    mask = torch.rand(12, 9) < 0.2
    filled = raster.fill_gaps(image, mask)
    nearest = nearest_by_definition(mask.numpy())
    assert torch.equal(filled, image.flatten(0, 1)[torch.from_numpy(nearest)])
    assert torch.equal(filled[mask], image[mask])
    assert torch.equal(raster.fill_gaps(image, mask, nearest=raster.nearest_texel(mask)), filled)


def test_fill_within_a_distance():
    image = torch.arange(49.0).view(7, 7, 1)
    mask = torch.zeros(7, 7, dtype=torch.bool)
    mask[3, 3] = True
    filled = raster.fill_gaps(image, mask, max_distance=2.0)[..., 0]
    j, i = torch.meshgrid(torch.arange(7), torch.arange(7), indexing="ij")
    near = (j - 3) ** 2 + (i - 3) ** 2 <= 4
    assert (filled[near] == 24).all() and torch.equal(filled[~near], image[..., 0][~near])
    assert torch.equal(raster.fill_gaps(image, mask, max_distance=0.0), image)


@pytest.mark.parametrize("method", ["nearest", "smooth"])
def test_nothing_valid_or_everything_valid_changes_nothing(method):
    image = torch.rand(5, 6, 3)
    for mask in (torch.zeros(5, 6, dtype=torch.bool), torch.ones(5, 6, dtype=torch.bool)):
        assert torch.equal(raster.fill_gaps(image, mask, method=method), image)
    for shape in ((0, 4, 3), (4, 0, 3), (1, 1, 3)):
        empty = torch.rand(shape)
        assert torch.equal(raster.fill_gaps(empty, torch.ones(shape[:2], dtype=torch.bool), method=method), empty)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (13, 30), (1, 9), (33, 1)])
def test_smooth_filling(height, width):
    generator = torch.Generator().manual_seed(height)
    mask = torch.rand(height, width, generator=generator) < 0.15
    mask[0, 0] = True
    image = torch.rand(height, width, 2, generator=generator)
    image[~mask] = float("nan")  # what is not valid is never read
    filled = raster.fill_gaps(image, mask, method="smooth")
    assert torch.equal(filled[mask], image[mask])
    assert torch.isfinite(filled).all()
    low, high = image[mask].min(0).values, image[mask].max(0).values
    assert (filled >= low - 1e-6).all() and (filled <= high + 1e-6).all()


def test_smooth_filling_bridges_between_two_colours():
    image, mask = torch.zeros(8, 64, 1), torch.zeros(8, 64, dtype=torch.bool)
    image[:, 40:] = 1
    mask[:, :24] = mask[:, 40:] = True
    row = raster.fill_gaps(image, mask, method="smooth")[4, :, 0]
    assert (row.diff() >= -1e-6).all() and row.diff().max() < 0.3 and 0.3 < row[32] < 0.7


def test_same_bits_for_any_thread_count():
    mask, image = torch.rand(190, 230) < 0.02, torch.rand(190, 230, 3)
    for method in ("nearest", "smooth"):
        assert_same_bits_for_any_thread_count(raster.EXTENSION, lambda: raster.fill_gaps(image, mask, method=method))  # noqa: B023


IMAGE, MASK = torch.zeros(4, 6, 3), torch.zeros(4, 6, dtype=torch.bool)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((IMAGE, MASK), {"method": "best"}, ValueError, "method: expected 'nearest' or 'smooth', got 'best'"),
        ((None, MASK), {}, TypeError, "image: expected a torch.Tensor, got NoneType"),
        ((IMAGE[0], MASK), {}, ValueError, r"image: expected shape \[H, W, C\]"),
        ((IMAGE.double(), MASK), {"method": "smooth"}, TypeError, "image: expected dtype float32, got float64"),
        ((IMAGE, MASK.byte()), {}, TypeError, "mask: expected dtype bool, got uint8"),
        ((IMAGE, MASK[:3]), {}, ValueError, r"mask: expected shape \[4, 6\], got \[3, 6\]"),
        ((IMAGE, MASK.to("meta")), {}, ValueError, "mask: expected a tensor on cpu"),
        ((IMAGE, MASK), {"max_distance": -1}, ValueError, r"max_distance: expected a number"),
        ((IMAGE, MASK), {"max_distance": "1"}, TypeError, "max_distance: expected a number, got str"),
        ((IMAGE, MASK), {"method": "smooth", "max_distance": 1}, ValueError, "max_distance, nearest: expected None"),
        ((IMAGE, MASK), {"nearest": torch.zeros(4, 6)}, TypeError, "nearest: expected dtype int32"),
        (
            (IMAGE, MASK),
            {"nearest": torch.full((4, 6), 24, dtype=torch.int32)},
            ValueError,
            r"nearest: expected texel indices in \[-1, 24\)",
        ),
        (
            (IMAGE, MASK),
            {"nearest": torch.full((4, 6), -2, dtype=torch.int32)},
            ValueError,
            "nearest: expected texel indices",
        ),
        (
            (torch.zeros(1, 40000, 1), torch.zeros(1, 40000, dtype=torch.bool)),
            {},
            ValueError,
            "mask: expected sides of at most 32768",
        ),
    ],
)
def test_arguments_are_checked(arguments, options, error, text):
    with pytest.raises(error, match=text):
        raster.fill_gaps(*arguments, **options)


def test_mask_of_nearest_texel_is_checked():
    with pytest.raises(TypeError, match="mask: expected dtype bool"):
        raster.nearest_texel(MASK.int())
