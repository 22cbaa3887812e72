"""Facts of a shared library: what it exports, what it needs, which glibc, which machine.

A reader of its own, because it is also given damaged files, and there the package for it (pyelftools) can run for
minutes; here every table must lie inside the file and is walked at most once. Format: System V ABI, "Object
Files" and "Dynamic Linking"; symbol versions: Linux Standard Base, "Symbol Versioning". 64-bit little-endian.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .errors import BuildError

_GLIBC = re.compile(r"GLIBC_(\d+)\.(\d+)(\.\d+)?")
# Not a version, but only loaders from this version on accept it.
_GLIBC_FEATURES = {"GLIBC_ABI_DT_RELR": (2, 36)}
_MACHINES = {62: "x86_64", 183: "aarch64", 243: "riscv64"}

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")
_NEED = struct.Struct("<HHIII")  # version, count, file, first auxiliary, next
_NEED_AUX = struct.Struct("<IHHII")  # hash, flags, other, name, next

_SHT_DYNAMIC, _SHT_NOBITS, _SHT_DYNSYM, _SHT_VERNEED = 6, 8, 11, 0x6FFFFFFE
_DT_NULL, _DT_NEEDED, _DT_RPATH, _DT_RUNPATH = 0, 1, 15, 29
_SHN_UNDEF = 0
_VISIBLE_BINDINGS = (1, 2, 10)  # global, weak, GNU unique


class ElfError(BuildError):
    """The file is not a shared library that can be read."""


@dataclass(frozen=True)
class ElfFacts:
    """What a build wants to know of a shared library."""

    machine: str  # "x86_64", "aarch64"
    exports: frozenset[str]  # defined dynamic symbols of global or weak binding
    needed: tuple[str, ...]  # libraries it asks the loader for
    runpath: str | None  # folders it adds to the loader's search
    versions: frozenset[str]  # symbol versions it needs, such as GLIBC_2.34

    @property
    def glibc_floor(self) -> tuple[int, int]:
        """Oldest glibc that has every symbol version needed; (2, 0) when it needs none."""
        return glibc_floor(self.versions)


def glibc_floor(versions: Iterable[str]) -> tuple[int, int]:
    """The largest glibc version among symbol versions."""
    found = [(2, 0)]
    for version in versions:
        if match := _GLIBC.fullmatch(version):
            found.append((int(match[1]), int(match[2])))
        elif version in _GLIBC_FEATURES:
            found.append(_GLIBC_FEATURES[version])
    return max(found)


def read(path: Path) -> ElfFacts:
    """The facts of the shared library `path`.

    Raises:
        ElfError: the file is missing, truncated, damaged, or no shared library.
    """
    file = _File(path)
    dynamic = file.of_type(_SHT_DYNAMIC)
    if dynamic is None:
        raise ElfError(f"{path} is not a shared library (it has no dynamic section)")
    needed, runpath = [], None
    strings = file.linked(dynamic)
    for tag, value in file.table(dynamic, _DYNAMIC):
        if tag == _DT_NULL:
            break
        if tag == _DT_NEEDED:
            needed.append(file.text(strings, value))
        elif tag in (_DT_RPATH, _DT_RUNPATH):
            runpath = file.text(strings, value)
    exports: set[str] = set()
    if (symbols := file.of_type(_SHT_DYNSYM)) is not None:
        names = file.linked(symbols)
        for name, info, _, section, _, _ in file.table(symbols, _SYMBOL):
            if name and info >> 4 in _VISIBLE_BINDINGS and section != _SHN_UNDEF:
                exports.add(file.text(names, name))
    return ElfFacts(
        machine=_MACHINES.get(file.machine, f"machine {file.machine}"),
        exports=frozenset(exports),
        needed=tuple(needed),
        runpath=runpath,
        versions=frozenset(_versions(file)),
    )


def section(path: Path, name: str) -> bytes | None:
    """The contents of one section, or None where the file has no such section."""
    file = _File(path)
    return next((file.contents(s) for s in file.sections if s.name == name), None)


@dataclass(frozen=True)
class _Section:
    name: str
    type: int
    offset: int
    size: int
    link: int


class _File:
    """An ELF file in memory. Each access is checked against the file's size."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._data = path.read_bytes()
        except OSError as error:
            raise ElfError(f"{path}: {error.strerror or error}") from None
        if self._data[:4] != b"\x7fELF":
            raise self._bad("it does not begin as one")
        if self._data[4:6] != b"\x02\x01":
            raise self._bad("only 64-bit little-endian files are")
        header = self._unpack(_HEADER, 0)
        self.machine = int(header[2])
        table, size, count, names = header[6], header[11], header[12], header[13]
        if size != _SECTION.size or count == 0:
            raise self._bad("it has no section table")
        raw = [self._unpack(_SECTION, table + i * size) for i in range(count)]
        if names >= count:
            raise self._bad("its section names are missing")
        where = _Section("", raw[names][1], raw[names][4], raw[names][5], 0)
        self.sections = [_Section(self.text(where, r[0]), r[1], r[4], r[5], r[6]) for r in raw]

    def _bad(self, why: str) -> ElfError:
        return ElfError(f"{self._path} is not a readable ELF file: {why}")

    def _unpack(self, layout: struct.Struct, offset: int) -> tuple[int, ...]:
        if offset + layout.size > len(self._data):
            raise self._bad(f"it ends at byte {len(self._data)}, inside a table at byte {offset}")
        return layout.unpack_from(self._data, offset)

    def of_type(self, kind: int) -> _Section | None:
        return next((s for s in self.sections if s.type == kind), None)

    def linked(self, section: _Section) -> _Section:
        """The string table of `section`."""
        if section.link >= len(self.sections):
            raise self._bad(f"section {section.name} names string table {section.link} of {len(self.sections)}")
        return self.sections[section.link]

    def contents(self, section: _Section) -> bytes:
        if section.type == _SHT_NOBITS:
            return b""
        if section.offset + section.size > len(self._data):
            raise self._bad(f"section {section.name} reaches past its end")
        return self._data[section.offset : section.offset + section.size]

    def table(self, section: _Section, layout: struct.Struct) -> Iterator[tuple[int, ...]]:
        data = self.contents(section)
        return layout.iter_unpack(data[: len(data) // layout.size * layout.size])

    def text(self, strings: _Section, offset: int) -> str:
        end = min(strings.offset + strings.size, len(self._data))
        start = strings.offset + offset
        stop = self._data.find(b"\0", start, end) if start < end else -1
        if stop < 0:
            raise self._bad(f"a name at byte {start} has no end")
        return self._data[start:stop].decode("utf-8", "replace")


def _versions(file: _File) -> Iterator[str]:
    """Symbol versions that the file needs, from its chain of chains; neither can be longer than the section."""
    section = file.of_type(_SHT_VERNEED)
    if section is None:
        return
    data, strings = file.contents(section), file.linked(section)
    place = 0
    for _ in range(len(data) // _NEED.size):
        if place + _NEED.size > len(data):
            return
        _, count, _, auxiliary, following = _NEED.unpack_from(data, place)
        inside = place + auxiliary
        for _ in range(min(count, len(data) // _NEED_AUX.size)):
            if inside + _NEED_AUX.size > len(data):
                return
            _, _, _, name, step = _NEED_AUX.unpack_from(data, inside)
            yield file.text(strings, name)
            inside += step
        if following == 0:
            return
        place += following
