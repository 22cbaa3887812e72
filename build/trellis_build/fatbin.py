"""Which GPU architectures a library's embedded CUDA code is for, read from the binary itself.

Section ``.nv_fatbin`` is a row of containers, each a header (magic, version, header size, size of what follows)
and entries; an entry's header gives its kind (1 PTX, 2 machine code), its sizes and its architecture. NVIDIA
does not document the format; the layout here was established on the output of nvcc 13.0 and clang 19 with
CUDA 12.4, and the tests check it against files built for known architectures.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from . import elf
from .errors import BuildError

_MAGIC = 0xBA55ED50
_CONTAINER = struct.Struct("<IHHQ")  # magic, version, header size, size
_ENTRY = struct.Struct("<HHIQIIHHI")  # kind, unknown, header size, size, compressed size, unknown, minor, major, arch
_KINDS = {1: "compute", 2: "sm"}


def architectures(library: Path) -> tuple[str, ...]:
    """Architectures in `library`, as sm_XX and compute_XX, each once; empty when it holds no GPU code.

    Raises:
        BuildError: the section is there but cannot be understood.
    """
    data = elf.section(library, ".nv_fatbin")
    return parse(data, str(library)) if data else ()


def parse(data: bytes, name: str) -> tuple[str, ...]:
    """The architectures in the contents of a ``.nv_fatbin`` section."""
    found: set[tuple[int, str]] = set()
    place = 0
    while place + _CONTAINER.size <= len(data):
        magic, _, header, size = _CONTAINER.unpack_from(data, place)
        if magic != _MAGIC:  # containers are aligned to 8 bytes, with zeros between
            place += 8
            continue
        end = place + header + size
        if end > len(data):
            raise BuildError(f"{name}: a container of GPU code at byte {place} reaches past its section")
        place += header
        while place + _ENTRY.size <= end:
            kind, _, entry_header, entry_size, _, _, _, _, architecture = _ENTRY.unpack_from(data, place)
            if entry_header < _ENTRY.size:
                raise BuildError(f"{name}: an entry of GPU code at byte {place} has a header of {entry_header} bytes")
            if kind in _KINDS:
                found.add((architecture, f"{_KINDS[kind]}_{architecture}"))
            place += entry_header + entry_size
        place = end
    return order(text for _, text in found)


def order(items: Iterable[str]) -> tuple[str, ...]:
    """Machine code first, by number, then PTX."""
    return tuple(sorted(items, key=lambda t: (t.startswith("compute"), int("".join(filter(str.isdigit, t))))))
