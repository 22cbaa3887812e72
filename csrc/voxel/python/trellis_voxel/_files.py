"""What the voxel file formats share: whole-file reading, atomic writing, and the checks of what is written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeAlias

import torch
from trellis_native import check

Source: TypeAlias = str | os.PathLike[str] | BinaryIO
"""A path, or a binary file object."""

MAX_BYTES = 1 << 32
"""Default bound on the size of what one file may expand to in memory."""


def read_all(source: Source) -> tuple[str, bytes]:
    """A file's name for messages, and its contents."""
    if isinstance(source, (str, os.PathLike)):
        return str(source), Path(source).read_bytes()
    return str(getattr(source, "name", "file")), source.read()


@contextlib.contextmanager
def writing(target: Source) -> Iterator[BinaryIO]:
    """A binary file to write to. A path gets its new contents whole when the block ends, or keeps what it had."""
    if not isinstance(target, (str, os.PathLike)):
        yield target
        return
    path = Path(os.path.realpath(target))  # a link stays, and what it names is written
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")  # whatever the length of the path's own name
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
            yield file
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def voxels(
    coords: object, attrs: object, *, dtypes: tuple[torch.dtype, ...]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Checks voxels that are to be written, and brings them to the CPU, coords as int32.

    Raises:
        TypeError: another dtype, or a name that is not a string.
        ValueError: other shapes, or coordinates beyond int32.
    """
    c = check.tensor("coords", coords, dtype=[torch.int32, torch.int64], shape=["N", 3]).cpu()
    if c.numel() and (int(c.min()) < -(2**31) or int(c.max()) >= 2**31):
        raise ValueError(f"coords: expected int32 values, got {int(c.min())} to {int(c.max())}")
    if not isinstance(attrs, Mapping):
        raise TypeError(f"attrs: expected a dict of tensors, got {type(attrs).__name__}")
    checked = {}
    for name, value in attrs.items():
        if not isinstance(name, str):
            raise TypeError(f"attrs: expected names to be strings, got {name!r}")
        if not name:
            raise ValueError("attrs: expected names of at least one character, got ''")
        checked[name] = check.tensor(f"attrs[{name!r}]", value, dtype=dtypes, shape=[len(c), "C"]).cpu()
    return c.to(torch.int32), checked
