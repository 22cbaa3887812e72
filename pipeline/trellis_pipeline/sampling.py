"""Sampling a flow: Euler steps from noise to data with guidance inside an interval of time."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, TypeVar

import torch

from .sparse import SparseTensor

State = TypeVar("State", torch.Tensor, SparseTensor)


def schedule(steps: int, rescale_t: float) -> list[float]:
    """Times from 1 to 0: t' = r t / (1 + (r - 1) t) of equally spaced t, steps + 1 of them."""
    even = [1 - i / steps for i in range(steps + 1)]
    return [rescale_t * t / (1 + (rescale_t - 1) * t) for t in even]


def _feats(x: torch.Tensor | SparseTensor) -> torch.Tensor:
    return x.feats if isinstance(x, SparseTensor) else x


def _replace(x: State, feats: torch.Tensor) -> State:
    return x.replace(feats) if isinstance(x, SparseTensor) else feats


def _std_per_sample(x: State, values: torch.Tensor) -> torch.Tensor:
    """Standard deviation over all but the batch, shaped to multiply `values`."""
    if isinstance(x, SparseTensor):
        parts = values.split(x.lengths)
        return torch.cat([p.std().expand(len(p), 1) for p in parts])
    return values.std(dim=tuple(range(1, values.dim())), keepdim=True)


def guide(
    x: State, t: float, cond: torch.Tensor, uncond: torch.Tensor, *, strength: float, rescale: float, sigma_min: float
) -> torch.Tensor:
    """Classifier-free guidance (Ho and Salimans 2022) on velocities, rescaled as by Lin et al. 2024.

    The rescaling multiplies the implied x0 by the ratio of the standard deviations that the conditional and the guided
    x0 have, mixed in by `rescale`; it keeps strong guidance from over-saturating.
    """
    velocity = strength * cond + (1 - strength) * uncond
    if rescale == 0:
        return velocity
    sigma = sigma_min + (1 - sigma_min) * t
    state = _feats(x)
    x0_cond, x0 = ((1 - sigma_min) * state - sigma * v for v in (cond, velocity))
    matched = x0 * (_std_per_sample(x, x0_cond) / _std_per_sample(x, x0))
    x0 = rescale * matched + (1 - rescale) * x0
    return ((1 - sigma_min) * state - x0) / sigma


@torch.no_grad()
def sample_flow(
    model: Any, noise: State, *, cond: torch.Tensor, neg_cond: torch.Tensor, steps: int = 12, rescale_t: float = 1.0,
    guidance_strength: float = 1.0, guidance_rescale: float = 0.0, guidance_interval: tuple[float, float] = (0.0, 1.0),
    sigma_min: float = 1e-5, **inputs: Any,
) -> State:  # fmt: skip
    """Integrates the flow from `noise` at t = 1 to data at t = 0.

    Args:
        model: a flow model; its cross-attention keys and values are made once for each condition.
        noise: the starting point, a tensor [B, ...] or a SparseTensor.
        cond, neg_cond: image features [B, L, D] and what stands for "no image".
        guidance_interval: times, ends included, at which guidance is applied; elsewhere the condition alone.
        inputs: passed to the model at every step (such as concat_cond).

    Returns:
        A sample like `noise`.
    """
    times = schedule(steps, rescale_t)
    low, high = guidance_interval
    positive, negative = model.encode_condition(cond), None
    x = noise
    for t, next_t in pairwise(times):
        at = torch.full((len(cond),), 1000 * t, device=_feats(x).device, dtype=torch.float32)
        velocity = _feats(model(x, at, positive, **inputs))
        if low <= t <= high and guidance_strength != 1:
            if negative is None:
                negative = model.encode_condition(neg_cond)
            without = _feats(model(x, at, negative, **inputs))
            velocity = guide(
                x, t, velocity, without, strength=guidance_strength, rescale=guidance_rescale, sigma_min=sigma_min
            )
        x = _replace(x, _feats(x) - (t - next_t) * velocity)
    return x
