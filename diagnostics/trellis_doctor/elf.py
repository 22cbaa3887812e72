"""Facts of a shared library, read from a memory map: what it defines, needs and lacks.

`build` has a reader of its own that takes whole files into memory and lists every symbol. Here the files are other
people's: libtorch_cpu.so is 400 MB with over 100,000 symbols, and the question is only whether it defines a few
hundred of them. So definitions are looked up in the library's own GNU hash table, as the dynamic loader does it, and
nothing is listed. Every offset is checked, because the file may be cut off or be no library at all.

Formats: System V ABI, "Object Files" and "Dynamic Linking"; Linux Standard Base, "Symbol Versioning"; the GNU hash
section as glibc's loader reads it. 64-bit little-endian.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from . import fatbin

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<qQ")
_NEED = struct.Struct("<HHIII")  # version, count, file, first auxiliary, next
_NEED_AUX = struct.Struct("<IHHII")  # hash, flags, other, name, next
_DEFINED = struct.Struct("<HHHHIII")  # version, flags, index, count, hash, first auxiliary, next
_NOTE = struct.Struct("<III")  # name size, description size, type

_NOBITS, _DYNSYM, _DYNAMIC_SECTION, _NOTE_SECTION = 8, 11, 6, 7
_GNU_HASH, _VERDEF, _VERNEED = 0x6FFFFFF6, 0x6FFFFFFD, 0x6FFFFFFE
_NEEDED, _SONAME, _RPATH, _RUNPATH = 1, 14, 15, 29
_GLOBAL, _WEAK, _UNIQUE = 1, 2, 10
_MACHINES = {62: "x86_64", 183: "aarch64", 243: "riscv64"}
_COMPILER = re.compile(rb"(GCC: \([^)]*\) [\d.]+|(?:[a-z]+ )?clang version [\d.]+)")

NEW_STRING = "__cxx11"
"""In a mangled name: std::string of the C++11 ABI."""
_OLD_STRING = re.compile(r"(?:E|RK|R|PK|P|[bcijlm]|S\d?_)Ss")
"""In a mangled name: the abbreviation Ss of the std::string before it."""


class ElfError(Exception):
    """The file is no shared library that can be read; the text says why."""


@dataclass(frozen=True)
class LibraryFacts:
    """Everything but the definitions, which `defined` looks up."""

    size: int
    machine: str
    soname: str | None
    needed: tuple[str, ...]
    runpath: tuple[str, ...]
    undefined: tuple[str, ...]  # strong references only: a weak one may stay unresolved
    versions_needed: tuple[str, ...]  # GLIBC_2.34, GLIBCXX_3.4.30, ...
    versions_defined: tuple[str, ...]
    architectures: tuple[str, ...]  # sm_XX and compute_XX of embedded GPU code
    gpu_code_damaged: str | None
    build_id: str | None
    compilers: tuple[str, ...]

    def cxx11_abi(self, prefix: re.Pattern[str]) -> bool | None:
        """Which std::string its references that match `prefix` take: C++11's (True), the old one, or none."""
        names = [n for n in self.undefined if prefix.match(n)]
        if any(NEW_STRING in n for n in names):
            return True
        return False if any(_OLD_STRING.search(n) for n in names) else None


@dataclass(frozen=True)
class _Section:
    name_at: int
    type: int
    offset: int
    size: int
    link: int


class ElfFile:
    """An open library. Use as a context manager.

    Raises:
        ElfError: missing, cut off, damaged, or no 64-bit little-endian shared library.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                self.size = path.stat().st_size
                if self.size < _HEADER.size:
                    raise ElfError(f"it is {self.size} bytes long, too short for a library")
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise ElfError(f"it cannot be read: {getattr(error, 'strerror', None) or error}") from None
        try:
            self._read_sections()
        except BaseException:
            self._map.close()
            raise

    def __enter__(self) -> ElfFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._map.close()

    def _read_sections(self) -> None:
        if self._map[:4] != b"\x7fELF":
            begins = bytes(self._map[:16])
            if begins.startswith(b"version https://"):
                raise ElfError("it is a Git LFS pointer, not the library itself")
            raise ElfError("it does not begin as an ELF file")
        if self._map[4:6] != b"\x02\x01":
            raise ElfError("it is not 64-bit little-endian")
        header = _HEADER.unpack_from(self._map, 0)
        if header[1] != 3:
            raise ElfError("it is an ELF file, but no shared library")
        self.machine = _MACHINES.get(header[2], f"machine {header[2]}")
        table, entry, count, names = header[6], header[11], header[12], header[13]
        if count == 0 or entry != _SECTION.size:
            raise ElfError("it has no section table")
        if table + entry * count > self.size:
            raise ElfError(f"it is cut off: {self.size} bytes long, its section table ends at {table + entry * count}")
        self.sections: list[_Section] = []
        for i in range(count):
            raw = _SECTION.unpack_from(self._map, table + i * entry)
            if raw[1] not in (0, _NOBITS) and raw[4] + raw[5] > self.size:
                raise ElfError(f"it is cut off: {self.size} bytes long, a section ends at {raw[4] + raw[5]}")
            self.sections.append(_Section(raw[0], raw[1], raw[4], raw[5], raw[6]))
        self._names = self.sections[names] if names < count else None

    def of_type(self, kind: int) -> _Section | None:
        return next((s for s in self.sections if s.type == kind), None)

    def named(self, name: str) -> _Section | None:
        if self._names is None:
            return None
        return next((s for s in self.sections if s.type != _NOBITS and self.text(self._names, s.name_at) == name), None)

    def linked(self, section: _Section) -> _Section:
        if section.link >= len(self.sections):
            raise ElfError("a section names a string table that does not exist")
        return self.sections[section.link]

    def contents(self, section: _Section) -> bytes:
        return b"" if section.type == _NOBITS else self._map[section.offset : section.offset + section.size]

    def text(self, strings: _Section, offset: int) -> str:
        start, stop = strings.offset + offset, strings.offset + strings.size
        end = self._map.find(b"\0", start, stop) if start < stop else -1
        if end < 0:
            raise ElfError("a name in it has no end")
        return self._map[start:end].decode("utf-8", "replace")

    # Symbols

    def _symbols(self, first: int, stop: int) -> Iterator[tuple[str, int, bool]]:
        """Name, binding and definedness of the dynamic symbols from `first` to before `stop`."""
        table = self.of_type(_DYNSYM)
        if table is None:
            return
        strings = self.linked(table)
        stop = min(stop, table.size // _SYMBOL.size)
        data = self._map[table.offset + first * _SYMBOL.size : table.offset + stop * _SYMBOL.size]
        for name, info, _, section, _, _ in _SYMBOL.iter_unpack(data):
            if name:
                yield self.text(strings, name), info >> 4, section != 0

    def _hash_table(self) -> _HashTable | None:
        section = self.of_type(_GNU_HASH)
        if section is None or section.size < 16:
            return None
        buckets, offset, bloom, shift = struct.unpack_from("<IIII", self._map, section.offset)
        if buckets == 0 or bloom == 0 or 16 + bloom * 8 + buckets * 4 > section.size:
            return None
        return _HashTable(buckets, offset, bloom, shift, section.offset + 16, section.offset + section.size)

    def undefined(self) -> list[str]:
        """Symbols that must come from elsewhere."""
        table = self._hash_table()
        # The hash table covers the end of the symbol table; what is undefined lies before it.
        stop = table.first if table else 1 << 62
        return [name for name, binding, is_defined in self._symbols(0, stop) if binding == _GLOBAL and not is_defined]

    def defined(self, names: Iterable[str]) -> set[str]:
        """Those of `names` that this library defines."""
        try:
            table = self._hash_table()
            if table is not None:
                return {name for name in names if self._looked_up(table, name.encode())}
            visible = (_GLOBAL, _WEAK, _UNIQUE)
            return {n for n, binding, known in self._symbols(0, 1 << 62) if known and binding in visible} & set(names)
        except (struct.error, IndexError) as error:
            raise ElfError(f"its table of symbols is damaged ({error})") from None

    def _looked_up(self, table: _HashTable, name: bytes) -> bool:
        value = 5381
        for byte in name:
            value = (value * 33 + byte) & 0xFFFFFFFF
        (word,) = struct.unpack_from("<Q", self._map, table.at + (value // 64 % table.bloom) * 8)
        if not (word >> (value % 64)) & (word >> ((value >> table.shift) % 64)) & 1:
            return False
        bucket_at = table.at + table.bloom * 8
        (index,) = struct.unpack_from("<I", self._map, bucket_at + value % table.buckets * 4)
        symbols = self.of_type(_DYNSYM)
        if index < table.first or symbols is None:
            return False
        strings = self.linked(symbols)
        chain_at = bucket_at + table.buckets * 4
        while chain_at + (index - table.first) * 4 + 4 <= table.end:
            (link,) = struct.unpack_from("<I", self._map, chain_at + (index - table.first) * 4)
            if link | 1 == value | 1 and (index + 1) * _SYMBOL.size <= symbols.size:
                name_at, _, _, section, _, _ = _SYMBOL.unpack_from(self._map, symbols.offset + index * _SYMBOL.size)
                start = strings.offset + name_at
                if section != 0 and self._map[start : start + len(name) + 1] == name + b"\0":
                    return True
            if link & 1:
                return False
            index += 1
        return False

    # The rest

    def facts(self) -> LibraryFacts:
        """What the library says of itself."""
        dynamic = self.of_type(_DYNAMIC_SECTION)
        if dynamic is None:
            raise ElfError("it has no dynamic section")
        strings = self.linked(dynamic)
        needed: list[str] = []
        runpath: list[str] = []
        soname = None
        data = self.contents(dynamic)
        for tag, value in _DYNAMIC.iter_unpack(data[: len(data) // _DYNAMIC.size * _DYNAMIC.size]):
            if tag == 0:
                break
            if tag == _NEEDED:
                needed.append(self.text(strings, value))
            elif tag == _SONAME:
                soname = self.text(strings, value)
            elif tag in (_RPATH, _RUNPATH):
                runpath += self.text(strings, value).split(":")
        architectures: tuple[str, ...] = ()
        damaged = None
        if (code := self.named(".nv_fatbin")) is not None:
            try:
                architectures = fatbin.architectures(self._map, code.offset, code.offset + code.size)
            except fatbin.FatbinError as error:
                damaged = str(error)
        comment = self.named(".comment")
        compilers = sorted({m.decode() for m in _COMPILER.findall(self.contents(comment))}) if comment else []
        return LibraryFacts(
            size=self.size,
            machine=self.machine,
            soname=soname,
            needed=tuple(needed),
            runpath=tuple(runpath),
            undefined=tuple(self.undefined()),
            versions_needed=tuple(sorted(set(self._versions_needed()))),
            versions_defined=tuple(self._versions_defined()),
            architectures=architectures,
            gpu_code_damaged=damaged,
            build_id=self._build_id(),
            compilers=tuple(compilers),
        )

    def _versions_needed(self) -> Iterator[str]:
        section = self.of_type(_VERNEED)
        if section is None:
            return
        data, strings, place = self.contents(section), self.linked(section), 0
        left = len(data) // _NEED_AUX.size  # a damaged chain may go round in circles
        for _ in range(left):
            if place + _NEED.size > len(data):
                return
            _, count, _, auxiliary, following = _NEED.unpack_from(data, place)
            inside = place + auxiliary
            for _ in range(count):
                if inside + _NEED_AUX.size > len(data) or left == 0:
                    return
                left -= 1
                _, _, _, name, step = _NEED_AUX.unpack_from(data, inside)
                yield self.text(strings, name)
                inside += step
            if following == 0:
                return
            place += following

    def _versions_defined(self) -> Iterator[str]:
        section = self.of_type(_VERDEF)
        if section is None:
            return
        data, strings, place = self.contents(section), self.linked(section), 0
        for _ in range(len(data) // _DEFINED.size):
            if place + _DEFINED.size > len(data):
                return
            auxiliary, following = _DEFINED.unpack_from(data, place)[5:7]
            if place + auxiliary + 8 <= len(data):
                yield self.text(strings, struct.unpack_from("<I", data, place + auxiliary)[0])
            if following == 0:
                return
            place += following

    def _build_id(self) -> str | None:
        for section in self.sections:
            if section.type != _NOTE_SECTION or section.size < _NOTE.size + 4:
                continue
            data = self.contents(section)
            name_size, size, kind = _NOTE.unpack_from(data, 0)
            if kind == 3 and data[12:16] == b"GNU\0" and name_size == 4:
                return data[16 : 16 + size].hex()
        return None


@dataclass(frozen=True)
class _HashTable:
    buckets: int
    first: int  # index of the first symbol it covers
    bloom: int
    shift: int
    at: int  # where its Bloom filter begins
    end: int


def read(path: Path) -> LibraryFacts:
    """The facts of `path`; ElfError where it cannot be read."""
    try:
        with ElfFile(path) as file:
            return file.facts()
    except (struct.error, IndexError) as error:  # a damaged table that no check above foresaw
        raise ElfError(f"a table in it is damaged ({error})") from None
