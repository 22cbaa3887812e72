"""The sRGB transfer function and tone mapping."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_shade import linear_to_srgb, srgb_to_linear, tonemap

CURVES = ("none", "reinhard", "aces", "agx", "neutral")


def test_srgb_by_hand():
    # Published pairs: middle grey, the end of the linear part, and the ends.
    linear = torch.tensor([0.0, 0.0031308, 0.2158605, 0.5, 1.0, 2.0, -1.0], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.0404499, 0.5019608, 0.7353570, 1.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(linear_to_srgb(linear), expected, atol=1e-6, rtol=0)


def test_srgb_round_trip_is_exact_for_bytes():
    code = torch.arange(256)
    assert torch.equal((linear_to_srgb(srgb_to_linear(code / 255)) * 255).round().long(), code)
    x = torch.linspace(0, 1, 10001, dtype=torch.float64)
    torch.testing.assert_close(srgb_to_linear(linear_to_srgb(x)), x, atol=3e-8, rtol=0)  # the standard's own seam


def test_srgb_has_finite_gradients():
    for function in (linear_to_srgb, srgb_to_linear):
        x = torch.tensor([0.0, 0.001, 0.5, 1.0], requires_grad=True)
        function(x).sum().backward()
        assert torch.isfinite(x.grad).all() and (x.grad > 0).all()


@pytest.mark.parametrize(
    ("curve", "value", "expected"),
    [
        ("none", (0.5, 2.0, -1.0), (0.5, 1.0, 0.0)),
        ("reinhard", (1.0, 3.0, 0.0), (0.5, 0.75, 0.0)),
        ("aces", (1.0, 0.0, 0.18), (2.54 / 3.16, 0.0, 0.18 * 0.4818 / (0.18 * 1.0274 + 0.14))),
        ("neutral", (0.5, 0.5, 0.5), (0.46, 0.46, 0.46)),  # below the shoulder: less 4 % of reflection
        ("neutral", (0.04, 0.04, 0.04), (0.01, 0.01, 0.01)),  # 6.25 x^2
        ("neutral", (1.04, 1.04, 1.04), (1 - 0.0576 / 0.48, 1 - 0.0576 / 0.48, 1 - 0.0576 / 0.48)),
    ],
)
def test_curves_by_hand(curve, value, expected):
    torch.testing.assert_close(tonemap(torch.tensor(value), curve), torch.tensor(expected), atol=1e-6, rtol=1e-5)


def test_agx_by_hand():
    # Grey stays grey, since the rows of its matrix add up to one: 0.18 is at (log2 0.18 + 12.47393) / 16.5 on its curve.
    t = (math.log2(0.18) + 12.47393) / 16.499999
    curve = 15.5 * t**6 - 40.14 * t**5 + 31.96 * t**4 - 6.868 * t**3 + 0.4298 * t**2 + 0.1191 * t - 0.00232
    torch.testing.assert_close(tonemap(torch.full((3,), 0.18), "agx"), torch.full((3,), curve**2.2), atol=1e-4, rtol=0)
    assert tonemap(torch.full((3,), 100.0), "agx").min() > 0.98
    red = tonemap(torch.tensor([50.0, 0.0, 0.0]), "agx")  # bright colours go towards white
    assert red[0] > 0.9 and red[1] > 0.2


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(CURVES), st.floats(0, 1000), st.floats(0, 1000))
def test_brighter_grey_is_not_darker(curve, a, b):
    low, high = (tonemap(torch.full((3,), x), curve) for x in sorted((a, b)))
    assert (low <= high + 1e-6).all() and (low >= 0).all() and (high <= 1).all()


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_any_value_stays_in_range(curve, dtype):
    rgb = torch.tensor(
        [[0.0, 0, 0], [1e-8, 1e-8, 1], [6e4, 0, 0], [math.inf, 1, 0], [math.inf] * 3, [-5, 0.5, 1]], dtype=dtype
    )
    out = tonemap(rgb, curve)
    assert out.dtype == dtype and (out >= 0).all() and (out <= 1).all()


def test_exposure_is_in_stops():
    rgb = torch.rand(10, 3)
    torch.testing.assert_close(tonemap(rgb, "reinhard", exposure=2.0), tonemap(rgb * 4, "reinhard"))
    torch.testing.assert_close(tonemap(rgb, exposure=-1), tonemap(rgb / 2))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: tonemap([0.5] * 3), TypeError, "rgb: expected a torch.Tensor, got list"),
        (lambda: tonemap(torch.zeros(3, dtype=torch.uint8)), TypeError, "rgb: expected a floating dtype, got uint8"),
        (lambda: tonemap(torch.zeros(4)), ValueError, r"rgb: expected shape \[..., 3\], got \[4\]"),
        (
            lambda: tonemap(torch.zeros(3), "filmic"),
            ValueError,
            "curve: expected 'none', 'reinhard', 'aces', 'agx' or 'neutral'",
        ),
        (lambda: tonemap(torch.zeros(3), exposure=math.nan), ValueError, "exposure: expected a finite number"),
        (lambda: linear_to_srgb(1.0), TypeError, "linear: expected a torch.Tensor, got float"),
        (
            lambda: srgb_to_linear(torch.zeros(3, dtype=torch.int32)),
            TypeError,
            "encoded: expected a floating dtype, got int32",
        ),
    ],
)
def test_arguments_are_checked(call, error, text):
    with pytest.raises(error, match=text):
        call()
