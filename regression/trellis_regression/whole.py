"""Files that are whole or not there, whatever ends the process that writes them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

_LONGEST = 255  # bytes of a file's name
_TOKEN = 6
# What is written there goes to whoever reads it, file or not (`--json /dev/stdout > FILE`).
_STREAMS = tuple(map(Path, ("/dev", "/dev/fd", "/proc/self/fd")))


def write_whole(path: Path, write: Callable[[Path], object], *, sync: bool = False) -> None:
    """Lets `write` fill a file beside `path` and renames it: `path` is whole or as it was.

    A symbolic link stays, and what it names is written. A device or a pipe is written to directly.

    Args:
        sync: wait until the disk has it, so that a machine that stops then has the old file or the new one.
    """
    if is_stream(path):
        write(path)
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Named before it is there: an interrupt at any moment finds what to remove.
    temporary = path.with_name(f"{beginning(path.name)}{secrets.token_hex(_TOKEN)}")
    try:
        temporary.touch(exist_ok=False)
        write(temporary)
        if sync:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_stream(path: Path) -> bool:
    """Whether a path is a device, a pipe or an open file of this process, which nothing may be put in place of."""
    return path.exists() and not path.is_dir() and (not path.is_file() or path.absolute().parent in _STREAMS)


def beginning(name: str) -> str:
    """How the temporary files of a file of that name begin; 12 hexadecimal digits follow."""
    return f".{os.fsdecode(os.fsencode(name)[: _LONGEST - 2 * _TOKEN - 2])}."
