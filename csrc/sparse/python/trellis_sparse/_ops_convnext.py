"""A whole residual block as one operator, for inference: five kernels a block leave no time for five operators."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from trellis_native import check

from . import _conv_cuda
from ._library import EXTENSION, HALVES, OPS
from ._ops_conv import submanifold_conv3d
from ._ops_norm import layer_norm
from ._plan import ConvPlan


def convnext(
    x: torch.Tensor,
    plan: ConvPlan,
    conv: tuple[torch.Tensor, torch.Tensor],
    norm: tuple[torch.Tensor, torch.Tensor],
    first: tuple[torch.Tensor, torch.Tensor],
    last: tuple[torch.Tensor, torch.Tensor],
    *,
    eps: float = 1e-6,
    hidden_elements: int = 1 << 26,
) -> torch.Tensor:
    """x + Linear(SiLU(Linear(LayerNorm(submanifold convolution of x)))) (Liu et al. 2022). Not differentiable.

    The hidden features, the widest of all, are made in parts that take the place of one another.

    Args:
        x: [N, C], float32, float16 or bfloat16.
        plan: of the voxels' neighbour map, from `conv_map` or `conv_plan`.
        conv: weight [C, kx, ky, kz, C] and bias [C] in the dtype of x.
        norm: weight and bias [C] in float32 or the dtype of x.
        first, last: weights [H, C] and [C, H] and biases [H] and [C] in the dtype of x.
        hidden_elements: of the hidden features made at a time, at most (but a whole row).

    Returns:
        [N, C].

    Raises:
        RuntimeError: a gradient is asked for.
        ValueError, TypeError: shapes or dtypes that do not fit.
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *conv, *norm, *first, *last)):
        raise RuntimeError("convnext: has no gradient; enter torch.no_grad() or use the operations that it joins")
    x = check.tensor("x", x, dtype=list(HALVES), shape=["N", "C"])
    hidden, channels = last[0].shape[-1], x.shape[1]
    shapes: dict[str, tuple[tuple[torch.Tensor, torch.Tensor], list[int | str], list[int | str]]] = {
        "conv": (conv, [channels, "kx", "ky", "kz", channels], [channels]),
        "first": (first, [hidden, channels], [hidden]),
        "last": (last, [channels, hidden], [channels]),
    }
    for name, (pair, of_weight, of_bias) in shapes.items():
        check.tensor(f"{name} weight", pair[0], dtype=x.dtype, shape=of_weight, like=x)
        check.tensor(f"{name} bias", pair[1], dtype=x.dtype, shape=of_bias, like=x)
    for value in norm:
        check.tensor("norm", value, dtype=[torch.float32, x.dtype], shape=[channels], like=x)
    taps = conv[0][0, ..., 0].numel()
    check.tensor("plan.neighbors", plan.neighbors, dtype=torch.int32, shape=[len(x), taps], like=x)
    tf32 = torch.get_float32_matmul_precision() != "highest"
    rows = max(1, check.positive_int("hidden_elements", hidden_elements) // max(1, hidden))
    result: torch.Tensor = _convnext(x, plan.neighbors, plan.forward, *conv, *norm, *first, *last, rows, eps, tf32)
    return result


@OPS.define(
    "convnext(Tensor x, Tensor neighbors, Tensor[] plan, Tensor conv_weight, Tensor conv_bias, Tensor norm_weight, "
    "Tensor norm_bias, Tensor first_weight, Tensor first_bias, Tensor last_weight, Tensor last_bias, int rows, "
    "float eps, bool tf32) -> Tensor"
)
def _convnext(
    x: torch.Tensor,
    neighbors: torch.Tensor,
    plan: list[torch.Tensor],
    conv_weight: torch.Tensor,
    conv_bias: torch.Tensor,
    norm_weight: torch.Tensor,
    norm_bias: torch.Tensor,
    first_weight: torch.Tensor,
    first_bias: torch.Tensor,
    last_weight: torch.Tensor,
    last_bias: torch.Tensor,
    rows: int,
    eps: float,
    tf32: bool,
) -> torch.Tensor:
    if x.is_cuda:
        made = _conv_cuda.convolve(x, conv_weight, conv_bias, neighbors, plan, tf32)
        h = torch.empty_like(made)
        EXTENSION.call(
            "norm_rows", made, None, len(made), None, None, None, None, 0, None, norm_weight, norm_bias, *made.shape, eps,
            0, HALVES[made.dtype], HALVES[norm_weight.dtype], None, h, device=x.device,
        )  # fmt: skip
        del made
    else:
        made = submanifold_conv3d(x, conv_weight, conv_bias, neighbors)
        h = layer_norm(made, norm_weight, norm_bias, eps=eps)
    for begin in range(0, len(h), rows):
        part = h[begin : begin + rows]
        hidden = F.silu(torch.addmm(first_bias, part, first_weight.T), inplace=True)
        torch.addmm(last_bias, hidden, last_weight.T, out=part).add_(x[begin : begin + rows])
    return h


@OPS.fake("convnext")
def _(x: torch.Tensor, *_: object) -> torch.Tensor:
    return torch.empty_like(x)
