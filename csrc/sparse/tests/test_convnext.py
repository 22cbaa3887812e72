"""A residual block as one operator, against the operators that it joins."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from trellis_sparse import ConvPlan, conv_map, convnext, layer_norm, submanifold_conv3d

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
)
Block = tuple[torch.Tensor, ConvPlan, dict[str, tuple[torch.Tensor, torch.Tensor]]]


def block(rows: int, channels: int, dtype: torch.dtype, device: str) -> Block:
    g = torch.Generator().manual_seed(rows + channels)
    cells = torch.randperm(16**3, generator=g)[:rows]
    coords = torch.stack([cells * 0, cells // 256, cells // 16 % 16, cells % 16], 1).int().to(device)

    def some(*shape: int, scale: float = 1.0, dtype: torch.dtype = dtype) -> torch.Tensor:
        return (torch.randn(*shape, generator=g) * scale).to(device, dtype)

    pairs = {
        "conv": (some(channels, 3, 3, 3, channels, scale=0.2), some(channels)),
        "norm": (some(channels, dtype=torch.float32), some(channels, dtype=torch.float32)),
        "first": (some(4 * channels, channels, scale=0.3), some(4 * channels)),
        "last": (some(channels, 4 * channels, scale=0.3), some(channels)),
    }
    return some(rows, channels), conv_map(coords, (1, 16, 16, 16)), pairs


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize(
    ("dtype", "limit"), [(torch.float32, 1e-6), (torch.float16, 3e-3), (torch.bfloat16, 2e-2)], ids=str
)
@pytest.mark.parametrize(("rows", "channels"), [(0, 8), (1, 8), (65, 16), (700, 64)])
def test_it_equals_the_operators_that_it_joins(
    device: str, dtype: torch.dtype, limit: float, rows: int, channels: int
) -> None:
    x, plan, pairs = block(rows, channels, dtype, device)
    h = layer_norm(submanifold_conv3d(x, *pairs["conv"], plan.neighbors, plan=plan), *pairs["norm"])
    expected = F.linear(F.silu(F.linear(h, *pairs["first"])), *pairs["last"]) + x
    got = convnext(x, plan, **pairs)
    assert got.shape == x.shape
    assert got.dtype == dtype
    if rows:
        assert (got - expected).double().norm() / expected.double().norm() < limit
    in_parts = convnext(x, plan, **pairs, hidden_elements=4 * channels * 63)  # the last part is shorter
    if rows:
        assert (in_parts - expected).double().norm() / expected.double().norm() < limit


def test_gradients_and_wrong_shapes_are_refused() -> None:
    x, plan, pairs = block(5, 8, torch.float32, "cpu")
    with pytest.raises(RuntimeError, match="convnext: has no gradient"):
        convnext(x.requires_grad_(), plan, **pairs)
    with torch.no_grad():
        assert convnext(x, plan, **pairs).shape == (5, 8)
        cases: list[tuple[dict[str, Any], str]] = [
            ({"first": (pairs["first"][0][:, :7], pairs["first"][1])}, r"first weight: expected shape \[32, 8\]"),
            ({"last": (pairs["last"][0], pairs["last"][1][:7])}, r"last bias: expected shape \[8\]"),
            ({"norm": (pairs["norm"][0][:7], pairs["norm"][1])}, r"norm: expected shape \[8\]"),
        ]
        for change, message in cases:
            with pytest.raises(ValueError, match=message):
                convnext(x, plan, **(pairs | change))
        with pytest.raises(ValueError, match=r"plan.neighbors: expected shape \[4, 27\], got \[5, 27\]"):
            convnext(x[:4], plan, **pairs)
