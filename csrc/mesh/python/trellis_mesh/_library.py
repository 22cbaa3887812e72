"""The native half of this package and its operator namespace, shared by the modules beside it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from trellis_native import Extension, OpLibrary

EXTENSION = Extension("mesh", Path(__file__).parent)
OPS = OpLibrary("trellis_mesh")


def call_with_scratch(verb: str, *arguments: Any, device: torch.device) -> torch.Tensor | None:
    """Calls a function that ends in ``void* scratch, int64_t* scratch_bytes, int device, void* stream``.

    Returns:
        The scratch memory, for states that refer to it; None on the CPU.
    """
    if device.type == "cpu":
        EXTENSION.call(verb, *arguments, None, None, device=device)
        return None
    size = ctypes.c_int64()
    EXTENSION.call(verb, *arguments, None, ctypes.byref(size), device=device)
    scratch = torch.empty(size.value, dtype=torch.uint8, device=device)
    EXTENSION.call(verb, *arguments, scratch, ctypes.byref(size), device=device)
    return scratch


class DeviceMemory:
    """Memory of torch for a C function that asks for it piece by piece, ``void* (*allocate)(int64_t bytes)``.

    The pieces live until `release`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._errors = errors = list[Exception]()
        self._pieces = pieces = list[torch.Tensor]()

        def take(size: int) -> int | None:
            try:
                pieces.append(torch.empty(size, dtype=torch.uint8, device=device))
            except Exception as error:  # no exception may pass through C code
                errors.append(error)
                return None
            return pieces[-1].data_ptr()

        self._function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)(take)

    @property
    def allocate(self) -> ctypes.c_void_p | None:
        """The function to pass; null on the CPU, which allocates by itself."""
        return None if self._device.type == "cpu" else ctypes.cast(self._function, ctypes.c_void_p)

    def release(self) -> None:
        """Gives the pieces back. It has to be said: `ctypes.cast` ties the function into a ring with itself, which keeps all
        that it refers to until the garbage is collected."""
        self._pieces.clear()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """For the call: raises what kept torch from allocating, rather than the code that the C function returns."""
        try:
            yield
        except MemoryError as error:
            raise self._errors[0] if self._errors else error from None
