"""Submanifold convolution and its gradients."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count, bits
from trellis_sparse import ConvPlan, neighbor_map, submanifold_conv3d
from trellis_sparse._library import EXTENSION


def oracle(
    feats: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, neighbors: torch.Tensor
) -> torch.Tensor:
    """The definition in float64, with rows of zeros for absent neighbours; torch differentiates it."""
    taps = weight.double().flatten(1, 3)
    padded = torch.cat([feats.double(), feats.new_zeros((1, feats.shape[1])).double()])
    out = torch.einsum("ntc,otc->no", padded[neighbors.long()], taps)
    return out if bias is None else out + bias.double()


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp_min(1e-300))


def case(
    rows: int, channels_in: int, channels_out: int, kernel: int | tuple[int, int, int] = 3, side: int = 8, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    cells = torch.randperm(2 * side**3, generator=g)[:rows]
    coords = torch.stack([cells // side**3, cells // side**2 % side, cells // side % side, cells % side], 1).int()
    k = (kernel,) * 3 if isinstance(kernel, int) else kernel
    feats = torch.randn(len(coords), channels_in, generator=g)
    weight = torch.randn(channels_out, *k, channels_in, generator=g)
    return feats, weight, torch.randn(channels_out, generator=g), neighbor_map(coords, (2, side, side, side), k)


def test_the_oracle_itself() -> None:
    # On a full grid a submanifold convolution is torch's own zero-padded one.
    side = 4
    r = torch.arange(side)
    coords = torch.cat([torch.zeros(side**3, 1, dtype=torch.int64), torch.cartesian_prod(r, r, r)], 1).int()
    feats, weight, bias = torch.randn(side**3, 2), torch.randn(3, 3, 5, 3, 2), torch.randn(3)
    neighbors = neighbor_map(coords, (1, side, side, side), (3, 5, 3))
    dense = feats.T.reshape(1, 2, side, side, side)
    expected = torch.nn.functional.conv3d(dense, weight.permute(0, 4, 1, 2, 3), bias, padding=(1, 2, 1))
    expected = expected.reshape(3, -1).T
    assert relative(oracle(feats, weight, bias, neighbors), expected) < 1e-6
    assert relative(submanifold_conv3d(feats, weight, bias, neighbors), expected) < 1e-6


def test_a_handwritten_case() -> None:
    weight = torch.zeros(1, 3, 1, 1, 1)
    weight[0, :, 0, 0, 0] = torch.tensor([100.0, 10.0, 1.0])
    coords = torch.tensor([[0, 0, 0, 0], [0, 1, 0, 0], [0, 3, 0, 0]], dtype=torch.int32)
    neighbors = neighbor_map(coords, (1, 4, 1, 1), (3, 1, 1))
    got = submanifold_conv3d(torch.tensor([[1.0], [2.0], [3.0]]), weight, torch.tensor([0.5]), neighbors)
    assert got.flatten().tolist() == [10 + 2 + 0.5, 100 + 20 + 0.5, 30 + 0.5]


# Below, at and beyond a panel (32 columns), a tile (256 columns), a block of depth (256) and a tile of rows.
SIZES = [(1, 1, 1), (5, 3, 7), (40, 32, 32), (300, 33, 31), (600, 64, 80), (70, 257, 40), (50, 17, 290), (40, 530, 260)]


@pytest.mark.parametrize(("rows", "channels_in", "channels_out"), SIZES)
def test_values_and_gradients(rows: int, channels_in: int, channels_out: int) -> None:
    feats, weight, bias, neighbors = case(rows, channels_in, channels_out)
    ours = [t.clone().requires_grad_() for t in (feats, weight, bias)]
    reference = [t.clone().double().requires_grad_() for t in (feats, weight, bias)]
    out, expected = submanifold_conv3d(*ours, neighbors), oracle(*reference, neighbors)
    assert out.dtype == torch.float32
    assert relative(out, expected) < 1e-6
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.backward(grad)
    expected.backward(grad.double())
    for mine, theirs in zip(ours, reference, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        assert relative(mine.grad, theirs.grad) < 1e-6


@given(
    rows=st.integers(0, 30), channels=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    kernel=st.tuples(*[st.integers(1, 3)] * 3), seed=st.integers(0, 99), has_bias=st.booleans(),
)  # fmt: skip
@settings(deadline=None, max_examples=50)
def test_small_sizes_of_every_kind(
    rows: int, channels: tuple[int, int], kernel: tuple[int, int, int], seed: int, has_bias: bool
) -> None:
    feats, weight, bias, neighbors = case(rows, *channels, kernel, side=3, seed=seed)
    got = submanifold_conv3d(feats, weight, bias if has_bias else None, neighbors)
    expected = oracle(feats, weight, bias if has_bias else None, neighbors)
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)


def test_long_sums_of_the_weight_gradient() -> None:
    # More rows than one span of the sum (32768), with channels few enough that spans are used.
    rows = 100_001
    g = torch.Generator().manual_seed(0)
    neighbors = torch.randint(-1, rows, (rows, 2), generator=g, dtype=torch.int32)
    feats, grad = torch.randn(rows, 3, generator=g), torch.randn(rows, 2, generator=g)
    weight = torch.zeros(2, 1, 1, 2, 3).double().requires_grad_()
    bias = torch.zeros(2).double().requires_grad_()
    oracle(feats, weight, bias, neighbors).backward(grad.double())
    got = torch.ops.trellis_sparse.submanifold_conv3d_grad_weight(grad, feats, neighbors, [1, 1, 2])
    assert weight.grad is not None
    assert bias.grad is not None
    assert relative(got[0], weight.grad) < 1e-5
    assert relative(got[1], bias.grad) < 1e-5


def test_gradcheck_with_repeated_and_one_sided_neighbours() -> None:
    g = torch.Generator().manual_seed(0)
    # Not a map that neighbor_map would make: rows are read any number of times, one of them never.
    neighbors = torch.tensor([[0, 0], [0, 1], [-1, 1], [3, 0]], dtype=torch.int32)
    inputs = (
        torch.randn(4, 2, dtype=torch.float64, generator=g).requires_grad_(),
        torch.randn(3, 1, 2, 1, 2, dtype=torch.float64, generator=g).requires_grad_(),
        torch.randn(3, dtype=torch.float64, generator=g).requires_grad_(),
    )
    assert torch.autograd.gradcheck(lambda f, w, b: submanifold_conv3d(f, w, b, neighbors), inputs)
    assert torch.autograd.gradcheck(lambda f, w: submanifold_conv3d(f, w, None, neighbors), inputs[:2])


def test_many_readers_of_one_row() -> None:
    rows = 700
    neighbors = torch.zeros((rows, 2), dtype=torch.int32)
    feats = torch.randn(rows, 3).requires_grad_()
    weight = torch.randn(4, 2, 1, 1, 3)
    grad = torch.randn(rows, 4)
    submanifold_conv3d(feats, weight, None, neighbors).backward(grad)
    expected = torch.zeros(rows, 3).double()
    expected[0] = grad.double().sum(0) @ weight.double().sum((1, 2, 3))
    assert feats.grad is not None
    assert relative(feats.grad, expected) < 1e-5


def test_only_what_is_asked_for_is_differentiated() -> None:
    feats, weight, bias, neighbors = case(20, 4, 4)
    submanifold_conv3d(feats, weight.requires_grad_(), None, neighbors).sum().backward()
    assert feats.grad is None
    weight_grad = weight.grad
    weight = weight.detach().requires_grad_()
    submanifold_conv3d(feats.requires_grad_(), weight, bias.requires_grad_(), neighbors).sum().backward()
    assert torch.equal(weight.grad, weight_grad)
    assert torch.equal(bias.grad, torch.full((4,), 20.0))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_computes_in_float32(dtype: torch.dtype) -> None:
    feats, weight, bias, neighbors = (t.to(dtype) if t.is_floating_point() else t for t in case(50, 40, 24))
    single = [t.float() for t in (feats, weight, bias)]
    out = submanifold_conv3d(feats.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), neighbors)
    expected = submanifold_conv3d(*(t.requires_grad_() for t in single), neighbors)
    assert torch.equal(out, expected.to(dtype))
    grad = torch.randn(out.shape).to(dtype)
    out.backward(grad)
    expected.backward(grad.float())
    for ours, theirs in zip((feats, weight, bias), single, strict=True):
        assert torch.equal(ours.grad, theirs.grad.to(dtype))


@given(seed=st.integers(0, 99))
@settings(deadline=None, max_examples=10)
def test_a_permutation_of_the_rows_permutes_the_bits(seed: int) -> None:
    feats, weight, bias, neighbors = case(200, 9, 34)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(seed))
    place = torch.cat([order.argsort(), torch.tensor([-1])]).int()
    shuffled = submanifold_conv3d(feats[order], weight, bias, place[neighbors[order].long()])
    assert torch.equal(shuffled, submanifold_conv3d(feats, weight, bias, neighbors)[order])


def test_a_nan_reaches_only_its_readers() -> None:
    feats, weight, bias, neighbors = case(100, 5, 40)
    clean = submanifold_conv3d(feats, weight, bias, neighbors)
    feats[17] = float("nan")
    dirty = submanifold_conv3d(feats, weight, bias, neighbors)
    reads = (neighbors == 17).any(1)
    assert dirty[reads].isnan().all()
    assert torch.equal(dirty[~reads], clean[~reads])


def test_non_contiguous_inputs() -> None:
    feats, weight, bias, neighbors = case(60, 8, 8)
    expected = submanifold_conv3d(feats, weight, bias, neighbors)
    wide, tall = torch.stack([feats, feats], 2), weight.permute(4, 3, 2, 1, 0).contiguous()
    maps = neighbors.T.contiguous().T
    assert torch.equal(submanifold_conv3d(wide[:, :, 0], tall.permute(4, 3, 2, 1, 0), bias, maps), expected)


def test_threads_do_not_matter() -> None:
    feats, weight, bias, neighbors = case(900, 40, 300)
    leaves = [t.requires_grad_() for t in (feats, weight, bias)]

    def run() -> list[torch.Tensor]:
        out = submanifold_conv3d(*leaves, neighbors)
        return [out, *torch.autograd.grad(out.square().sum(), leaves)]

    assert_same_bits_for_any_thread_count(EXTENSION, run)


def every_kernel() -> bytes:
    g = torch.Generator().manual_seed(0)
    neighbors = torch.randint(-1, 90, (90, 12), generator=g, dtype=torch.int32)
    results = []
    for dtype in (torch.float32, torch.float64):
        sizes = ((90, 300), (45, 3, 2, 2, 300), (45,))
        leaves = [torch.randn(s, generator=g, dtype=dtype).requires_grad_() for s in sizes]
        out = submanifold_conv3d(*leaves, neighbors)
        results += [out, *torch.autograd.grad(out.square().sum(), leaves)]
    return bits(results)


@pytest.mark.parametrize("limit", ["base", "avx2"])
def test_the_instruction_set_does_not_matter(limit: str) -> None:
    program = f"import runpy; runpy.run_path({__file__!r}, run_name='print bits')"
    run = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "TRELLIS_CPU": limit}, capture_output=True, check=True
    )
    assert run.stdout == every_kernel()


def test_the_same_call_gives_the_same_bits() -> None:
    inputs = case(500, 64, 64)
    assert bits(submanifold_conv3d(*inputs)) == bits(submanifold_conv3d(*inputs))


def test_argument_errors() -> None:
    feats, weight, bias, neighbors = case(10, 4, 6)
    with pytest.raises(TypeError, match="feats: expected dtype float32, float16, bfloat16 or float64, got int32"):
        submanifold_conv3d(feats.int(), weight, bias, neighbors)
    with pytest.raises(ValueError, match=r"feats: expected shape \[N, Ci\], got \[10, 4, 1\]"):
        submanifold_conv3d(feats[..., None], weight, bias, neighbors)
    with pytest.raises(TypeError, match="weight: expected dtype float32, got float64"):
        submanifold_conv3d(feats, weight.double(), bias, neighbors)
    with pytest.raises(ValueError, match=r"weight: expected shape \[Co, kx, ky, kz, 4\], got \[6, 3, 3, 3, 3\]"):
        submanifold_conv3d(feats, weight[..., :3], bias, neighbors)
    with pytest.raises(ValueError, match="weight: expected a tensor on cpu like the other arguments, got one on meta"):
        submanifold_conv3d(feats, weight.to("meta"), bias, neighbors)
    with pytest.raises(TypeError, match="bias: expected dtype float32, got float16"):
        submanifold_conv3d(feats, weight, bias.half(), neighbors)
    with pytest.raises(ValueError, match=r"bias: expected shape \[6\], got \[5\]"):
        submanifold_conv3d(feats, weight, bias[:5], neighbors)
    with pytest.raises(ValueError, match="bias: expected a tensor on cpu"):
        submanifold_conv3d(feats, weight, bias.to("meta"), neighbors)
    with pytest.raises(TypeError, match="neighbors: expected dtype int32, got int64"):
        submanifold_conv3d(feats, weight, bias, neighbors.long())
    with pytest.raises(ValueError, match=r"neighbors: expected shape \[M, 27\], got \[10, 8\]"):
        submanifold_conv3d(feats, weight, bias, neighbors[:, :8])
    with pytest.raises(ValueError, match="neighbors: expected a tensor on cpu"):
        submanifold_conv3d(feats, weight, bias, neighbors.to("meta"))
    part = neighbors[:4].clone()
    with pytest.raises(ValueError, match="plan: expected none with 4 rows of the map of 10 voxels"):
        submanifold_conv3d(feats, weight, bias, part, plan=ConvPlan(part, []))


def test_some_rows_of_a_map_give_the_result_at_those_voxels() -> None:
    feats, weight, bias, neighbors = case(200, 4, 6)
    whole = submanifold_conv3d(feats, weight, bias, neighbors)
    assert torch.equal(submanifold_conv3d(feats, weight, bias, neighbors[31:97]), whole[31:97])
    assert submanifold_conv3d(feats, weight, bias, neighbors[:0]).shape == (0, 6)
    feats.requires_grad_()
    submanifold_conv3d(feats, weight, bias, neighbors[31:97]).square().sum().backward()
    part, feats.grad = feats.grad, None
    submanifold_conv3d(feats, weight, bias, neighbors)[31:97].square().sum().backward()
    torch.testing.assert_close(part, feats.grad)


@pytest.mark.parametrize("wrong", [-2, 10, 2**31 - 1, -(2**31)])
def test_neighbours_that_do_not_exist_are_refused(wrong: int) -> None:
    feats, weight, bias, neighbors = case(10, 4, 6)
    neighbors[7, 3] = wrong
    message = rf"neighbors: expected rows in \[-1, 10\), got {wrong} at \[7, 3\]"
    with pytest.raises(ValueError, match=message):
        submanifold_conv3d(feats, weight, bias, neighbors)
    grad = torch.randn(10, 6)
    with pytest.raises(ValueError, match=message):
        torch.ops.trellis_sparse.submanifold_conv3d_grad_feats(grad, weight, neighbors, 10, [], False)
    with pytest.raises(ValueError, match=message):
        torch.ops.trellis_sparse.submanifold_conv3d_grad_weight(grad, feats, neighbors, [3, 3, 3])


if __name__ == "print bits":
    sys.stdout.buffer.write(every_kernel())
