"""One attention for all models: packed sequences of any lengths, over a backend that is chosen once and recorded.

`choose` picks a backend for a device and a dtype and proves it on a small known answer; `using` makes it the one that
`attend` runs. A backend that was asked for by name and is missing is an error, never a reason to take another; one
that would be taken by itself, is installed and does not work is passed over with a warning.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import torch

from .attention_backends import BACKENDS, Attend


@dataclass(frozen=True)
class Backend:
    """A way to compute attention.

    Attributes:
        name: as in `BACKENDS`.
        version: of the library that computes it.
        reason: why it was chosen, for the manifest.
        broken: backends that stand before it in the order, are installed and do not work, and why.
    """

    name: str
    version: str
    reason: str
    broken: tuple[str, ...] = ()


class AttentionError(ValueError):
    """An attention backend that was asked for cannot be had."""


_HOPPER = ("flash-attn-3", "sdpa-cudnn", "flash-attn-2", "sdpa-flash", "sdpa")
"""As they were timed on this architecture, `benchmarks/attention.py` and docs/performance.md."""
_NEWER = ("sdpa-cudnn", "flash-attn-2", "sdpa-flash", "sdpa")
"""Not timed. flash-attn 3 is for Hopper alone."""
_AMPERE = ("flash-attn-2", "sdpa-flash", "sdpa")


def order(device: torch.device) -> tuple[str, ...]:
    """The backends that "auto" tries on a device, first the one that was found fastest there.

    Not among them: torch-varlen and xformers, which run the kernels of torch or of flash-attn 2 with more work for the
    host, math, and flash-attn 4: on Hopper it is no faster than flash-attn 3, and what it gains on cuDNN in an asset
    (0.2 to 0.8 s) is less than its import takes (docs/performance.md); on newer cards, for which it is made, it is not timed.
    """
    if device.type != "cuda":
        return ("sdpa",)
    major = torch.cuda.get_device_capability(device)[0]
    return _HOPPER if major == 9 else _NEWER if major > 9 else _AMPERE


def notice(device: torch.device, requested: str = "auto") -> str | None:
    """What a user should read before `choose`, which runs a library for the first time: that it may take long."""
    names = order(device) if requested == "auto" else (requested,)
    first = next((kind for n in names if (kind := BACKENDS.get(n)) and kind.version() is not None), None)
    return first.notice if first and device.type == "cuda" else None


def require_backend(requested: str) -> None:
    """Raises AttentionError where `requested` is neither "auto" nor a name in `BACKENDS`."""
    if requested != "auto" and requested not in BACKENDS:
        raise AttentionError(f"attention: expected auto or one of {', '.join(BACKENDS)}, got {requested!r}")


@lru_cache(maxsize=16)
def choose(
    device: torch.device, dtype: torch.dtype, requested: str = "auto", widths: tuple[int, ...] = (128,)
) -> Backend:
    """The backend for `dtype` on `device`, after it has given right answers there.

    Args:
        requested: a name in `BACKENDS`, or "auto": the first of `order(device)` that works. A library that is installed
            but does not work is passed over with a RuntimeWarning and recorded in the result.
        widths: channels of a head, of each model that will run: some libraries, or builds of them, know a few alone.

    Raises:
        AttentionError: the backend asked for is unknown, missing, wrong, or not for this device or dtype.
    """
    if requested != "auto":
        require_backend(requested)
        reason = _refusal(requested, device, dtype, widths)
        if reason:
            raise AttentionError(f"attention: {requested} was asked for, but {reason}")
        return _backend(requested, device, dtype, "asked for by name")
    passed_over: list[str] = []
    broken: list[str] = []
    for name in order(device):
        reason = _refusal(name, device, dtype, widths)
        if not reason:
            for line in broken:
                warnings.warn(f"attention: {line}; {name} is used", RuntimeWarning, stacklevel=2)
            return _backend(
                name, device, dtype, "; ".join(["first that works here", *passed_over, *broken]), tuple(broken)
            )
        kind = BACKENDS[name]
        failed = kind.version() is not None and dtype in kind.dtypes
        (broken if failed else passed_over).append(f"{name}: {reason}")
    raise AttentionError(f"attention: none works for {dtype} on {device}: {'; '.join([*passed_over, *broken])}")


_PROOF = (((260, 3), (7, 130)), ((34, 34), (130, 130)))
"""Lengths of queries and of keys; more queries than a tile holds, for below that libraries take, and compile, another kernel."""


def _refusal(name: str, device: torch.device, dtype: torch.dtype, widths: tuple[int, ...] = (128,)) -> str:
    """Why a backend cannot serve here; empty when it can. Runs it on unequal and on equal lengths against the formula."""
    kind = BACKENDS[name]
    if kind.cuda_only and device.type != "cuda":
        return f"it needs a CUDA device, not {device}"
    if dtype not in kind.dtypes:
        return f"it does not compute in {str(dtype).removeprefix('torch.')}"
    version = kind.version()
    has = f"{kind.distribution} {version} is installed but" if version else f"{kind.distribution} is not installed:"
    try:
        function = _function(name)
    except Exception as error:  # foreign libraries fail in many ways, an undefined symbol among them
        return f"{has} it cannot be imported ({type(error).__name__}: {_short(error)})"
    generator = torch.Generator().manual_seed(0)
    for width, (lengths, key_lengths) in product(widths, _PROOF):
        q, k, v = (
            torch.randn(sum(n), 2, width, generator=generator).to(device, dtype)
            for n in (lengths, key_lengths, key_lengths)
        )
        try:
            out = function(q, k, v, lengths, key_lengths).float()
        except Exception as error:  # in many ways here, too
            return f"{has} it does not run with {width} channels a head ({type(error).__name__}: {_short(error)})"
        expected = _function("math")(q.float(), k.float(), v.float(), lengths, key_lengths)
        off = float((out - expected).abs().max())
        if not off < 0.03:
            return f"{has} its answer with {width} channels a head is off by {off:.2g}"
    return ""


def _short(error: Exception, most: int = 240) -> str:
    """An error's text on one line: how it begins and, if that is long, how it ends, where xformers gives its reasons."""
    text = " ".join(str(error).split())
    return text if len(text) <= most else f"{text[: most // 3]} ... {text[-most * 2 // 3 :]}"


@lru_cache(maxsize=16)
def _function(name: str) -> Attend:
    return BACKENDS[name].make()


def _backend(name: str, device: torch.device, dtype: torch.dtype, reason: str, broken: tuple[str, ...] = ()) -> Backend:
    kind = BACKENDS[name]
    text = kind.version() or "unknown"
    if kind.kernel:
        text += f" ({kind.kernel(device, dtype)})"
    return Backend(name, text, reason, broken)


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
        q: [sum(lengths), H, D], entries one after the other. An entry may have no queries.
        k, v: [sum(key_lengths), H, D]; an entry with queries has at least one key.

    Returns:
        [sum(lengths), H, D].

    Raises:
        ValueError: the lengths are not those of the tensors, or queries have no key.
    """
    if sum(lengths) != len(q) or not sum(key_lengths) == len(k) == len(v) or len(lengths) != len(key_lengths):
        raise ValueError(
            f"attention: lengths {list(lengths)} and {list(key_lengths)} are not those of {len(q)} queries, {len(k)} keys "
            f"and {len(v)} values"
        )
    if any(n < 0 or (n and m < 1) for n, m in zip(lengths, key_lengths, strict=True)):
        raise ValueError(
            f"attention: an entry has queries and no key, or fewer than none; lengths {list(lengths)}, {list(key_lengths)}"
        )
    if len(q) == 0:
        return torch.empty_like(q)
    return _function(_active.get())(q, k, v, lengths, key_lengths)
