"""flex_gemm's conventions: shape (N, C, W, H, D), a neighbour cache returned and taken, weights [Co, kx, ky, kz, Ci]."""

import pytest
import torch

SHAPE = torch.Size([2, 5, 4, 6, 7])  # batch, channels, W, H, D: all different, so that a swapped axis shows


@pytest.fixture
def voxels():
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(2, 4, 6, 7, generator=generator) < 0.4
    coords = dense.nonzero().int()
    return coords, torch.randn(len(coords), 5, generator=generator)


def dense_conv(coords, feats, weight, bias, dilation):
    """torch's own convolution of the densified voxels, read where voxels are."""
    volume = torch.zeros(2, 4, 6, 7, feats.shape[1])
    index = tuple(coords.long().T)
    volume[index] = feats
    padding = [d * (k // 2) for d, k in zip(dilation, weight.shape[1:4], strict=True)]
    out = torch.nn.functional.conv3d(
        volume.permute(0, 4, 1, 2, 3), weight.permute(0, 4, 1, 2, 3), bias, padding=padding, dilation=dilation
    )
    return out.permute(0, 2, 3, 4, 1)[index]


@pytest.mark.parametrize("dilation", [(1, 1, 1), (1, 2, 3)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 5)])
def test_convolution_is_that_of_the_dense_grid(voxels, kernel, dilation):
    from flex_gemm.ops.spconv import SubMConv3dFunction, sparse_submanifold_conv3d

    coords, feats = voxels
    weight, bias = torch.randn(3, *kernel, 5), torch.randn(3)
    out, cache = sparse_submanifold_conv3d(feats, coords, SHAPE, weight, bias, None, dilation)
    torch.testing.assert_close(out, dense_conv(coords, feats, weight, bias, dilation), atol=1e-4, rtol=1e-4)
    assert cache["neighbor_map"].shape == (len(coords), kernel[0] * kernel[1] * kernel[2])
    again, same = SubMConv3dFunction.apply(feats, coords, SHAPE, cache, weight, bias, dilation)
    assert same is cache and torch.equal(again, out)


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation"),
    [
        ((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
        ((2, 2, 2), (2, 2, 2), (0, 0, 0), (1, 1, 1)),
        ((3, 1, 2), (1, 2, 3), (2, 0, 1), (1, 1, 2)),
        ((1, 3, 3), 1, 0, (1, 2, 1)),
        ((3, 3, 3), 1, 2, 2),
    ],
)
def test_convolution_with_stride_is_that_of_the_dense_grid(voxels, kernel, stride, padding, dilation, given):
    """Everywhere the dense result is anything but the bias there is an output, or else at the places asked for."""
    from flex_gemm.ops.spconv import SparseConv3dFunction, sparse_conv3d

    coords, feats = voxels
    leaves = [feats.double(), torch.rand(3, *kernel, 5).double() + 0.1, torch.randn(3).double()]
    ours, dense = ([x.clone().requires_grad_() for x in leaves] for _ in range(2))
    volume = torch.zeros(2, 4, 6, 7, 5, dtype=torch.float64).index_put(tuple(coords.long().T), dense[0])
    steps = {"stride": stride, "padding": padding, "dilation": dilation}
    weight = dense[1].permute(0, 4, 1, 2, 3)
    whole = torch.nn.functional.conv3d(volume.permute(0, 4, 1, 2, 3), weight, dense[2], **steps).permute(0, 2, 3, 4, 1)
    filled = (volume.detach().abs().sum(-1, keepdim=True) > 0).double().permute(0, 4, 1, 2, 3)
    reached = torch.nn.functional.conv3d(filled, torch.ones(1, 1, *kernel).double(), **steps)[:, 0].round() > 0
    places = None
    if given:
        places = torch.ones_like(reached).nonzero().int().flip(0).contiguous()
    out, at, cache = sparse_conv3d(ours[0], coords, SHAPE, ours[1], ours[2], out_coords=places, **steps)
    expected = reached.nonzero().int() if places is None else places
    assert torch.equal(at, expected) and len(at)
    torch.testing.assert_close(out, whole[tuple(at.long().T)])
    seed = torch.randn_like(out)
    out.backward(seed)
    whole[tuple(at.long().T)].backward(seed)
    for a, b in zip(ours, dense, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    again = SparseConv3dFunction.apply(leaves[0], coords, SHAPE, cache, leaves[1], leaves[2], places)
    assert torch.equal(again[0], out) and torch.equal(again[1], at) and again[2] is cache


def test_convolution_with_stride_of_nothing_is_nothing():
    from flex_gemm.ops.spconv import sparse_conv3d

    coords = torch.zeros(0, 4, dtype=torch.int32)
    out, at, _ = sparse_conv3d(torch.zeros(0, 5), coords, SHAPE, torch.randn(3, 3, 3, 3, 5), stride=2, padding=1)
    assert out.shape == (0, 3) and at.shape == (0, 4)
    out, at, _ = sparse_conv3d(torch.ones(1, 5), torch.zeros(1, 4).int(), SHAPE, torch.randn(3, 5, 3, 3, 5))
    assert out.shape == (0, 3) and at.shape == (0, 4)  # the kernel is larger than the grid
    with pytest.raises(ValueError, match="stride"):
        sparse_conv3d(torch.ones(1, 5), torch.zeros(1, 4).int(), SHAPE, torch.randn(3, 3, 3, 3, 5), stride=0)


def test_a_given_cache_is_used_and_not_made_again(voxels):
    from flex_gemm.ops.spconv import sparse_submanifold_conv3d

    coords, feats = voxels
    _, cache = sparse_submanifold_conv3d(feats, coords, SHAPE, torch.randn(3, 3, 3, 3, 5))
    cache["neighbor_map"] = torch.full_like(cache.neighbor_map, -1)
    out, _ = sparse_submanifold_conv3d(feats, coords, SHAPE, torch.randn(3, 3, 3, 3, 5), None, cache)
    assert out.abs().max() == 0


def test_gradients_arrive(voxels):
    from flex_gemm.ops.spconv import sparse_submanifold_conv3d

    coords, feats = voxels
    inputs = [feats.requires_grad_(), torch.randn(3, 3, 3, 3, 5).requires_grad_(), torch.randn(3).requires_grad_()]
    out, _ = sparse_submanifold_conv3d(inputs[0], coords, SHAPE, inputs[1], inputs[2])
    seed = torch.randn_like(out)
    dense = dense_conv(coords, *inputs, (1, 1, 1))
    pairs = zip(torch.autograd.grad(out, inputs, seed), torch.autograd.grad(dense, inputs, seed), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_settings_are_kept_for_those_who_read_them():
    from flex_gemm.ops import grid_sample, spconv

    spconv.set_algorithm(spconv.Algorithm.EXPLICIT_GEMM)
    spconv.set_hashmap_ratio(3.0)
    grid_sample.set_hashmap_ratio(4.0)
    assert (spconv.ALGORITHM, spconv.HASHMAP_RATIO, grid_sample.HASHMAP_RATIO) == ("explicit_gemm", 3.0, 4.0)


def test_grid_sample_by_hand():
    import flex_gemm

    coords = torch.tensor([[0, 1, 2, 3], [0, 2, 2, 3], [1, 1, 2, 3], [1, 0, 5, 6]])  # int64, as callers cat them
    feats = torch.tensor([[10.0], [20.0], [30.0], [40.0]])
    grid = torch.tensor([[[1.75, 2.5, 3.5], [3.9, 2.5, 3.5]], [[1.75, 2.5, 3.5], [1.2, 2.2, 3.9]]])
    sample = flex_gemm.ops.grid_sample.grid_sample_3d
    smooth = sample(feats, coords, torch.Size([2, 1, 4, 6, 7]), grid=grid, mode="trilinear")
    assert smooth[..., 0].tolist() == [[12.5, 0.0], [30.0, 30.0]]
    assert sample(feats, coords, torch.Size([2, 1, 4, 6, 7]), grid, "nearest")[..., 0].tolist() == [[10, 0], [30, 30]]
    assert torch.equal(sample(feats, coords, torch.Size([2, 1, 4, 6, 7]), grid.double()), smooth)
