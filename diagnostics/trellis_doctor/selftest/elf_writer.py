"""Writes small shared libraries for the self-test: headers, symbols and versions, but no code that could run."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

_HEADER_SIZE = 64
_ENTRY_SIZES = {11: 24, 6: 16}  # of symbols and of the dynamic section


class _Strings:
    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


def gpu_code(architectures: Iterable[str]) -> bytes:
    """Contents of .nv_fatbin: one container with an empty entry for each of sm_XX and compute_XX, plain or with a suffix "a" or "f"."""
    entries = b""
    for text in architectures:
        kind, number = text.split("_")
        flags = {"a": 1 << 20, "f": 1 << 21}.get(number[-1], 0)
        is_ptx = kind == "compute"
        head = struct.pack("<HHIQIIHHI", 1 if is_ptx else 2, 0, 64, 8, 0, 0, 0, 0, int(number.rstrip("af")))
        entries += (head.ljust(40, b"\0") + struct.pack("<Q", flags)).ljust(64, b"\0") + b"\0" * 8
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(entries)) + entries


def write(
    path: Path,
    *,
    soname: str | None = None,
    needed: Iterable[str] = (),
    runpath: str | None = None,
    defined: Iterable[str] = (),
    undefined: Iterable[str] = (),
    versions_needed: Mapping[str, Iterable[str]] | None = None,
    versions_defined: Iterable[str] = (),
    code: bytes = b"",
) -> Path:
    """Writes an x86-64 library to `path`."""
    strings = _Strings()
    symbols = b"\0" * 24
    for names, section in ((undefined, 0), (defined, 1)):
        for name in names:
            symbols += struct.pack("<IBBHQQ", strings.add(name), 1 << 4 | 2, 0, section, 0, 0)
    dynamic = [(1, strings.add(n)) for n in needed]
    if soname:
        dynamic.append((14, strings.add(soname)))
    if runpath:
        dynamic.append((29, strings.add(runpath)))
    dynamic_data = b"".join(struct.pack("<qQ", *pair) for pair in [*dynamic, (0, 0)])
    need_data = _needs(strings, versions_needed or {})
    define_data = _defines(strings, list(versions_defined))
    # name, type, contents, index of the string table
    sections = [
        (".dynstr", 3, strings.data, 0),
        (".dynsym", 11, symbols, 1),
        (".dynamic", 6, dynamic_data, 1),
        (".gnu.version_r", 0x6FFFFFFE, need_data, 1),
        (".gnu.version_d", 0x6FFFFFFD, define_data, 1),
        (".nv_fatbin", 1, code, 0),
    ]
    sections = [s for s in sections if s[2]]
    titles = _Strings()
    body, table = b"", b"\0" * 64
    for name, kind, data, link in [*sections, (".shstrtab", 3, b"", 0)]:
        at = titles.add(name)
        data = titles.data if name == ".shstrtab" else data
        body += b"\0" * (-len(body) % 8)
        table += struct.pack(
            "<IIQQQQIIQQ", at, kind, 0, 0, _HEADER_SIZE + len(body), len(data), link, 0, 8, _ENTRY_SIZES.get(kind, 0)
        )
        body += data
    body += b"\0" * (-len(body) % 8)
    count = len(sections) + 2
    magic = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    table_at = _HEADER_SIZE + len(body)
    header = struct.pack("<16sHHIQQQIHHHHHH", magic, 3, 62, 1, 0, 0, table_at, 0, 64, 0, 0, 64, count, count - 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + body + table)
    return path


def _needs(strings: _Strings, needs: Mapping[str, Iterable[str]]) -> bytes:
    data = b""
    for i, (library, versions) in enumerate(needs.items()):
        listed = list(versions)
        following = 16 + 16 * len(listed) if i < len(needs) - 1 else 0
        data += struct.pack("<HHIII", 1, len(listed), strings.add(library), 16, following)
        for j, version in enumerate(listed):
            data += struct.pack("<IHHII", 0, 0, 2 + j, strings.add(version), 16 if j < len(listed) - 1 else 0)
    return data


def _defines(strings: _Strings, versions: list[str]) -> bytes:
    data = b""
    for i, version in enumerate(versions):
        data += struct.pack("<HHHHIII", 1, 0, i + 1, 1, 0, 20, 28 if i < len(versions) - 1 else 0)
        data += struct.pack("<II", strings.add(version), 0)
    return data
