"""What the tests of every extension share: the contract of a library, and results for any number of threads."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import torch

from ._extension import Extension, Library


def exported_symbols(library: Library) -> set[str]:
    """Functions that a library exports, as ``nm`` of binutils reads them from the file."""
    nm = shutil.which("nm")
    if nm is None:
        raise RuntimeError("nm is missing: install binutils")
    text = subprocess.run(
        [nm, "-D", "--defined-only", str(library.flavour.path)], check=True, capture_output=True, text=True
    )
    return {line.split()[-1].split("@")[0] for line in text.stdout.splitlines()}


def assert_header_matches_cpu_library(extension: Extension) -> None:
    """Every declared function exists in the CPU library, nothing else is exported, and versions agree."""
    library = extension.library(torch.device("cpu"))
    exported, declared = exported_symbols(library), set(extension.functions)
    assert exported == declared, (
        f"only exported: {sorted(exported - declared)}; only declared: {sorted(declared - exported)}"
    )
    assert library.version == library.flavour.version


def bits(value: Any) -> bytes:
    """The exact contents of a tensor, or of a structure of tensors and plain values, for bit-for-bit comparison."""
    if isinstance(value, torch.Tensor):
        head = f"{value.dtype}{list(value.shape)}".encode()
        return head + value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    if isinstance(value, dict):
        return b"".join(str(k).encode() + bits(v) for k, v in sorted(value.items()))
    if isinstance(value, (tuple, list)):
        return b"".join(bits(v) for v in value)
    if hasattr(value, "__dataclass_fields__"):
        return b"".join(bits(getattr(value, name)) for name in value.__dataclass_fields__)
    return repr(value).encode()


def assert_same_bits_for_any_thread_count(
    extension: Extension, operation: Callable[[], Any], threads: tuple[int, ...] = (1, 2, 3, 8)
) -> None:
    """`operation()` gives the same bits twice over and with each number of threads."""
    set_threads = extension.library(torch.device("cpu")).function("set_num_threads")
    expected = bits(operation())
    try:
        for n in threads:
            assert set_threads(ctypes.c_int(n)) == 0
            assert bits(operation()) == expected, f"another result with {n} threads"
    finally:
        set_threads(ctypes.c_int(0))
