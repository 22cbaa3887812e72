"""The native half of this package and its operator namespace, shared by the modules beside it."""

from __future__ import annotations

import ctypes
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
