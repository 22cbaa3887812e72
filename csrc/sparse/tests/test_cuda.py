"""CUDA against the CPU path. Integers agree exactly; samples to float32 rounding, since a device may fuse operations."""

import pytest
import torch
from trellis_sparse import (
    decode_order,
    downsample,
    encode_order,
    grid_sample_3d,
    neighbor_map,
    submanifold_conv3d,
    upsample,
)

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

SHAPE = (2, 20, 30, 40)


@pytest.fixture
def coords() -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randint(0, 1 << 20, (20_000, 4), generator=g).remainder(torch.tensor(SHAPE)).int()


@pytest.mark.parametrize("curve", ["morton", "hilbert"])
def test_orders(coords: torch.Tensor, curve: str) -> None:
    codes = encode_order(coords[:, 1:].cuda(), curve)
    assert torch.equal(codes.cpu(), encode_order(coords[:, 1:], curve))
    assert torch.equal(decode_order(codes, curve).cpu(), coords[:, 1:])


@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), ((1, 3, 5), (1, 2, 3))])
def test_neighbor_map(coords: torch.Tensor, kernel: int | tuple[int, ...], dilation: int | tuple[int, ...]) -> None:
    got = neighbor_map(coords.cuda(), SHAPE, kernel, dilation)
    assert torch.equal(got.cpu(), neighbor_map(coords, SHAPE, kernel, dilation))


@pytest.mark.parametrize("mode", ["trilinear", "nearest"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_grid_sample(coords: torch.Tensor, mode: str, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(1)
    feats = torch.randn(len(coords), 6, generator=g).to(dtype)
    points = torch.rand(2, 5000, 3, generator=g) * 44 - 2
    points[0, :3] = torch.tensor([[20.0, 30, 40], [float("nan"), 1, 1], [0, 0, 0]])
    got = grid_sample_3d(feats.cuda(), coords.cuda(), SHAPE, points.cuda(), mode)
    tolerance = 1e-3 if dtype == torch.float16 else 1e-5
    torch.testing.assert_close(
        got.cpu(), grid_sample_3d(feats, coords, SHAPE, points, mode), rtol=tolerance, atol=tolerance
    )


def test_resampling(coords: torch.Tensor) -> None:
    mask = torch.rand(len(coords), 8, generator=torch.Generator().manual_seed(2)) < 0.5
    for ours, cpu in zip(
        (*downsample(coords.cuda()), *upsample(coords.cuda(), mask.cuda())),
        (*downsample(coords), *upsample(coords, mask)),
        strict=True,
    ):
        assert torch.equal(ours.cpu(), cpu)


def test_empty() -> None:
    none = torch.empty((0, 4), dtype=torch.int32, device="cuda")
    assert neighbor_map(none, SHAPE).shape == (0, 27)
    assert grid_sample_3d(torch.empty(0, 3).cuda(), none, SHAPE, torch.rand(2, 4, 3).cuda()).eq(0).all()
    assert len(downsample(none).coords) == 0
    assert encode_order(none[:, 1:]).shape == (0,)


def test_convolution_says_that_it_is_missing() -> None:
    x = torch.zeros(1, 1, device="cuda")
    with pytest.raises(NotImplementedError, match=r"sparse\.submanifold_conv3d has no cuda1[23] kernel"):
        submanifold_conv3d(x, torch.zeros(1, 1, 1, 1, 1, device="cuda"), None, x.int())
