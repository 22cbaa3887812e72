"""Is a library what its header and its flavour promise? Asked of every library before a build counts as done."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import elf, fatbin

# The C library and the loader, nothing else: the C++ runtime is inside.
SYSTEM_LIBRARIES = frozenset(
    (
        "libc.so.6",
        "libm.so.6",
        "libdl.so.2",
        "librt.so.1",
        "libpthread.so.0",
        "ld-linux-x86-64.so.2",
        "ld-linux-aarch64.so.1",
    )
)
_EVERY_LIBRARY = ("last_error", "version", "abi", "set_num_threads")
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DECLARED = re.compile(r"^[ \t]*TK_API\b[^;()]*?(\w+)\s*\(", re.MULTILINE)
_LOAD = """
import ctypes, sys
path, prefix, *before = sys.argv[1:]
for library in before:
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
library = ctypes.CDLL(path)
abi = getattr(library, prefix + "abi")
abi.restype, abi.argtypes = ctypes.c_char_p, []
print(abi().decode())
"""


@dataclass(frozen=True)
class LibraryFacts:
    """What the build report says of one library."""

    flavour: str
    exports: tuple[str, ...]
    needed: tuple[str, ...]
    glibc: tuple[int, int]
    machine: str
    architectures: tuple[str, ...]  # read back from the binary; the processor for the CPU flavour
    size: int
    flags: str  # compiler flags that shape it, as its note says


def declared_functions(header: Path) -> set[str]:
    """Names of the functions that a C header marks TK_API."""
    return set(_DECLARED.findall(_COMMENT.sub(" ", header.read_text(encoding="utf-8"))))


def inspect(library: Path, flavour: str) -> LibraryFacts:
    """The facts of a built library, which has the note of its build beside it."""
    facts = elf.read(library)
    return LibraryFacts(
        flavour=flavour,
        exports=tuple(sorted(facts.exports)),
        needed=facts.needed,
        glibc=facts.glibc_floor,
        machine=facts.machine,
        architectures=(facts.machine,) if flavour == "cpu" else fatbin.architectures(library),
        size=library.stat().st_size,
        flags=str(json.loads(library.with_suffix(".json").read_text(encoding="utf-8"))["flags"]),
    )


def problems(
    library: Path,
    facts: LibraryFacts,
    *,
    extension: str,
    header: Path,
    abi: str,
    architectures: tuple[str, ...],
    allowed: frozenset[str] = frozenset(),
    load_before: tuple[Path, ...] = (),
) -> list[str]:
    """Everything wrong with a library; empty when it may ship.

    Args:
        header: the C header; the CPU library must export exactly its functions, a CUDA library some of them.
        abi: SHA-256 of the header, which the library must report.
        architectures: what the CUDA library was asked to hold.
        allowed: libraries it may need beyond the C library.
        load_before: libraries that the loader must find in the process, as torch would have brought them.
    """
    declared, exports = declared_functions(header), set(facts.exports)
    found = []
    if extra := sorted(exports - declared):
        found.append(f"exports what {header.name} does not declare: {', '.join(extra)}")
    if facts.flavour == "cpu" and (lacking := sorted(declared - exports)):
        found.append(f"does not export what {header.name} declares: {', '.join(lacking)}")
    if foreign := sorted(set(facts.needed) - SYSTEM_LIBRARIES - allowed):
        found.append(f"needs libraries that a user's machine may lack: {', '.join(foreign)}")
    if (runpath := elf.read(library).runpath) is not None:
        found.append(f"tells the loader to search {runpath}")
    if facts.flavour != "cpu":
        # An empty .cu file still leaves a trace for each architecture, so that alone is no proof of a kernel.
        if not facts.architectures or exports <= {f"tk_{extension}_{verb}" for verb in _EVERY_LIBRARY}:
            found.append("offers no operation on the GPU: every extension needs at least one CUDA kernel")
        elif set(facts.architectures) != set(architectures):
            found.append(f"holds code for {', '.join(facts.architectures)}; asked for {', '.join(architectures)}")
    if not found:
        found += _loads(library, f"tk_{extension}_", abi, load_before)
    return [f"{library.name}: {text}" for text in found]


def _loads(library: Path, prefix: str, abi: str, load_before: tuple[Path, ...]) -> list[str]:
    """Loads the library in a process of its own, where a crash is only a message."""
    command = [sys.executable, "-c", _LOAD, str(library), prefix, *map(str, load_before)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        return [f"does not load: {lines[-1] if lines else f'the process ended with {done.returncode}'}"]
    if done.stdout.strip() != abi:
        return [f"reports header {done.stdout.strip()[:12]}, the header is {abi[:12]}"]
    return []
