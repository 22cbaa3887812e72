"""Sampling of sparse voxel features."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_sparse import grid_sample_3d
from trellis_sparse._library import EXTENSION

SHAPE = (2, 4, 5, 6)
MODES = ("trilinear", "nearest")
voxels = st.lists(st.tuples(*(st.integers(0, size - 1) for size in SHAPE)), max_size=60)
# Halves and quarters are exact, so that weights of 0 and 1 and the borders themselves come up.
component = st.one_of(
    st.integers(-8, 32).map(lambda n: n / 4),
    st.floats(-2, 8, width=32),
    st.sampled_from([math.nan, math.inf, -math.inf, 1e30, -1e30, -0.5, 4.5, 5.5, 6.5]),
)
positions = st.lists(st.tuples(component, component, component), min_size=1, max_size=30)


def tensor(rows: list[tuple[int, ...]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32).reshape(-1, 4)


def oracle(
    feats: torch.Tensor, rows: list[tuple[int, ...]], shape: tuple[int, ...], points: torch.Tensor, mode: str
) -> torch.Tensor:
    """The definition in Python's floats: every voxel, its overlap with the point's unit box, the sum's share."""
    out = torch.zeros((*points.shape[:2], feats.shape[1]), dtype=torch.float64)
    first = {row: i for i, row in reversed(list(enumerate(rows)))}
    for b in range(points.shape[0]):
        for n, point in enumerate(points[b].tolist()):
            weights: dict[int, float] = {}
            for (vb, *cell), i in first.items():
                if vb != b:
                    continue
                if mode == "nearest":
                    inside = all(c <= p < c + 1 for c, p in zip(cell, point, strict=True))
                    weight = 1.0 if inside else 0.0
                else:
                    # max() would swallow a NaN
                    gaps = [1 - abs(p - c - 0.5) for c, p in zip(cell, point, strict=True)]
                    weight = math.prod(gaps) if all(g > 0 for g in gaps) else 0.0
                if weight > 0:
                    weights[i] = weight
            for i, weight in weights.items():
                out[b, n] += feats[i].double() * weight / math.fsum(weights.values())
    return out


def test_the_oracle_itself() -> None:
    feats = torch.tensor([[1.0], [5.0]])
    rows = [(0, 0, 0, 0), (0, 1, 0, 0)]
    points = torch.tensor([[[1.0, 0.5, 0.5], [0.75, 0.5, 0.5], [1.75, 0.25, 0.5], [0.5, 1.5, 0.5]]])
    assert oracle(feats, rows, (1, 2, 2, 2), points, "trilinear").flatten().tolist() == [3.0, 2.0, 5.0, 0.0]
    assert oracle(feats, rows, (1, 2, 2, 2), points, "nearest").flatten().tolist() == [5.0, 1.0, 5.0, 0.0]


def test_a_full_grid_agrees_with_torch() -> None:
    side = 5
    r = torch.arange(side)
    coords = torch.cat([torch.zeros(side**3, 1, dtype=torch.int64), torch.cartesian_prod(r, r, r)], 1).int()
    feats = torch.randn(side**3, 3)
    points = torch.rand(1, 200, 3) * (side - 1) + 0.5
    dense = feats.T.reshape(1, 3, side, side, side)
    # torch's last axis comes first in its points, which run from -1 to 1
    grid = (points.flip(-1) / side * 2 - 1).reshape(1, 1, 1, -1, 3)
    expected = torch.nn.functional.grid_sample(dense, grid, align_corners=False).reshape(3, -1).T[None]
    got = grid_sample_3d(feats, coords, (1, side, side, side), points)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
@given(rows=voxels, points=positions, seed=st.integers(0, 9))
@settings(deadline=None, max_examples=80)
def test_against_brute_force(
    mode: str, rows: list[tuple[int, ...]], points: list[tuple[float, ...]], seed: int
) -> None:
    feats = torch.randn(len(rows), 3, generator=torch.Generator().manual_seed(seed))
    both = torch.tensor(points, dtype=torch.float32)[None].repeat(2, 1, 1)
    got = grid_sample_3d(feats, tensor(rows), SHAPE, both, mode)
    assert got.shape == (2, len(points), 3)
    # A weight is right to a few units of float32's last place; it is divided by a sum that may be as small.
    torch.testing.assert_close(got.double(), oracle(feats, rows, SHAPE, both, mode), rtol=1e-4, atol=1e-5)


def test_exactly_on_and_beyond_the_border() -> None:
    size = 1024
    rows = [(0, size - 1, size - 1, size - 1), (0, 0, 0, 0)]
    feats = torch.tensor([[7.0], [3.0]])
    far, out = float(size), math.nextafter(size + 0.5, math.inf)
    points = torch.tensor(
        [[[far] * 3, [far, 1023.5, 1023.5], [far + 0.25] * 3, [far + 0.5] * 3, [out] * 3, [0.0] * 3, [-0.25] * 3, [-0.5] * 3]]
    )  # fmt: skip
    trilinear = grid_sample_3d(feats, tensor(rows), (1, size, size, size), points)
    assert trilinear.flatten().tolist() == [7, 7, 7, 0, 0, 3, 3, 0]
    nearest = grid_sample_3d(feats, tensor(rows), (1, size, size, size), points, "nearest")
    assert nearest.flatten().tolist() == [0, 0, 0, 0, 0, 3, 0, 0]


def test_axes_are_x_y_z() -> None:
    rows = [(0, 3, 0, 0), (0, 0, 4, 0), (0, 0, 0, 5)]
    points = torch.tensor([[[3.5, 0.5, 0.5], [0.5, 4.5, 0.5], [0.5, 0.5, 5.5]]])
    for mode in MODES:
        got = grid_sample_3d(torch.tensor([[1.0], [2.0], [3.0]]), tensor(rows), (1, 4, 5, 6), points, mode)
        assert got.flatten().tolist() == [1, 2, 3]


def test_a_nan_or_missing_voxel_does_not_leak() -> None:
    # The voxel with the NaN has weight 0 at the first point, and is far from the second.
    rows = [(0, 1, 1, 1), (0, 2, 1, 1)]
    feats = torch.tensor([[4.0], [math.nan]])
    points = torch.tensor([[[1.5, 1.5, 1.5], [0.75, 1.0, 1.0], [math.nan, 1.5, 1.5], [2.0, 1.5, 1.5]]])
    got = grid_sample_3d(feats, tensor(rows), (1, 4, 4, 4), points).flatten()
    assert got[:3].tolist() == [4, 4, 0]
    assert got[3].isnan()


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_field_is_sampled_exactly(mode: str) -> None:
    coords = torch.randint(0, 16, (900, 4), dtype=torch.int32, generator=torch.Generator().manual_seed(0))
    coords[:, 0] = 0
    points = torch.rand(1, 2000, 3, generator=torch.Generator().manual_seed(1)) * 16
    got = grid_sample_3d(torch.ones(900, 1), coords, (1, 16, 16, 16), points, mode)
    assert ((got == 0) | ((got - 1).abs() < 1e-6)).all()
    assert got.mean() > 0.1


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(mode: str) -> None:
    rows = [(0, 1, 1, 1), (0, 1, 1, 2), (1, 1, 1, 1), (0, 1, 1, 1)]
    points = torch.tensor([[1.5, 1.25, 2.0], [1.9, 1.9, 1.9], [0.0, 9.0, math.nan], [1.0, 1.0, 1.0]]).repeat(2, 1, 1)
    feats = torch.randn(4, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: grid_sample_3d(f, tensor(rows), (2, 4, 4, 4), points, mode), feats)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(mode: str, dtype: torch.dtype) -> None:
    coords = tensor([(0, x, y, z) for x in range(3) for y in range(3) for z in range(3)])
    feats = torch.randn(27, 5).to(dtype).requires_grad_()
    single = feats.detach().float().requires_grad_()
    points = torch.rand(1, 40, 3) * 3
    out = grid_sample_3d(feats, coords, (1, 3, 3, 3), points, mode)
    expected = grid_sample_3d(single, coords, (1, 3, 3, 3), points, mode)
    assert torch.equal(out, expected.to(dtype))
    out.sum().backward()
    expected.sum().backward()
    assert torch.equal(feats.grad, single.grad.to(dtype))


@pytest.mark.parametrize("mode", MODES)
def test_empty_inputs(mode: str) -> None:
    coords, feats = tensor([]), torch.empty(0, 3)
    assert grid_sample_3d(feats, coords, (2, 4, 4, 4), torch.rand(2, 5, 3) * 4, mode).tolist() == [[[0.0] * 3] * 5] * 2
    assert grid_sample_3d(feats, coords, (2, 4, 4, 4), torch.rand(2, 0, 3), mode).shape == (2, 0, 3)
    one = tensor([(0, 1, 1, 1)])
    assert grid_sample_3d(torch.empty(1, 0), one, (1, 4, 4, 4), torch.rand(1, 5, 3), mode).shape == (1, 5, 0)
    grad = torch.ones(1, 3).requires_grad_()
    grid_sample_3d(grad, one, (1, 4, 4, 4), torch.rand(1, 0, 3), mode).sum().backward()
    assert torch.equal(grad.grad, torch.zeros(1, 3))


def test_non_contiguous_inputs() -> None:
    coords = tensor([(0, x, y, z) for x in range(3) for y in range(3) for z in range(3)])
    feats, points = torch.randn(27, 4), torch.rand(1, 20, 3) * 3
    expected = grid_sample_3d(feats, coords, (1, 3, 3, 3), points)
    got = grid_sample_3d(feats.T.contiguous().T, coords.T.contiguous().T, [1, 3, 3, 3], points.mT.contiguous().mT)
    assert torch.equal(got, expected)


@pytest.mark.parametrize("mode", MODES)
def test_threads_do_not_matter(mode: str) -> None:
    g = torch.Generator().manual_seed(0)
    coords = torch.randint(0, 20, (20_000, 4), dtype=torch.int32, generator=g) % torch.tensor([2, 20, 20, 20]).int()
    feats = torch.randn(len(coords), 3, generator=g).requires_grad_()
    points = torch.rand(2, 20_000, 3, generator=g) * 20

    def run() -> list[torch.Tensor]:
        out = grid_sample_3d(feats, coords, (2, 20, 20, 20), points, mode)
        return [out, *torch.autograd.grad(out.square().sum(), feats)]

    assert_same_bits_for_any_thread_count(EXTENSION, run)


def test_argument_errors() -> None:
    feats, coords, points = torch.randn(2, 3), tensor([(0, 0, 0, 0), (0, 1, 2, 3)]), torch.rand(1, 5, 3)
    shape = (1, 2, 3, 4)
    with pytest.raises(ValueError, match="shape: expected 4 sizes"):
        grid_sample_3d(feats, coords, (1, 3, 4, 4, 4), points)
    with pytest.raises(TypeError, match="feats: expected dtype float32, float16, bfloat16 or float64, got uint8"):
        grid_sample_3d(feats.byte(), coords, shape, points)
    with pytest.raises(ValueError, match=r"feats: expected shape \[N, C\], got \[3\]"):
        grid_sample_3d(feats[0], coords, shape, points)
    with pytest.raises(TypeError, match="coords: expected dtype int32, got int64"):
        grid_sample_3d(feats, coords.long(), shape, points)
    with pytest.raises(ValueError, match=r"coords: expected shape \[2, 4\], got \[1, 4\]"):
        grid_sample_3d(feats, coords[:1], shape, points)
    with pytest.raises(ValueError, match="coords: expected a tensor on cpu like the other arguments, got one on meta"):
        grid_sample_3d(feats, coords.to("meta"), shape, points)
    with pytest.raises(
        ValueError, match=r"coords: expected entries from 0 to \(0, 1, 2, 2\), got \[0, 1, 2, 3\] in row 1"
    ):
        grid_sample_3d(feats, coords, (1, 2, 3, 3), points)
    with pytest.raises(TypeError, match="points: expected dtype float32, got float64"):
        grid_sample_3d(feats, coords, shape, points.double())
    with pytest.raises(ValueError, match=r"points: expected shape \[1, L, 3\], got \[5, 3\]"):
        grid_sample_3d(feats, coords, shape, points[0])
    with pytest.raises(ValueError, match=r"points: expected shape \[2, L, 3\], got \[1, 5, 3\]"):
        grid_sample_3d(feats, coords, (2, 2, 3, 4), points)
    with pytest.raises(ValueError, match="points: expected a tensor on cpu"):
        grid_sample_3d(feats, coords, shape, points.to("meta"))
    with pytest.raises(ValueError, match="mode: expected 'trilinear' or 'nearest', got 'cubic'"):
        grid_sample_3d(feats, coords, shape, points, "cubic")
