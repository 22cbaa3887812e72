"""Which GPUs a library's embedded code is for, and which GPU can run it.

Section ``.nv_fatbin`` is a row of containers, each a header and entries whose headers give their kind (1 PTX, 2
machine code) and architecture. NVIDIA does not document the format; the layout was established on the output of
nvcc 13.0 and clang 19. Only headers are read, so a gigabyte of code costs a few thousand page reads.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterable

_MAGIC = 0xBA55ED50
_MAGIC_BYTES = struct.pack("<I", _MAGIC)
_CONTAINER = struct.Struct("<IHHQ")  # magic, version, header size, size
_ENTRY = struct.Struct("<HHIQIIHHI")  # kind, ?, header size, size, compressed size, ?, minor, major, architecture
_FLAGS_AT = 40  # of an entry's header, 8 bytes
# Flags of an entry whose code is for one GPU (sm_90a) or for one family of GPUs (sm_100f); the number is that of both.
_SUFFIXES = {1 << 20: "a", 1 << 21: "f"}
_KINDS = {1: "compute", 2: "sm"}


class FatbinError(Exception):
    """The section is there, but it is not laid out as known."""


def architectures(data: mmap.mmap | bytes, start: int, end: int) -> tuple[str, ...]:
    """The architectures in the section from `start` to `end`: machine code (sm_XX) first, then PTX (compute_XX)."""
    found: set[tuple[bool, int, str]] = set()
    place = start
    while place + _CONTAINER.size <= end:
        magic, _, header, size = _CONTAINER.unpack_from(data, place)
        if magic != _MAGIC:  # zeros up to the next multiple of 8
            place = data.find(_MAGIC_BYTES, place + 1, end)
            if place < 0:
                break
            continue
        stop = place + header + size
        if stop > end or header < _CONTAINER.size:
            raise FatbinError(f"a container of GPU code at byte {place} reaches past its section")
        place += header
        while place + _ENTRY.size <= stop:
            kind, _, entry_header, entry_size, _, _, _, _, architecture = _ENTRY.unpack_from(data, place)
            if entry_header < _ENTRY.size:
                raise FatbinError(f"an entry of GPU code at byte {place} has a header of {entry_header} bytes")
            if kind in _KINDS:
                flags = 0
                if entry_header >= _FLAGS_AT + 8 and place + _FLAGS_AT + 8 <= stop:
                    flags = int.from_bytes(data[place + _FLAGS_AT : place + _FLAGS_AT + 8], "little")
                suffix = next((s for bit, s in _SUFFIXES.items() if flags & bit), "")
                found.add((kind == 1, architecture, suffix))
            place += entry_header + entry_size
        place = stop
    return tuple(f"{'compute' if is_ptx else 'sm'}_{number}{suffix}" for is_ptx, number, suffix in sorted(found))


def runs_on(have: Iterable[str], capability: tuple[int, int]) -> str | None:
    """What of `have` a GPU of compute capability `capability` runs, or None.

    Machine code runs on GPUs of its own major version and an equal or higher minor one; PTX is compiled by the driver
    for any GPU of its version or later (CUDA C++ Programming Guide, "Compute Capabilities"). A suffix "a" binds the
    code to exactly one capability, "f" to the later ones of its major version too, for PTX as for machine code.
    """
    device = capability[0] * 10 + capability[1]
    best: tuple[bool, int, str] | None = None
    for text in have:
        match = re.fullmatch(r"(sm|compute)_(\d+)([af]?)", text)
        if match is None:
            continue
        number, is_machine = int(match[2]), match[1] == "sm"
        if match[3] == "a":
            fits = number == device
        elif is_machine or match[3] == "f":
            fits = number // 10 == device // 10 and number <= device
        else:
            fits = number <= device
        if fits and (best is None or (is_machine, number, text) > best):
            best = (is_machine, number, text)
    return best[2] if best else None
