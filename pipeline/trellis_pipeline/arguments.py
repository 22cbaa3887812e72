"""What a user gives, checked before any work that takes long. Each message begins with the argument's name."""

from __future__ import annotations

import operator
import os
import tempfile
from pathlib import Path
from typing import SupportsIndex

import torch
from trellis_regression.whole import is_stream


def device_of(device: str | torch.device) -> torch.device:
    """A device that is here.

    Raises:
        ValueError: another kind than cpu and cuda, or one that torch does not see.
    """
    try:
        place = torch.device(device)
    except RuntimeError:
        place = None
    if place is None or place.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu, cuda or cuda:N, got {str(device)!r}")
    if place.type == "cuda" and (not torch.cuda.is_available() or (place.index or 0) >= torch.cuda.device_count()):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ValueError(f"device: {place} is not here: torch sees {count} CUDA devices")
    return place


def whole(name: str, value: SupportsIndex, least: int, most: int) -> int:
    """`value`, of whatever type of whole numbers, as an int. Raises ValueError where it is none, or out of range."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        raise ValueError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")
    return number


def name_of(path: str | Path) -> str:
    """What is made of a file is called after it: its name without the suffix, of which what is not Unicode becomes U+FFFD.

    A name on disk may be any bytes, and JSON with half a character in it is refused by many readers of glTF.
    """
    return Path(path).stem.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def home() -> Path:
    """The user's folder; / for one that has none, as in a container that runs under a number alone."""
    try:
        return Path.home()
    except RuntimeError:
        return Path("/")


def require_suffix(option: str, path: Path, suffix: str, what: str) -> None:
    """Raises ValueError where what a command makes would stand under the name of another kind of file."""
    if path.suffix.lower() != suffix:
        raise ValueError(f"{option}: {path} must end in {suffix}, as {what} is what is written")


def require_glb(option: str, path: Path) -> None:
    """`require_suffix` for the file that most commands write."""
    require_suffix(option, path, ".glb", "a GLB")


def require_writable(option: str, path: Path, *, folder: bool = False, stream: bool = False) -> None:
    """Tries, before work that takes long, whether `write_whole` could write `path`; leaves nothing behind.

    Args:
        folder: whether `path` is a folder for files.
        stream: whether it may be a device or a pipe. What is read again when it is written may not.

    Raises:
        ValueError: it could not.
    """
    if path.exists() and path.is_dir() != folder:
        raise ValueError(f"{option}: {path} is a {'file' if folder else 'folder'}")
    if not folder and is_stream(path):
        if not stream:
            raise ValueError(f"{option}: {path} is a device or a pipe, and a file is written")
        if not os.access(path, os.W_OK):
            raise ValueError(f"{option}: {path} may not be written")
        return
    place = path if folder else Path(os.path.realpath(path)).parent  # a link is written through
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ValueError(f"{option}: {path} cannot be written: {error.strerror or error} ({place})") from None
