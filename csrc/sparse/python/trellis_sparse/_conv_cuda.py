"""Submanifold convolution and its gradients on CUDA, below the operators: tensors are checked, plans are there."""

from __future__ import annotations

import torch

from ._library import EXTENSION
from ._plan import MAX_TAPS, plannable, planned, refuse_wrong, transposed

_PRECISION = {torch.float16: 16, torch.bfloat16: 17, torch.float32: 32, torch.float64: 64}
_TF32 = 19
# With so many tiles it no longer matters that costly ones come first.
_MANY_TILES = 4096


def on_tensor_cores(feats: torch.Tensor, neighbors: torch.Tensor, tf32: bool) -> bool:
    """Whether tensor cores of the device of `feats` serve a convolution of this dtype."""
    major = torch.cuda.get_device_capability(feats.device)[0]
    if not plannable(neighbors) or feats.shape[1] == 0:
        return False
    return feats.dtype == torch.float16 or (
        major >= 8 and (feats.dtype == torch.bfloat16 or (feats.dtype == torch.float32 and tf32))
    )


def convolve(
    feats: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    neighbors: torch.Tensor,
    plan: list[torch.Tensor],
    tf32: bool,
) -> torch.Tensor:
    """[rows of neighbors, Co]; see `submanifold_conv3d`. `weight` is [Co, ..., Ci]; `plan` may be empty."""
    feats, weight, neighbors = feats.contiguous(), weight.contiguous(), neighbors.contiguous()
    rows_in, channels_in = feats.shape
    rows_out, taps = neighbors.shape
    channels_out = weight.shape[0]
    if not on_tensor_cores(feats, neighbors, tf32) or channels_out == 0:
        if not plan:
            _check(neighbors, rows_in)
        out = feats.new_empty((rows_out, channels_out))
        EXTENSION.call(
            "submanifold_conv3d", feats, weight, None if bias is None else bias.contiguous(), neighbors,
            rows_in, rows_out, channels_in, channels_out, taps, _PRECISION[feats.dtype],
            None, None, None, 1, None, out, device=feats.device,
        )  # fmt: skip
        return out
    order, masks, tiles = plan or planned(neighbors, rows_in)
    in_order = tiles.numel() > _MANY_TILES
    parts = len(order)
    # The kernels move pieces of 16 bytes.
    step = 16 // feats.element_size()
    more_in, more_out = -channels_in % step, -channels_out % step
    weight = weight.reshape(channels_out, taps, channels_in)
    if more_in or more_out:
        feats = torch.nn.functional.pad(feats, (0, more_in))
        weight = torch.nn.functional.pad(weight, (0, more_in, 0, 0, 0, more_out))
        bias = None if bias is None else torch.nn.functional.pad(bias, (0, more_out))
    feats, weight, bias = _aligned(feats), _aligned(weight), None if bias is None else _aligned(bias)
    out = feats.new_empty((rows_out, channels_out + more_out))
    sums = parts * out.numel() if parts > 1 else 0
    workspace = torch.empty(4 + sums, dtype=torch.float32, device=feats.device)
    EXTENSION.call(
        "submanifold_conv3d", feats, weight, bias, neighbors,
        rows_in, rows_out, channels_in + more_in, channels_out + more_out, taps,
        _TF32 if feats.dtype == torch.float32 else _PRECISION[feats.dtype],
        order, masks, None if in_order else tiles, parts, workspace, out, device=feats.device,
    )  # fmt: skip
    return out[:, :channels_out].contiguous() if more_out else out


def grad_feats(
    grad: torch.Tensor, weight: torch.Tensor, neighbors: torch.Tensor, rows: int, back: list[torch.Tensor], tf32: bool
) -> torch.Tensor:
    """The gradient [rows, Ci] for feats: a convolution of `grad` by the transposed map and matrices."""
    if not back:
        if neighbors.numel() == 0 or neighbors.shape[1] > MAX_TAPS:
            raise ValueError(
                f"neighbors: expected 1 to {MAX_TAPS} taps for the gradient on CUDA, got {neighbors.shape[1]}"
            )
        _check(neighbors, rows)
        back = transposed(neighbors, rows)
    turned = weight.reshape(weight.shape[0], -1, weight.shape[-1]).permute(2, 1, 0)
    if len(back) == 4:
        return convolve(grad, turned, None, back[0], back[1:], tf32)
    # Some row is read twice at one tap: one convolution for each layer of readers, added up in order.
    wide = torch.float64 if grad.dtype == torch.float64 else torch.float32
    total = torch.zeros((rows, weight.shape[-1]), dtype=wide, device=grad.device)
    for i in range(0, len(back), 4):
        total += convolve(grad.to(wide), turned.to(wide), None, back[i], back[i + 1 : i + 4], False)
    return total.to(grad.dtype)


def grad_weight(
    grad: torch.Tensor, feats: torch.Tensor, neighbors: torch.Tensor, kernel_size: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients for weight and bias: a matrix product for each tap over the pairs that it joins."""
    _check(neighbors, len(feats))
    weight = grad.new_zeros((grad.shape[1], neighbors.shape[1], feats.shape[1]))
    for tap in range(neighbors.shape[1]):
        rows = neighbors[:, tap]
        readers = (rows >= 0).nonzero().squeeze(1)
        weight[:, tap] = grad.index_select(0, readers).T @ feats.index_select(0, rows.index_select(0, readers))
    wide = torch.float64 if grad.dtype == torch.float64 else torch.float32
    return weight.reshape(grad.shape[1], *kernel_size, feats.shape[1]), grad.sum(0, dtype=wide).to(grad.dtype)


def _check(neighbors: torch.Tensor, rows_in: int) -> None:
    """Refuses neighbours that are no rows. Synchronises."""
    if neighbors.numel() == 0:
        return
    low, high = (int(v) for v in torch.aminmax(neighbors))
    if low < -1 or high >= rows_in:
        wrong = ((neighbors < -1) | (neighbors >= rows_in)).flatten()
        refuse_wrong(neighbors, rows_in, int(wrong.int().argmax()))


def _aligned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.data_ptr() % 16 == 0 else tensor.clone()
