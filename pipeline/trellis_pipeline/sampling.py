"""Sampling a flow: Euler steps from noise to data with guidance inside an interval of time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeVar

import torch

from .models import replay
from .sparse import SparseTensor

State = TypeVar("State", torch.Tensor, SparseTensor)


def schedule(steps: int, rescale_t: float) -> list[float]:
    """Times from 1 to 0: t' = r t / (1 + (r - 1) t) of equally spaced t, steps + 1 of them.

    To the bit what upstream has (numpy's linspace): a time on the end of a guidance interval is in it or not by that.
    """
    even = [1 + i * (-1 / steps) for i in range(steps)] + [0.0]
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
    sigma_min: float = 1e-5, progress: Callable[[int, int], None] | None = None, **inputs: Any,
) -> State:  # fmt: skip
    """Integrates the flow from `noise` at t = 1 to data at t = 0.

    Args:
        model: a flow model; its cross-attention keys and values are made once for each condition.
        noise: the starting point, a tensor [B, ...] or a SparseTensor.
        cond, neg_cond: image features [B, L, D] and what stands for "no image".
        guidance_strength: 1 is the condition alone and 0 what stands for "no image" alone; neither is rescaled.
        guidance_interval: times, ends included, at which guidance is applied; elsewhere the condition alone.
        progress: called with the steps done and the steps in all.
        inputs: passed to the model at every step (such as concat_cond).

    Returns:
        A sample like `noise`.
    """
    times = schedule(steps, rescale_t)
    low, high = guidance_interval
    step = _Passes(model, noise, cond, neg_cond, inputs)
    x = noise
    for done, (t, next_t) in enumerate(pairwise(times), 1):
        guided = low <= t <= high
        if guided and guidance_strength == 0:  # as upstream: nothing of the condition is left, its spread included
            velocity = step.unconditional(x, t)
        elif guided and guidance_strength != 1:
            velocity, without = step.both(x, t)
            velocity = guide(
                x, t, velocity, without, strength=guidance_strength, rescale=guidance_rescale, sigma_min=sigma_min
            )
        else:
            velocity = step.conditional(x, t)
        x = _replace(x, _feats(x) - (t - next_t) * velocity)
        if progress is not None:
            progress(done, steps)
    return x


class _Passes:
    """The model's passes of one sampling, with what they share made once.

    Where a pass is too small to fill a GPU, the two of a guided step run as one batch and passes are replayed from a
    recording; which of both depends on the number of tokens alone, so that equal seeds give equal bits.
    """

    def __init__(
        self, model: Any, noise: Any, cond: torch.Tensor, neg_cond: torch.Tensor, inputs: dict[str, Any]
    ) -> None:
        self._small = replay.pays(noise)
        self._model: Any = model
        # Weights that stream are at another place at each pass, which a recording would not know.
        recordable = self._small and not getattr(model, "streams", False)
        self._run: Any = replay.Replay(model) if recordable else model
        self._cond, self._neg_cond, self._inputs = cond, neg_cond, inputs
        self._conditions: dict[str, Any] = {}
        self._pair: SparseTensor | None = None
        self._paired_inputs: dict[str, Any] | None = None

    def conditional(self, x: Any, t: float) -> torch.Tensor:
        return self._pass("cond", x, t, self._inputs)

    def unconditional(self, x: Any, t: float) -> torch.Tensor:
        return self._pass("neg", x, t, self._inputs)

    def both(self, x: Any, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Velocities with the condition and without."""
        if not self._small or self._cond.shape[1] != self._neg_cond.shape[1]:
            return self.conditional(x, t), self.unconditional(x, t)
        if self._paired_inputs is None:
            self._paired_inputs = {name: self._doubled(value) for name, value in self._inputs.items()}
        velocity, without = self._pass("pair", self._doubled(x), t, self._paired_inputs).chunk(2)
        return velocity, without

    def _pass(self, name: str, x: Any, t: float, inputs: dict[str, Any]) -> torch.Tensor:
        if name not in self._conditions:
            each = {"cond": [self._cond], "neg": [self._neg_cond], "pair": [self._cond, self._neg_cond]}[name]
            if name == "cond" and "pair" in self._conditions:
                self._conditions[name] = self._conditions["pair"].first(len(self._cond))
            else:
                self._conditions[name] = self._model.encode_condition(torch.cat(each))
        entries = len(self._cond) * (2 if name == "pair" else 1)
        at = torch.full((entries,), 1000 * t, device=self._cond.device, dtype=torch.float32)
        return _feats(self._run(x, at, self._conditions[name], **inputs))

    def _doubled(self, x: Any) -> Any:
        """x twice as one batch; sparse tensors share one set of coordinates."""
        if not isinstance(x, SparseTensor):
            return torch.cat([x, x]) if isinstance(x, torch.Tensor) else x
        if self._pair is None:
            second = x.coords.clone()
            second[:, 0] += len(x.lengths)
            self._pair = SparseTensor(torch.cat([x.feats, x.feats]), torch.cat([x.coords, second]))
            return self._pair
        return self._pair.replace(torch.cat([x.feats, x.feats]))
