"""From one member's sources to one wheel: its own build backend, then checks, then the reproducible packing."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from . import checks, shell, wheels
from .checks import LibraryFacts
from .errors import BuildError
from .layout import Checkout, Member, digest_files, member_sources
from .machine import cores
from .toolchains import Toolchain

# Called in the member's folder, as PEP 517 says; prints the wheel's name last.
_HOOK = "import importlib,json,sys; b=importlib.import_module(sys.argv[1]); print('\\n'+b.build_wheel(sys.argv[2],json.loads(sys.argv[3])))"
# A change in these changes what a wheel holds or what is known of it.
_SHAPING = ("compile.py", "checks.py", "elf.py", "fatbin.py", "wheels.py")
_KEEP = 4


@dataclass(frozen=True)
class Settings:
    """What besides the sources decides a wheel's contents."""

    epoch: int
    tools: str  # digest of the lock that the backends come from
    cxx: str  # the C++ compiler's own description
    toolchain: Toolchain | None

    def key(self, member: Member) -> str:
        """Digest of the settings that matter for `member`."""
        own = [self.epoch, self.tools]
        if member.extension:
            chain = self.toolchain
            own += [self.cxx, [chain.identity, chain.flags, chain.libraries, chain.fixed_names] if chain else None]
        return hashlib.sha256(json.dumps(own).encode()).hexdigest()


@dataclass(frozen=True)
class Built:
    """A wheel and what is known of it."""

    member: str
    wheel: str
    sha256: str
    seconds: float
    libraries: tuple[LibraryFacts, ...] = field(default_factory=tuple)


def cxx_compiler() -> str:
    """What the C++ compiler that CMake will find says of itself, and flags that the environment gives it.

    Raises:
        BuildError: there is none.
    """
    command = os.environ.get("CXX") or next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if command is None:
        raise BuildError(
            "no C++ compiler was found (c++, g++, clang++ or $CXX). Debian and Ubuntu: `apt-get install g++`"
        )
    try:
        done = subprocess.run([*command.split(), "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise BuildError(f"the C++ compiler {command!r} does not run; install g++, or correct $CXX") from None
    # CMake takes these up as well, so they belong to what the compiler is.
    given = "".join(f", {name}={os.environ[name]}" for name in ("CXXFLAGS", "LDFLAGS") if os.environ.get(name))
    return done.stdout.splitlines()[0].strip() + given


def inputs(checkout: Checkout, member: Member, settings: Settings) -> str:
    """Digest of everything that decides the wheel of `member`."""
    here = Path(__file__).parent
    sources = digest_files(member_sources(checkout, member), checkout.root)
    own = digest_files([here / name for name in _SHAPING], here)
    return hashlib.sha256(f"{sources} {own} {settings.key(member)}".encode()).hexdigest()


def build(checkout: Checkout, member: Member, settings: Settings) -> tuple[Path, Built, bool]:
    """The wheel of `member`, from the cache if nothing that decides it has changed: (file, facts, cached).

    Raises:
        BuildError: it does not build, or a library is not what it promises.
    """
    store = checkout.out / "wheels" / member.name
    folder = store / inputs(checkout, member, settings)[:20]
    if (known := _read(folder)) is not None:
        os.utime(folder)
        return folder / known.wheel, known, True
    shutil.rmtree(folder, ignore_errors=True)
    with shell.step(_label(member, settings)) as state:
        raw = _backend(checkout, member, settings)
        libraries = _check(member, raw, settings) if member.extension else ()
        tag = wheels.manylinux_tag((f.glibc for f in libraries), libraries[0].machine) if libraries else None
        path = wheels.repack(raw, folder, epoch=settings.epoch, tag=tag)
        shutil.rmtree(raw.parent)
        state.note = path.name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    built = Built(member.name, path.name, digest, round(state.seconds, 1), libraries)
    (folder / "built.json").write_text(json.dumps(asdict(built), indent=1), encoding="utf-8")
    for old in sorted((f for f in store.iterdir() if f.is_dir()), key=lambda f: f.stat().st_mtime)[:-_KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return path, built, False


def _label(member: Member, settings: Settings) -> str:
    if not member.extension:
        return f"{member.name}: wheel"
    chain = settings.toolchain
    cuda = f" and {chain.flavour} ({', '.join(chain.architectures)})" if chain else ""
    return f"{member.name}: compiling cpu{cuda}"


def _read(folder: Path) -> Built | None:
    """The facts of a cached wheel whose bits are still those."""
    try:
        raw: dict[str, Any] = json.loads((folder / "built.json").read_text(encoding="utf-8"))
        built = Built(**{**raw, "libraries": tuple(map(_facts, raw["libraries"]))})
        content = (folder / built.wheel).read_bytes()
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return built if hashlib.sha256(content).hexdigest() == built.sha256 else None


def _facts(raw: dict[str, Any]) -> LibraryFacts:
    """Facts from their JSON, where tuples became lists."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    return LibraryFacts(**fields)


def _backend(checkout: Checkout, member: Member, settings: Settings) -> Path:
    """The wheel as the member's own backend makes it, in a folder of its own."""
    target = checkout.out / "raw" / member.name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    options: dict[str, str] = {}
    if member.extension:
        chain = settings.toolchain
        flavours = "cpu" + (f";{chain.flavour}" if chain else "")
        options = {"cmake.build-type": "Release", "cmake.define.TRELLIS_FLAVOURS": flavours}
        options |= {f"cmake.define.{k}": v for k, v in (chain.defines() if chain else {}).items()}
        # Shared by all rows: what they have in common, the CPU flavour, is compiled once.
        key = hashlib.sha256(f"{settings.tools} {settings.cxx}".encode()).hexdigest()[:12]
        options["build-dir"] = str(checkout.out / "cmake" / key / str(member.extension))
    out = shell.run(
        [sys.executable, "-c", _HOOK, member.backend, target, json.dumps(options)],
        cwd=member.folder,
        env={
            "SOURCE_DATE_EPOCH": str(settings.epoch),
            "CMAKE_BUILD_PARALLEL_LEVEL": os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(cores())),
            "PYTHONPATH": "",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        },
        log=checkout.out / "logs" / "build" / f"{member.short}.log",
        what=f"building {member.name}",
    )
    return target / out.strip().splitlines()[-1]


def _check(member: Member, wheel: Path, settings: Settings) -> tuple[LibraryFacts, ...]:
    """Facts of the libraries inside a wheel, all of which must be what they promise."""
    package = f"trellis_{member.extension}"
    chain = settings.toolchain
    expected = ["cpu", *([chain.flavour] if chain else [])]
    facts, bad = [], []
    unpacked = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    abi = hashlib.sha256(member.header.read_bytes()).hexdigest()
    if not (unpacked / package / "include" / member.header.name).is_file():
        bad.append(f"{package}/include/{member.header.name} is missing from the wheel")
    present = sorted(p.stem.removeprefix("_") for p in (unpacked / package / "lib").glob("_*.so"))
    if present != sorted(expected):
        bad.append(f"the wheel holds the flavours {', '.join(present) or 'none'}; expected {', '.join(expected)}")
    for flavour in (f for f in expected if f in present):
        library = unpacked / package / "lib" / f"_{flavour}.so"
        facts.append(checks.inspect(library, flavour))
        cuda = chain if flavour != "cpu" else None
        bad += checks.problems(
            library,
            facts[-1],
            extension=str(member.extension),
            header=member.header,
            abi=abi,
            architectures=cuda.architectures if cuda else (),
            allowed=frozenset(cuda.allowed if cuda else ()),
            load_before=cuda.load_before if cuda else (),
        )
        note = library.with_suffix(".json").read_text(encoding="utf-8")
        if re.search(r"[\"' =]/[\w.]", note):
            bad.append(f"{library.stem}.json names a folder of the build machine: {note.strip()}")
    if bad:
        raise BuildError("\n".join(f"    {member.name}: {line}" for line in bad))
    return tuple(facts)
