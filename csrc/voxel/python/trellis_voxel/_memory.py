"""Device memory for native calls that learn on the way how much they need."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_Allocate = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)


@contextmanager
def device_memory(device: torch.device) -> Iterator[ctypes.c_void_p | None]:
    """The `allocate` argument of the C functions that have one; None on the CPU, which needs none.

    The memory is torch's and is given back at the end of the context.

    Raises:
        torch.OutOfMemoryError: the device had no room for what a call inside asked for.
    """
    if device.type == "cpu":
        yield None
        return
    blocks: list[torch.Tensor] = []
    failures: list[BaseException] = []

    def take(size: int) -> int | None:
        try:
            blocks.append(torch.empty(size, dtype=torch.uint8, device=device))
        except BaseException as error:  # must not be lost in the C frames between here and the caller
            failures.append(error)
            return None
        return blocks[-1].data_ptr()

    callback = _Allocate(take)
    try:
        yield ctypes.cast(callback, ctypes.c_void_p)
    except MemoryError as error:
        if failures:
            raise failures.pop() from error
        raise
    finally:
        blocks.clear()
