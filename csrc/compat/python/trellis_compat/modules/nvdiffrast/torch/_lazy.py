"""A tensor that is computed when something first reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_map

__all__: list[str] = []


class LazyTensor(torch.Tensor):
    """float32 of a known shape and device; every operation on it works on what `make` returns, which is called once.

    Rasterising returns derivatives that most callers drop, and that cost more than rasterising does.
    """

    _make: Callable[[], torch.Tensor]
    _value: torch.Tensor | None

    @staticmethod
    def __new__(cls, shape: Sequence[int], device: torch.device, make: Callable[[], torch.Tensor]) -> LazyTensor:
        self: LazyTensor = torch.Tensor._make_wrapper_subclass(cls, tuple(shape), dtype=torch.float32, device=device)
        self._make, self._value = make, None
        return self

    def value(self) -> torch.Tensor:
        if self._value is None:
            self._value = self._make()
            del self._make  # and with it the tensors that it was made from
        return self._value

    # torch's stubs show what it calls, not what may be defined: a class method.
    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        plain, named = tree_map(settled, (args, kwargs or {}))
        return func(*plain, **named)

    def numpy(self, *, force: bool = False) -> Any:
        return self.value().numpy(force=force)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return repr(self.value())


def settled(value: Any) -> Any:
    """`value`, or the plain tensor that it stands for."""
    return value.value() if isinstance(value, LazyTensor) else value
