"""Argument checks of the extensions. Every message names the argument, what was expected and what came."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch

Shape = Sequence[int | str]


def _words(items: Sequence[object]) -> str:
    texts = [str(i).removeprefix("torch.") for i in items]
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + " or " + texts[-1]


def tensor(
    name: str,
    value: object,
    *,
    dtype: torch.dtype | Sequence[torch.dtype],
    shape: Shape,
    like: torch.Tensor | None = None,
) -> torch.Tensor:
    """Checks that `value` is a tensor of one of `dtype`, of `shape`, on the device of `like`; returns it contiguous.

    Args:
        name: the argument's name, for messages.
        shape: sizes; a string such as "N" accepts any size (and one name given twice must have one size).

    Raises:
        TypeError: not a tensor, or of another dtype.
        ValueError: another shape, or another device than `like`.
    """
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(value).__name__}")
    if value.dtype is not dtype:
        dtypes = [dtype] if isinstance(dtype, torch.dtype) else list(dtype)
        if value.dtype not in dtypes:
            raise TypeError(f"{name}: expected dtype {_words(dtypes)}, got {str(value.dtype).removeprefix('torch.')}")
    if not _fits(value.shape, shape):
        wanted = ", ".join(str(s) for s in shape)
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(value.shape)}")
    if like is not None and value.device != like.device:
        raise ValueError(
            f"{name}: expected a tensor on {like.device} like the other arguments, got one on {value.device}"
        )
    return value.contiguous()


def _fits(have: Sequence[int], want: Shape) -> bool:
    # A loop without helpers: kernels of some microseconds wait for this.
    if len(have) != len(want):
        return False
    named: dict[str, int] = {}
    for size, wanted in zip(have, want, strict=True):
        if isinstance(wanted, str):
            if named.setdefault(wanted, size) != size:
                return False
        elif size != wanted:
            return False
    return True


def positive_int(name: str, value: object, *, minimum: int = 1, maximum: int | None = None) -> int:
    """Checks that `value` is an integer (numpy's too, but no bool) within bounds."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name}: expected an int, got {type(value).__name__}")
    value = int(value)
    if value < minimum or (maximum is not None and value > maximum):
        bound = f"at least {minimum}" if maximum is None else f"in [{minimum}, {maximum}]"
        raise ValueError(f"{name}: expected {bound}, got {value}")
    return value


def number(name: str, value: object, *, minimum: float | None = None, maximum: float | None = None) -> float:
    """Checks that `value` is a finite real number (numpy's too, but no bool) within bounds (inclusive)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    if (minimum is not None and value < minimum) or (maximum is not None and value > maximum):
        bound = f"of at least {minimum}" if maximum is None else f"in [{minimum}, {maximum}]"
        raise ValueError(f"{name}: expected a number {bound}, got {value}")
    return value


def choice(name: str, value: object, options: Sequence[str]) -> str:
    """Checks that `value` is one of `options`."""
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name}: expected {_words([repr(o) for o in options])}, got {value!r}")
    return value


def mesh(vertices: object, faces: object) -> tuple[torch.Tensor, torch.Tensor]:
    """Checks a triangle mesh: vertices float32 [V, 3], faces int32 or int64 [F, 3] with indices in [0, V).

    Returns both contiguous, faces as int32. Reads the largest and smallest index, so it synchronises on CUDA.
    """
    v = tensor("vertices", vertices, dtype=torch.float32, shape=["V", 3])
    f = tensor("faces", faces, dtype=[torch.int32, torch.int64], shape=["F", 3], like=v)
    if f.numel():
        low, high = (int(x) for x in torch.aminmax(f))
        if low < 0 or high >= len(v):
            raise ValueError(f"faces: expected vertex indices in [0, {len(v)}), got {low} to {high}")
    return v, f.to(torch.int32)
