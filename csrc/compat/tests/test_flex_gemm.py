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
