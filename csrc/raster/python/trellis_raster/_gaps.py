"""Filling the texels that no face covers: argument checks and operators."""

from __future__ import annotations

import torch
from trellis_native import check

from ._library import EXTENSION, MAX_SIDE, OPS, scratch


@OPS.define("nearest_texel(Tensor mask) -> Tensor")
def _nearest_texel(mask: torch.Tensor) -> torch.Tensor:
    height, width = mask.shape
    nearest = mask.new_empty((height, width), dtype=torch.int32)
    memory = scratch("nearest_texel", height, width, device=mask.device)
    EXTENSION.call("nearest_texel", mask.view(torch.uint8), height, width, memory, nearest, device=mask.device)
    return nearest


@OPS.fake("nearest_texel")
def _(mask: torch.Tensor) -> torch.Tensor:
    return mask.new_empty(mask.shape, dtype=torch.int32)


@OPS.define("gather_texels(Tensor image, Tensor nearest, float max_distance) -> Tensor")
def _gather_texels(image: torch.Tensor, nearest: torch.Tensor, max_distance: float) -> torch.Tensor:
    height, width, channels = image.shape
    out = torch.empty_like(image)
    EXTENSION.call(
        "gather_texels",
        *(image, nearest, height, width, channels * image.element_size(), max_distance, out),
        device=image.device,
    )
    return out


@OPS.fake("gather_texels")
def _(image: torch.Tensor, nearest: torch.Tensor, max_distance: float) -> torch.Tensor:
    return torch.empty_like(image)


@OPS.define("pull_push(Tensor image, Tensor mask) -> Tensor")
def _pull_push(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    height, width, channels = image.shape
    out = torch.empty_like(image)
    memory = scratch("pull_push", height, width, channels, device=image.device)
    EXTENSION.call(
        "pull_push", image, mask.view(torch.uint8), height, width, channels, memory, out, device=image.device
    )
    return out


@OPS.fake("pull_push")
def _(image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(image)


def nearest_texel(mask: torch.Tensor) -> torch.Tensor:
    """For each texel the nearest one where `mask` is true: exact Euclidean, the first in row order where several are.

    Args:
        mask: bool [H, W], sides at most 32,768.

    Returns:
        int32 [H, W]: row * W + column, or -1 everywhere when the mask is empty.

    Source: Felzenszwalb and Huttenlocher, Distance transforms of sampled functions, Theory of Computing 8, 2012.
    """
    result: torch.Tensor = _nearest_texel(_check_mask(mask))
    return result


def fill_gaps(
    image: torch.Tensor,
    mask: torch.Tensor,
    *,
    method: str = "nearest",
    max_distance: float | None = None,
    nearest: torch.Tensor | None = None,
) -> torch.Tensor:
    """Gives texels outside `mask` a colour from those inside, so that filtering near a chart's border reads no
    background ("gutters"). Texels inside keep theirs, bit for bit; with an empty mask so does every texel.

    Args:
        image: [H, W, C], sides at most 32,768. Any dtype for "nearest", float32 for "smooth".
        mask: bool [H, W], true where the image is valid.
        method: "nearest" copies the nearest valid texel; "smooth" blends by pull-push over a pyramid.
        max_distance: for "nearest", in texels: what lies farther from any valid texel keeps its own value.
        nearest: for "nearest", what `nearest_texel(mask)` returned, to fill several images without finding it again.

    Returns:
        A new tensor like image.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than stated.

    Source: `nearest_texel`; pull-push of Gortler et al., The Lumigraph, SIGGRAPH 1996.
    """
    check.choice("method", method, ("nearest", "smooth"))
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"image: expected a torch.Tensor, got {type(image).__name__}")
    image = check.tensor(
        "image", image, dtype=torch.float32 if method == "smooth" else image.dtype, shape=["H", "W", "C"]
    ).detach()
    mask = _check_mask(mask, image)
    if method == "smooth":
        if max_distance is not None or nearest is not None:
            raise ValueError('max_distance, nearest: expected None with method "smooth"; they belong to "nearest"')
        smooth: torch.Tensor = _pull_push(image, mask)
        return smooth
    limit = -1.0 if max_distance is None else check.number("max_distance", max_distance, minimum=0)
    if nearest is None:
        nearest = _nearest_texel(mask)
    else:
        nearest = check.tensor("nearest", nearest, dtype=torch.int32, shape=list(mask.shape), like=image)
        if nearest.numel() and not nearest.is_cuda:  # there, what names no texel counts as -1: looking would wait
            low, high = (int(x) for x in torch.aminmax(nearest))
            if low < -1 or high >= mask.numel():
                raise ValueError(f"nearest: expected texel indices in [-1, {mask.numel()}), got {low} to {high}")
    result: torch.Tensor = _gather_texels(image, nearest, limit)
    return result


def _check_mask(mask: torch.Tensor, image: torch.Tensor | None = None) -> torch.Tensor:
    shape: list[int | str] = ["H", "W"] if image is None else list(image.shape[:2])
    mask = check.tensor("mask", mask, dtype=torch.bool, shape=shape, like=image)
    if max(mask.shape) > MAX_SIDE:
        raise ValueError(f"mask: expected sides of at most {MAX_SIDE}, got {mask.shape[0]} x {mask.shape[1]}")
    return mask
