"""Normalisations against torch's own operators, their gradients, and the CUDA path against the CPU's."""

import pytest
import torch
import torch.nn.functional as F
from trellis_sparse import layer_norm, norm_heads, norm_linear, residual_norm

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
)
DEVICES = ["cpu", CUDA]
HALVES = [torch.float32, torch.float16, torch.bfloat16]
LIMIT = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double().cpu(), b.double().cpu()
    return float((a - b).norm() / b.norm())


def inputs(rows: int, channels: int, dtype: torch.dtype, device: str, entries: int = 3):
    g = torch.Generator().manual_seed(rows * 31 + channels)
    x, update = (torch.randn(rows, channels, generator=g).to(device, dtype) * 3 + 1 for _ in range(2))
    modulation = torch.randn(entries, 6 * channels, generator=g).to(device, dtype)
    which = torch.randint(entries, (rows,), generator=g, dtype=torch.int32).to(device)
    return x, update, modulation, which


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    ("rows", "channels"),
    [(0, 64), (1, 1), (257, 64), (33, 100), (70, 257), (9, 1536), (5, 3072), (3, 4001)]
    + [(5, 32), (6, 128), (7, 256), (9, 512), (5, 768)],  # each number of lanes and of vectors a lane
)
def test_a_gated_residual_and_its_modulated_norm_equal_torchs(device, dtype, rows, channels):
    x, update, modulation, which = inputs(rows, channels, dtype, device)
    shift, scale, gate = modulation.chunk(6, 1)[:3]
    total, normed = residual_norm(x, update, gate=gate, scale=scale, shift=shift, entries=which, eps=1e-6)
    row = which.long()
    expected = (x.float() + update.float() * gate[row].float()).to(dtype)
    assert total.shape == normed.shape == x.shape
    if rows:
        assert relative(total, expected) < LIMIT[dtype]
        modulated = F.layer_norm(total.float(), (channels,), eps=1e-6) * (1 + scale[row].float()) + shift[row].float()
        assert relative(normed, modulated) < LIMIT[dtype]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weight_dtype", [torch.float32, torch.float16], ids=str)
def test_weights_may_be_wider_than_the_features(device, weight_dtype):
    x, _, _, _ = inputs(50, 128, torch.float16, device)
    weight, bias = torch.randn(2, 128, device=device, dtype=weight_dtype)
    out = layer_norm(x, weight, bias, eps=1e-6, activation="silu")
    expected = F.silu(F.layer_norm(x.float(), (128,), weight.float(), bias.float(), eps=1e-6))
    assert relative(out, expected) < 2e-3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(("rows", "channels"), [(1, 1), (257, 64), (33, 100), (9, 1536), (3, 4001)])
def test_chosen_rows_have_the_bits_of_the_rows_that_are_copied_out(device, dtype, rows, channels):
    x, _, _, _ = inputs(rows, channels, dtype, device)
    g = torch.Generator().manual_seed(5)
    for count in (0, 1, 3 * rows):
        source = torch.randint(rows, (count,), generator=g).to(device)
        got = layer_norm(x, source=source, eps=1e-6, activation="silu")
        assert torch.equal(got, layer_norm(x[source].contiguous(), eps=1e-6, activation="silu"))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("channels", [64, 4001])
def test_a_row_that_does_not_exist_is_refused_or_gives_nan(device, channels):
    x, _, _, _ = inputs(5, channels, torch.float32, device)
    source = torch.tensor([4, 5, -1, 0], device=device)
    if device == "cpu":
        with pytest.raises(ValueError, match=r"source: expected entries from 0 to 4, got \[5\] in row 1"):
            layer_norm(x, source=source)
    else:
        out = layer_norm(x, source=source)
        assert out.isnan().all(1).tolist() == [False, True, True, False]
        assert torch.equal(out[[0, 3]], layer_norm(x)[[4, 0]])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    ("rows", "channels", "outputs"), [(0, 64, 6), (1, 1, 1), (257, 64, 6), (33, 100, 7), (65, 129, 40), (5, 4001, 3)]
)
def test_a_norm_and_its_linear_layer_equal_torchs(device, dtype, rows, channels, outputs):
    x, _, _, _ = inputs(rows, channels, dtype, device)
    g = torch.Generator().manual_seed(2)
    weight = torch.randn(outputs, channels, generator=g).to(device)
    bias = torch.randn(outputs, generator=g).to(device)
    out = norm_linear(x, weight, bias)
    assert out.shape == (rows, outputs)
    assert out.dtype == torch.float32
    if rows:
        expected = F.layer_norm(x.double(), (channels,)) @ weight.double().T
        assert relative(out, expected + bias.double()) < 2e-6
        assert relative(norm_linear(x, weight), expected) < 2e-6 or channels == 1


def test_gradients_reach_chosen_rows_and_the_linear_layer():
    g = torch.Generator().manual_seed(3)
    x = torch.randn(6, 8, generator=g, requires_grad=True)
    weight, bias = torch.randn(3, 8, generator=g, requires_grad=True), torch.randn(3, generator=g, requires_grad=True)
    source = torch.tensor([5, 0, 0])
    sink = torch.randn(3, 8, generator=g)
    got = torch.autograd.grad((layer_norm(x, source=source, activation="silu") * sink).sum(), x)
    normed = F.silu(F.layer_norm(x[source], (8,), eps=1e-6))
    torch.testing.assert_close(got, torch.autograd.grad((normed * sink).sum(), x))
    of = (x, weight, bias)
    got = torch.autograd.grad(norm_linear(x, weight, bias).square().sum(), of)
    torch.testing.assert_close(
        got, torch.autograd.grad(F.linear(F.layer_norm(x, (8,)), weight, bias).square().sum(), of)
    )


def test_what_is_normalised_is_the_rounded_sum():
    x = torch.full((1, 2), 256.0, dtype=torch.bfloat16)
    total, normed = residual_norm(
        x, torch.tensor([[0.5, 0.5]], dtype=torch.bfloat16)
    )  # 256.5 rounds to 256 in bfloat16
    assert total.tolist() == [[256, 256]]
    assert normed.tolist() == [[0, 0]]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    ("rows", "heads", "width"),
    [(0, 2, 16), (1, 1, 2), (65, 12, 128), (33, 3, 64), (17, 2, 22), (5, 2, 32), (7, 2, 200)],
)
def test_heads_are_normalised_and_turned(device, dtype, rows, heads, width):
    g = torch.Generator().manual_seed(1)
    qkv = torch.randn(rows, 3, heads, width, generator=g).to(device, dtype)
    gamma = torch.randn(2, heads, width, generator=g).to(device, dtype)
    angles = torch.randn(rows, width // 2, generator=g).to(device)
    turns = torch.stack([angles.cos(), angles.sin()], -1)
    if device == "cuda" and dtype == torch.float32 and width > 128:
        with pytest.raises(ValueError, match="head_dim: expected at most 64, or a multiple of 4 up to 128, got 200"):
            norm_heads(qkv[:, :2], gamma, turns)
        return
    out = norm_heads(qkv[:, :2], gamma, turns)
    assert out.shape == (rows, 2, heads, width)
    if rows:
        unit = F.normalize(qkv[:, :2].double(), dim=-1) * gamma.double() * width**0.5
        pairs = torch.view_as_complex(unit.unflatten(-1, (-1, 2)).contiguous())
        turned = pairs * torch.polar(torch.ones_like(angles), angles).to(torch.complex128)[:, None, None]
        assert relative(out, torch.view_as_real(turned).flatten(-2)) < LIMIT[dtype]
        assert torch.equal(norm_heads(qkv, None), qkv)  # neither norm nor turn: the same bits


def test_gradients_are_those_of_the_formula():
    x, update, modulation, which = inputs(6, 8, torch.float32, "cpu")
    weight, bias = torch.randn(2, 8)
    leaves = [t.clone().requires_grad_() for t in (x, update, modulation, weight, bias)]

    def ours(x, update, modulation, weight, bias):
        shift, scale, gate = modulation.chunk(6, 1)[:3]
        return residual_norm(
            x, update, weight, bias, gate=gate, scale=scale, shift=shift, entries=which, activation="silu"
        )

    def plain(x, update, modulation, weight, bias):
        shift, scale, gate = (m[which.long()] for m in modulation.chunk(6, 1)[:3])
        total = x + update * gate
        return total, F.silu(F.layer_norm(total, (8,), weight, bias, 1e-6) * (1 + scale) + shift)

    directions = torch.randn(2, 6, 8)
    grads = []
    for function in (ours, plain):
        loss = sum((out * d).sum() for out, d in zip(function(*leaves), directions, strict=True))
        grads.append(torch.autograd.grad(loss, leaves))
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, atol=2e-5, rtol=2e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_another_stream_and_a_second_run_give_the_same_bits():
    x, update, _, _ = inputs(5000, 1536, torch.bfloat16, "cuda")
    first = residual_norm(x, update)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        second = residual_norm(x, update)
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: layer_norm(x.double()), "x: expected dtype float32, float16 or bfloat16, got float64"),
        (lambda x: layer_norm(x, torch.ones(3)), r"weight: expected shape \[4\], got \[3\]"),
        (lambda x: layer_norm(x, scale=torch.ones(1, 4)), "scale, shift: expected both or none"),
        (lambda x: layer_norm(x, scale=torch.ones(2, 4), shift=torch.ones(2, 4)), "entries: expected a row for each"),
        (lambda x: layer_norm(x, activation="relu"), "activation: expected 'identity' or 'silu', got 'relu'"),
        (lambda x: residual_norm(x, x[:1]), r"update: expected shape \[2, 4\]"),
        (lambda x: norm_heads(x, None), r"x: expected \[N, G, H, D\]"),
        (lambda x: norm_heads(x[:, None, None, :3], None), r"x: expected \[N, G, H, D\]"),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(torch.ones(2, 4))
