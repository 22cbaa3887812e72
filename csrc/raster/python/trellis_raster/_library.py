"""The native library of this package, and its namespace of torch operators."""

import ctypes
from pathlib import Path

import torch
from trellis_native import Extension, OpLibrary

EXTENSION = Extension("raster", Path(__file__).parent)
OPS = OpLibrary("trellis_raster")

MAX_SIDE = 32768
MAX_FACES = 16777215


def scratch(verb: str, *sizes: int, device: torch.device) -> torch.Tensor | None:
    """Memory that the native function `verb` needs for problems of `sizes`; None when it needs none."""
    size = ctypes.c_int64()
    EXTENSION.call(f"{verb}_scratch", *sizes, ctypes.addressof(size), device=device)
    return torch.empty(size.value, dtype=torch.uint8, device=device) if size.value else None


def aligned(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, or a copy when it does not begin at a multiple of 16 bytes, as kernels that load float4 need it."""
    return tensor.clone() if tensor.is_cuda and tensor.data_ptr() % 16 else tensor
