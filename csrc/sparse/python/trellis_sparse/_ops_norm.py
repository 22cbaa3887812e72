"""Normalisations of token and voxel features, each one pass over memory."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from trellis_native import check

from ._library import EXTENSION, HALVES, OPS, require_range

_ACTIVATIONS = {"identity": 0, "silu": 1}


def layer_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    entries: torch.Tensor | None = None,
    source: torch.Tensor | None = None,
    eps: float = 1e-6,
    activation: str = "identity",
) -> torch.Tensor:
    """activation(LayerNorm(x) * weight + bias) * (1 + scale) + shift), computed in float32 (Ba, Kiros and Hinton 2016).

    Args:
        x: [N, C], float32, float16 or bfloat16.
        weight, bias: [C] in float32 or the dtype of x.
        scale, shift: [B, C] in the dtype of x, rows of equal stride (such as chunks of one tensor): the modulation of
            Peebles and Xie 2023. Both or none.
        entries: int32 [N], the row of scale and shift that each row of x takes; None: row 0.
        source: int64 [M], the rows of x to normalise, in any order; None: all of them. N is M elsewhere then. On CUDA
            a row that x does not have gives NaN.
        activation: "identity" or "silu".

    Returns:
        [N, C] in the dtype of x. Differentiable in all but entries and source.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit; on the CPU, a row in `source` that x does not have.
    """
    rows = None
    if source is not None:
        source = check.tensor("source", source, dtype=torch.int64, shape=["M"], like=x)
        rows = len(source)
        if not x.is_cuda:
            require_range("source", source[:, None], [len(x) - 1])
    x, scale, shift, _ = _checked(x, None, scale, shift, entries, weight, bias, activation, rows)
    normed: torch.Tensor = _norm_rows(x, None, None, scale, shift, entries, weight, bias, source, eps, activation)[1]
    return normed


def norm_linear(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, *, eps: float = 1e-5
) -> torch.Tensor:
    """LayerNorm(x) @ weight.T + bias in float32, for layers of a few outputs at the end of a model: one pass over x.

    Args:
        x: [N, C], float32, float16 or bfloat16.
        weight: float32 [K, C].
        bias: float32 [K], or None.

    Returns:
        float32 [N, K]. Differentiable in all three.
    """
    x = check.tensor("x", x, dtype=list(HALVES), shape=["N", "C"])
    weight = check.tensor("weight", weight, dtype=torch.float32, shape=["K", x.shape[1]], like=x)
    if bias is not None:
        bias = check.tensor("bias", bias, dtype=torch.float32, shape=[len(weight)], like=x)
    result: torch.Tensor = _norm_linear(x, weight, bias, eps)
    return result


def residual_norm(
    x: torch.Tensor,
    update: torch.Tensor,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *,
    gate: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
    shift: torch.Tensor | None = None,
    entries: torch.Tensor | None = None,
    eps: float = 1e-6,
    activation: str = "identity",
) -> tuple[torch.Tensor, torch.Tensor]:
    """A residual connection and the normalisation that follows it: s = x + update * gate, and `layer_norm` of s.

    Args:
        update: like x.
        gate: [B, C] like scale and shift, or None for 1.

    The other arguments are those of `layer_norm`.

    Returns:
        s and its normalisation, both like x. s is rounded to the dtype of x before it is normalised.
    """
    update = check.tensor("update", update, dtype=x.dtype, shape=list(x.shape), like=x)
    x, scale, shift, gate = _checked(x, gate, scale, shift, entries, weight, bias, activation)
    total, normed = _norm_rows(x, update, gate, scale, shift, entries, weight, bias, None, eps, activation)
    return total, normed


def norm_heads(x: torch.Tensor, gamma: torch.Tensor | None, turns: torch.Tensor | None = None) -> torch.Tensor:
    """Root-mean-square normalisation of attention heads and their rotation by position, computed in float32.

    rotate(x / |x| * sqrt(D) * gamma), after Zhang and Sennrich 2019 and Su et al. 2021.

    Args:
        x: [N, G, H, D], float32, float16 or bfloat16, D even; rows may lie apart (a slice of queries, keys, values).
        gamma: [G, H, D] of the same dtype, or None for no normalisation.
        turns: float32 [N, D / 2, 2], cosine and sine of the angle by which each consecutive pair turns, or None.

    Returns:
        [N, G, H, D], contiguous. Differentiable in x and gamma.
    """
    if x.dim() != 4 or x.dtype not in HALVES or x.shape[3] % 2:
        raise ValueError(f"x: expected [N, G, H, D] in float32, float16 or bfloat16, got {list(x.shape)} in {x.dtype}")
    if x[:1].numel() and not x[0].is_contiguous():
        x = x.contiguous()
    if gamma is not None:
        gamma = check.tensor("gamma", gamma, dtype=x.dtype, shape=list(x.shape[1:]), like=x)
    if turns is not None:
        turns = check.tensor("turns", turns, dtype=torch.float32, shape=[len(x), x.shape[3] // 2, 2], like=x)
    result: torch.Tensor = _norm_heads(x, gamma, turns)
    return result


def _checked(
    x: torch.Tensor,
    gate: torch.Tensor | None,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    entries: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    activation: str,
    count: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """`count`: how many rows are written, where those are not the rows of x."""
    x = check.tensor("x", x, dtype=list(HALVES), shape=["N", "C"])
    check.choice("activation", activation, list(_ACTIVATIONS))
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            check.tensor(name, value, dtype=[torch.float32, x.dtype], shape=[x.shape[1]], like=x)
    if weight is not None and bias is not None and weight.dtype != bias.dtype:
        raise TypeError(f"bias: expected dtype {weight.dtype} like weight, got {bias.dtype}")
    rows = {}
    for name, value in (("gate", gate), ("scale", scale), ("shift", shift)):
        if value is None:
            continue
        if value.dtype != x.dtype or value.dim() != 2 or value.shape[1] != x.shape[1] or value.device != x.device:
            raise ValueError(
                f"{name}: expected [B, {x.shape[1]}] in {x.dtype} on {x.device}, got {list(value.shape)} in "
                f"{value.dtype} on {value.device}"
            )
        rows[name] = value
    if (scale is None) != (shift is None):
        raise ValueError("scale, shift: expected both or none")
    if rows and (
        len({(v.stride(0), v.shape[0]) for v in rows.values()}) > 1 or any(v.stride(1) != 1 for v in rows.values())
    ):
        rows = {name: v.contiguous() for name, v in rows.items()}
        if len({v.shape[0] for v in rows.values()}) > 1:
            raise ValueError("gate, scale, shift: expected the same number of rows")
    if entries is not None:
        check.tensor("entries", entries, dtype=torch.int32, shape=[len(x) if count is None else count], like=x)
    elif rows and next(iter(rows.values())).shape[0] != 1:
        raise ValueError("entries: expected a row for each row of x, as there are several rows of scale and shift")
    return x, rows.get("scale"), rows.get("shift"), rows.get("gate")


@OPS.define(
    "norm_rows(Tensor x, Tensor? update, Tensor? gate, Tensor? scale, Tensor? shift, Tensor? entries, Tensor? weight, "
    "Tensor? bias, Tensor? source, float eps, str activation) -> (Tensor, Tensor)"
)
def _norm_rows(
    x: torch.Tensor,
    update: torch.Tensor | None,
    gate: torch.Tensor | None,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    entries: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    source: torch.Tensor | None,
    eps: float,
    activation: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    dtype = x.dtype
    if x.device.type == "cpu":  # computes in float32
        x = x.float()
        update, gate, scale, shift, weight, bias = (
            None if a is None else a.float() for a in (update, gate, scale, shift, weight, bias)
        )
    first = next((a for a in (gate, scale, shift) if a is not None), None)
    weights = next((a.dtype for a in (weight, bias) if a is not None), torch.float32)
    normed = x.new_empty((len(x) if source is None else len(source), x.shape[1]))
    total = torch.empty_like(x) if update is not None else x.new_empty(0)
    EXTENSION.call(
        "norm_rows",
        x,
        source,
        len(x),
        update,
        *(None if a is None else a.data_ptr() for a in (gate, scale, shift)),  # chunks of one tensor: strided rows
        0 if first is None else first.stride(0),
        entries,
        weight,
        bias,
        *normed.shape,
        eps,
        _ACTIVATIONS[activation],
        HALVES[x.dtype],
        HALVES[weights],
        total,
        normed,
        device=x.device,
    )
    return total.to(dtype), normed.to(dtype)


@OPS.fake("norm_rows")
def _(
    x: torch.Tensor,
    update: torch.Tensor | None,
    gate: torch.Tensor | None,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    entries: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    source: torch.Tensor | None,
    eps: float,
    activation: str,
) -> tuple[torch.Tensor, torch.Tensor]:
    total = torch.empty_like(x) if update is not None else x.new_empty(0)
    return total, x.new_empty((len(x) if source is None else len(source), x.shape[1]))


@OPS.define("norm_linear(Tensor x, Tensor weight, Tensor? bias, float eps) -> Tensor")
def _norm_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float) -> torch.Tensor:
    if not x.is_cuda:
        x = x.float()
    out = torch.empty((len(x), len(weight)), dtype=torch.float32, device=x.device)
    EXTENSION.call("norm_linear", x, weight, bias, *x.shape, len(weight), eps, HALVES[x.dtype], out, device=x.device)
    return out


@OPS.fake("norm_linear")
def _(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float) -> torch.Tensor:
    return x.new_empty((x.shape[0], weight.shape[0]), dtype=torch.float32)


@OPS.define("norm_heads(Tensor x, Tensor? gamma, Tensor? turns) -> Tensor")
def _norm_heads(x: torch.Tensor, gamma: torch.Tensor | None, turns: torch.Tensor | None) -> torch.Tensor:
    dtype = x.dtype
    if x.device.type == "cpu":
        x, gamma = x.float(), None if gamma is None else gamma.float()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    sizes = (len(x), *x.shape[1:])
    # The rows of x may lie apart, which the call's own check of tensors does not know.
    EXTENSION.call("norm_heads", x.data_ptr(), x.stride(0), gamma, turns, *sizes, HALVES[x.dtype], out, device=x.device)
    return out.to(dtype)


@OPS.fake("norm_heads")
def _(x: torch.Tensor, gamma: torch.Tensor | None, turns: torch.Tensor | None) -> torch.Tensor:
    return x.new_empty(x.shape)


# Gradients come from the same mathematics written with torch's own operators, run again in the backward pass.


def _norm_rows_reference(
    x: torch.Tensor,
    update: torch.Tensor | None,
    gate: torch.Tensor | None,
    scale: torch.Tensor | None,
    shift: torch.Tensor | None,
    entries: torch.Tensor | None,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    source: torch.Tensor | None,
    eps: float,
    activation: str,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    def of_row(value: torch.Tensor) -> torch.Tensor:
        return (value if entries is None else value[entries.long()]).float()

    total = None
    if source is not None:
        x = x[source]
    if update is not None:
        total = x = (x.float() + update.float() * (1.0 if gate is None else of_row(gate))).to(x.dtype)
    normed = F.layer_norm(
        x.float(),
        x.shape[1:],
        None if weight is None else weight.float(),
        None if bias is None else bias.float(),
        eps,
    )
    if scale is not None and shift is not None:
        normed = normed * (1 + of_row(scale)) + of_row(shift)
    return total, (F.silu(normed) if activation == "silu" else normed).to(x.dtype)


def _norm_linear_reference(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float
) -> torch.Tensor:
    return F.linear(F.layer_norm(x.float(), x.shape[1:], eps=eps), weight, bias)


def _norm_heads_reference(x: torch.Tensor, gamma: torch.Tensor | None, turns: torch.Tensor | None) -> torch.Tensor:
    v = x.float()
    if gamma is not None:
        v = F.normalize(v, dim=-1) * gamma.float() * x.shape[-1] ** 0.5
    if turns is not None:
        a, b = v.unflatten(-1, (-1, 2)).unbind(-1)
        cosine, sine = turns[:, None, None].unbind(-1)
        v = torch.stack([a * cosine - b * sine, a * sine + b * cosine], -1).flatten(-2)
    return v.to(x.dtype)


def _differentiate(reference: Any, count: int) -> tuple[Any, Any]:
    def save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:count])
        ctx.rest = inputs[count:]

    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        inputs = [None if t is None else t.detach().requires_grad_(t.is_floating_point()) for t in ctx.saved_tensors]
        with torch.enable_grad():
            outputs = reference(*inputs, *ctx.rest)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if o is not None]
        wanted = [t for t, need in zip(inputs, ctx.needs_input_grad, strict=False) if t is not None and need]
        found = iter(torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True))
        each = [
            next(found) if t is not None and need else None
            for t, need in zip(inputs, ctx.needs_input_grad, strict=False)
        ]
        return (*each, *(None for _ in ctx.rest))

    return backward, save


for _name, _reference, _count in (
    ("norm_rows", _norm_rows_reference, 9),
    ("norm_linear", _norm_linear_reference, 3),
    ("norm_heads", _norm_heads_reference, 3),
):
    _backward, _save = _differentiate(_reference, _count)
    OPS.autograd(_name, _backward, setup_context=_save)
