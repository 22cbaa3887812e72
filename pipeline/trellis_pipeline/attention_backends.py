"""The libraries that can compute attention, each made to look the same: packed sequences of any lengths in and out.

None copies to or waits for the device, so that a flow's pass can be recorded as a CUDA graph, and none needs contiguous
inputs: queries, keys and values may be slices of one tensor as long as a head's channels lie side by side.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Sequence[int], Sequence[int]], torch.Tensor]

_HALF = (torch.float16, torch.bfloat16)
_ANY = (*_HALF, torch.float32, torch.float64)
MATH_SCORES = 2**23
"""Products of a query and a key that `math` holds at a time: with what torch makes of them and of a head's keys and values,
120 MiB at 49,152 tokens (`benchmarks/attention.py --backends math`)."""


def _torch_sdpa(kernel: SDPBackend | None) -> Attend:
    """torch's own attention: one batched call where lengths are equal, else one call an entry."""

    def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if k.shape[1] == 1:  # one key has all the weight; cuDNN's kernels refuse such a call
            return v.expand(-1, q.shape[1], -1, -1)
        if q.shape[1] == 0:
            return q
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        if kernel is None:
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        with sdpa_kernel([kernel]):
            return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    def attend_sdpa(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
    ) -> torch.Tensor:
        if batch := _batched(q, k, v, lengths, key_lengths):
            return call(*batch).flatten(0, 1)
        parts = zip(q.split(list(lengths)), k.split(list(key_lengths)), v.split(list(key_lengths)), strict=True)
        return torch.cat([call(a[None], b[None], c[None])[0] for a, b, c in parts])

    return attend_sdpa


def _math() -> Attend:
    """The formula by torch's plain kernels, some queries of one head at a time: all scores at once would take
    116 GB at 49,152 tokens and 12 heads in float32, which no plan counts."""
    attend_sdpa = _torch_sdpa(SDPBackend.MATH)

    def attend_math(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
    ) -> torch.Tensor:
        if len(q) * max(key_lengths) * q.shape[1] <= MATH_SCORES:
            return attend_sdpa(q, k, v, lengths, key_lengths)
        out, row, key = torch.empty_like(q), 0, 0
        for n, m in zip(lengths, key_lengths, strict=True):
            rows = max(1, MATH_SCORES // max(m, 1))
            for head in range(q.shape[1]):
                keys, values = (x[key : key + m, head : head + 1] for x in (k, v))
                for i in range(row, row + n, rows):
                    part = slice(i, min(i + rows, row + n))
                    out[part, head : head + 1] = attend_sdpa(
                        q[part, head : head + 1], keys, values, [part.stop - i], [m]
                    )
            row, key = row + n, key + m
        return out

    return attend_math


def _batched(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None:
    """Queries, keys and values as [B, L, H, D]; None where lengths differ."""
    if len(set(lengths)) != 1 or len(set(key_lengths)) != 1:
        return None
    n = len(lengths)
    return q.unflatten(0, (n, -1)), k.unflatten(0, (n, -1)), v.unflatten(0, (n, -1))


def _offsets(lengths: Sequence[int], device: torch.device) -> torch.Tensor:
    """Where each entry begins, and where the last one ends: int32 [B + 1], made on the device."""
    each = [torch.full((1,), n, dtype=torch.int32, device=device) for n in (0, *lengths)]
    return torch.cat(each).cumsum(0, dtype=torch.int32)


def _flash(dense: Callable[..., Any] | None, packed: Callable[..., Any]) -> Attend:
    """Libraries with flash-attn's two functions: for batches [B, L, H, D], and for packed sequences with offsets."""

    def attend_flash(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
    ) -> torch.Tensor:
        if dense and (batch := _batched(q, k, v, lengths, key_lengths)):
            return _first(dense(*batch)).flatten(0, 1)
        return _first(
            packed(
                q, k, v, _offsets(lengths, q.device), _offsets(key_lengths, q.device), max(lengths), max(key_lengths)
            )
        )

    return attend_flash


def _first(out: Any) -> torch.Tensor:
    """The result of libraries some of whose versions return the log-sum-exp beside it."""
    result: torch.Tensor = out[0] if isinstance(out, tuple) else out
    return result


def _flash_attn_4() -> Attend:
    _keep_compiled_kernels()
    # Its compiler (to nvidia-cutlass-dsl 4.7.1) says this of an argument that its own call leaves empty.
    warnings.filterwarnings("ignore", "Argument aux_data .* cannot be converted to a JitArgument", UserWarning)
    module = importlib.import_module("flash_attn.cute")

    def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> Any:
        with torch.cuda.device(q.device):  # it compiles for, and launches on, the current one
            return module.flash_attn_func(q, k, v)

    def packed(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, offsets: torch.Tensor, key_offsets: torch.Tensor, most: int, most_keys: int
    ) -> Any:  # fmt: skip
        with torch.cuda.device(q.device):
            return module.flash_attn_varlen_func(
                q, k, v, cu_seqlens_q=offsets, cu_seqlens_k=key_offsets, max_seqlen_q=most, max_seqlen_k=most_keys
            )

    return _flash(dense, packed)


def _keep_compiled_kernels() -> None:
    """Has flash-attn 4 keep its kernels for later processes; by itself it compiles them anew in each.

    Below `kernel_cache`, for its own default is a folder that others may have made; its variables, where the user has set
    one, stay as they are. Where that folder cannot be made or written nothing is kept. It reads them when it is imported.
    """
    switch, folder = "FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR"
    if switch in os.environ or folder in os.environ:
        return
    try:
        kernel_cache().mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return
    if not os.access(kernel_cache(), os.W_OK):  # as in a home that is mounted read-only: its import would fail
        return
    os.environ |= {switch: "1", folder: str(kernel_cache())}


def kernel_cache() -> Path:
    """Where compiled kernels are kept: ``~/.cache/trellis/flash-attn-4`` (XDG_CACHE_HOME)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trellis" / "flash-attn-4"


def _flash_attn_3() -> Attend:
    module = importlib.import_module("flash_attn_interface")
    return _flash(module.flash_attn_func, module.flash_attn_varlen_func)


def _flash_attn_2() -> Attend:
    module = importlib.import_module("flash_attn")
    return _flash(module.flash_attn_func, module.flash_attn_varlen_func)


def _torch_varlen() -> Attend:
    return _flash(None, importlib.import_module("torch.nn.attention.varlen").varlen_attn)


def _xformers_operator(device: torch.device, dtype: torch.dtype) -> Any:
    """Which of xformers' operators computes: its flash-attn 2 (the package's, else torch's), else its CUTLASS one.

    Left to itself it would also take flash-attn 3 where that is installed, which has a name of its own here.
    """
    fmha = importlib.import_module("xformers.ops.fmha")
    flash = fmha.flash.FwOp
    fits = torch.cuda.get_device_capability(device) >= flash.CUDA_MINIMUM_COMPUTE_CAPABILITY
    return flash if fits and dtype in flash.SUPPORTED_DTYPES and flash.is_available() else fmha.cutlass.FwOp


def _xformers() -> Attend:
    fmha = importlib.import_module("xformers.ops.fmha")

    def packed(lengths: Sequence[int], key_lengths: Sequence[int], device: torch.device) -> Any:
        """Its mask of entries, with offsets made on the device: its own would be copied there."""
        mask = fmha.BlockDiagonalMask.from_seqlens(list(lengths), list(key_lengths), device=torch.device("cpu"))
        mask.q_seqinfo.seqstart = _offsets(lengths, device)
        mask.k_seqinfo.seqstart = _offsets(key_lengths, device)
        return mask

    def attend_xformers(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, lengths: Sequence[int], key_lengths: Sequence[int]
    ) -> torch.Tensor:
        op, forward = _xformers_operator(q.device, q.dtype), fmha.memory_efficient_attention_forward
        if batch := _batched(q, k, v, lengths, key_lengths):
            return _first(forward(*batch, op=op)).flatten(0, 1)
        mask = packed(lengths, key_lengths, q.device)
        return _first(forward(q[None], k[None], v[None], mask, op=op))[0]

    return attend_xformers


@dataclass(frozen=True)
class Kind:
    """What makes a backend.

    Attributes:
        make: imports the library.
        distribution: the package whose version is recorded, and that is installed or not.
        kernel: of a library that has several, the name of the one that serves a device and a dtype; or what made it.
        notice: what its first call costs, said before it.
    """

    make: Callable[[], Attend]
    distribution: str
    cuda_only: bool = True
    dtypes: tuple[torch.dtype, ...] = _HALF
    kernel: Callable[[torch.device, torch.dtype], str] | None = None
    notice: str | None = None

    def version(self) -> str | None:
        """The library's version; None where it is not installed."""
        return str(torch.__version__) if self.distribution == "torch" else _version(self.distribution)


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


BACKENDS: dict[str, Kind] = {
    "flash-attn-4": Kind(
        _flash_attn_4,
        "flash-attn-4",
        kernel=lambda *_: f"compiled by nvidia-cutlass-dsl {_version('nvidia-cutlass-dsl')}",
        notice="importing flash-attn 4 takes some seconds; its kernels are compiled once, in about 10 s, and kept",
    ),
    "flash-attn-3": Kind(_flash_attn_3, "flash-attn-3"),
    "sdpa-cudnn": Kind(lambda: _torch_sdpa(SDPBackend.CUDNN_ATTENTION), "torch"),
    "flash-attn-2": Kind(_flash_attn_2, "flash-attn"),
    "torch-varlen": Kind(_torch_varlen, "torch"),
    "sdpa-flash": Kind(lambda: _torch_sdpa(SDPBackend.FLASH_ATTENTION), "torch"),
    "xformers": Kind(
        _xformers, "xformers", dtypes=(*_HALF, torch.float32), kernel=lambda d, t: str(_xformers_operator(d, t).NAME)
    ),
    "sdpa": Kind(lambda: _torch_sdpa(None), "torch", False, _ANY),
    "math": Kind(_math, "torch", False, _ANY),
}
