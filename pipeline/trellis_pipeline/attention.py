"""One attention for all models: packed sequences of any lengths, over a backend that is chosen once and recorded.

`choose` picks a backend for a device and a dtype and proves it on a small known answer; `using` makes it the one that
`attend` runs. A backend that was asked for by name and is missing is an error, never a reason to take another.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Backend:
    """A way to compute attention.

    Attributes:
        name: as in `BACKENDS`.
        version: of the library that computes it.
        reason: why it was chosen, for the manifest.
    """

    name: str
    version: str
    reason: str


class AttentionError(ValueError):
    """An attention backend that was asked for cannot be had."""


Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Sequence[int], Sequence[int]], torch.Tensor]


def _torch_sdpa(kernel: SDPBackend | None) -> Attend:
    """torch's own attention: one batched call where lengths are equal, else one call an entry."""

    def call(batched: Iterator[torch.Tensor]) -> torch.Tensor:
        q, k, v = batched
        if k.shape[2] == 1:  # one key has all the weight; cuDNN's kernels refuse such a call
            return v.expand(-1, -1, q.shape[2], -1)
        if kernel is None:
            return F.scaled_dot_product_attention(q, k, v)
        with sdpa_kernel([kernel]):
            return F.scaled_dot_product_attention(q, k, v)

    def attend_sdpa(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
    ) -> torch.Tensor:
        if len(set(lengths)) == 1 and len(set(key_lengths)) == 1:
            n = len(lengths)
            return call(x.unflatten(0, (n, -1)).transpose(1, 2) for x in (q, k, v)).transpose(1, 2).flatten(0, 1)
        parts = zip(q.split(list(lengths)), k.split(list(key_lengths)), v.split(list(key_lengths)), strict=True)
        return torch.cat([call(x.transpose(0, 1)[None] for x in part)[0].transpose(0, 1) for part in parts])

    return attend_sdpa


def _offsets(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    return F.pad(torch.tensor(lengths, dtype=torch.int32).cumsum(0, dtype=torch.int32), (1, 0)).to(device)


def _varlen(function: Callable[..., Any]) -> Attend:
    """Backends with flash-attn's packed signature."""

    def attend_varlen(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
    ) -> torch.Tensor:
        out = function(
            q.contiguous(), k.contiguous(), v.contiguous(), _offsets(lengths, q.device), _offsets(key_lengths, q.device),
            max(lengths), max(key_lengths),
        )  # fmt: skip
        result: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return result

    return attend_varlen


def _flash_attn_4() -> Attend:
    function = importlib.import_module("flash_attn.cute").flash_attn_varlen_func
    return _varlen(
        lambda q, k, v, cu_q, cu_k, most_q, most_k: function(
            q, k, v, cu_seqlens_q=cu_q, cu_seqlens_k=cu_k, max_seqlen_q=most_q, max_seqlen_k=most_k
        )
    )


def _flash_attn_3() -> Attend:
    return _varlen(importlib.import_module("flash_attn_interface").flash_attn_varlen_func)


def _flash_attn_2() -> Attend:
    return _varlen(importlib.import_module("flash_attn").flash_attn_varlen_func)


def _torch_varlen() -> Attend:
    return _varlen(importlib.import_module("torch.nn.attention.varlen").varlen_attn)


def _xformers() -> Attend:
    ops = importlib.import_module("xformers.ops")
    mask = importlib.import_module("xformers.ops.fmha").BlockDiagonalMask

    def attend_xformers(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
    ) -> torch.Tensor:
        bias = mask.from_seqlens(list(lengths), list(key_lengths))
        out: torch.Tensor = ops.memory_efficient_attention(q[None], k[None], v[None], attn_bias=bias)[0]
        return out

    return attend_xformers


@dataclass(frozen=True)
class _Kind:
    make: Callable[[], Attend]
    package: str  # whose version is recorded
    cuda_only: bool = True
    dtypes: tuple[torch.dtype, ...] = _HALF


BACKENDS: dict[str, _Kind] = {
    "flash-attn-4": _Kind(_flash_attn_4, "flash_attn"),
    "flash-attn-3": _Kind(_flash_attn_3, "flash_attn_interface"),
    "sdpa-cudnn": _Kind(lambda: _torch_sdpa(SDPBackend.CUDNN_ATTENTION), "torch"),
    "flash-attn-2": _Kind(_flash_attn_2, "flash_attn"),
    "torch-varlen": _Kind(_torch_varlen, "torch"),
    "sdpa-flash": _Kind(lambda: _torch_sdpa(SDPBackend.FLASH_ATTENTION), "torch"),
    "xformers": _Kind(_xformers, "xformers", dtypes=(*_HALF, torch.float32)),
    "sdpa": _Kind(lambda: _torch_sdpa(None), "torch", False, (*_HALF, torch.float32, torch.float64)),
    "math": _Kind(lambda: _torch_sdpa(SDPBackend.MATH), "torch", False, (*_HALF, torch.float32, torch.float64)),
}
"""Backends by name, in the order in which they were found fastest for these models' shapes on Hopper."""

_AUTO = {
    # cuDNN's kernels win on Hopper and newer (docs/performance.md); elsewhere flash kernels are the safe fast ones.
    True: ("sdpa-cudnn", "flash-attn-3", "flash-attn-2", "sdpa-flash", "sdpa"),
    False: ("flash-attn-2", "sdpa-flash", "sdpa"),
}


@lru_cache(maxsize=16)
def choose(device: torch.device, dtype: torch.dtype, requested: str = "auto") -> Backend:
    """The backend for `dtype` on `device`, after it has given a right answer there.

    Args:
        requested: a name in `BACKENDS`, or "auto": on CUDA the first of a list by architecture that works, on the CPU
            torch's own.

    Raises:
        AttentionError: the backend asked for is unknown, missing, wrong, or not for this device or dtype.
    """
    if requested != "auto":
        if requested not in BACKENDS:
            raise AttentionError(f"attention: expected auto or one of {', '.join(BACKENDS)}, got {requested!r}")
        reason = _refusal(requested, device, dtype)
        if reason:
            raise AttentionError(f"attention: {requested} was asked for, but {reason}")
        return _backend(requested, "asked for by name")
    passed_over: list[str] = []
    hopper = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)
    for name in _AUTO[hopper] if device.type == "cuda" else ("sdpa",):
        reason = _refusal(name, device, dtype)
        if not reason:
            return _backend(name, "; ".join(["first that works here", *passed_over]))
        passed_over.append(f"{name}: {reason}")
    raise AttentionError(f"attention: none works for {dtype} on {device}: {'; '.join(passed_over)}")


def _refusal(name: str, device: torch.device, dtype: torch.dtype) -> str:
    """Why a backend cannot serve here; empty when it can. Runs it on unequal lengths against the formula."""
    kind = BACKENDS[name]
    if kind.cuda_only and device.type != "cuda":
        return f"it needs a CUDA device, not {device}"
    if dtype not in kind.dtypes:
        return f"it does not compute in {str(dtype).removeprefix('torch.')}"
    generator = torch.Generator().manual_seed(0)
    lengths, key_lengths = [65, 3], [7, 130]
    q, k, v = (
        torch.randn(sum(n), 2, 128, generator=generator).to(device, dtype) for n in (lengths, key_lengths, key_lengths)
    )
    try:
        out = _function(name)(q, k, v, lengths, key_lengths).float()
    except Exception as error:  # foreign libraries fail in many ways, an undefined symbol among them
        return f"it does not run ({type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''})"
    expected = _torch_sdpa(SDPBackend.MATH)(q.float(), k.float(), v.float(), lengths, key_lengths)
    off = float((out - expected).abs().max())
    return "" if off < 0.03 else f"its answer is off by {off:.2g}"


@lru_cache(maxsize=16)
def _function(name: str) -> Attend:
    return BACKENDS[name].make()


def _backend(name: str, reason: str) -> Backend:
    package = importlib.import_module(BACKENDS[name].package)
    return Backend(name, str(getattr(package, "__version__", "unknown")), reason)


_active: ContextVar[str] = ContextVar("trellis_attention", default="sdpa")


@contextmanager
def using(backend: Backend) -> Iterator[None]:
    """Makes `backend` the one that `attend` runs inside the block. Without it torch's own choice is taken."""
    token = _active.set(backend.name)
    try:
        yield
    finally:
        _active.reset(token)


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
) -> torch.Tensor:
    """Softmax attention of each entry's queries over its own keys, with scale 1 / sqrt(D).

    Args:
        q: [sum(lengths), H, D], entries one after the other.
        k, v: [sum(key_lengths), H, D].

    Returns:
        [sum(lengths), H, D].
    """
    return _function(_active.get())(q, k, v, lengths, key_lengths)
