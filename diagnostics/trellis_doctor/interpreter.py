"""The inspected interpreter: what it says of itself or, if it cannot start, what lies around it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from .machine import Machine
from .process import Answer, ask, script


class UsageError(Exception):
    """The doctor was asked for something that makes no sense; exit status 2."""


@dataclass(frozen=True)
class Interpreter:
    executable: Path
    version: tuple[int, int, int] | None
    prefix: Path
    folders: tuple[Path, ...]  # where packages are installed, in the order of sys.path
    path: tuple[Path, ...]  # the whole of sys.path, with PYTHONPATH
    include: Path | None
    machine: str | None
    bits: int | None
    is_venv: bool
    trouble: str | None  # why it could not be asked, None where it could
    native: str | None = None  # TRELLIS_NATIVE_DIR when it has started

    @property
    def works(self) -> bool:
        return self.trouble is None

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version)) if self.version else "of unknown version"


def find(given: str | None) -> Path:
    """The executable that `--python` names: a file, a folder of an environment, or a command.

    Raises:
        UsageError: there is no such thing.
    """
    if given is None:
        return Path(sys.executable).absolute()
    path = Path(given).expanduser()
    if path.is_dir():
        # Of an environment, or of a program with one inside: ComfyUI's folder, and that of its portable edition.
        places = ("", ".venv/", "venv/", "python_embeded/", "../python_embeded/")
        names = ("bin/python", "bin/python3", "python.exe", "python")
        for name in (place + name for place in places for name in names):
            # A dangling link is the interpreter of an environment whose base was removed: that is a finding.
            if (path / name).is_file() or (path / name).is_symlink():
                return (path / name).absolute()
        raise UsageError(f"--python {given}: the folder holds no Python (no bin/python in it)")
    if path.is_symlink() and not path.exists():
        return path.absolute()
    if not path.exists():
        found = Machine().which(given) if os.sep not in given else None
        if found is None:
            raise UsageError(f"--python {given}: no such file or command")
        return found.absolute()
    if not os.access(path, os.X_OK):
        raise UsageError(f"--python {given}: not an executable file")
    return path.absolute()


def inspect(executable: Path, machine: Machine, timeout: float = 20) -> Interpreter:
    """Asks the interpreter where its packages are; looks for them around it where it cannot answer."""
    answer = ask([str(executable), "-I", str(script("interpreter"))], machine.env, timeout)
    try:
        if answer.died is None:
            return _from_answer(executable, answer, machine)
        trouble = answer.died
    except (KeyError, TypeError, ValueError):
        trouble = "it does not answer as a Python does"
    if answer.last_words:
        trouble += f" ({answer.last_words})"
    with contextlib.suppress(OSError):
        says = machine.output([str(executable), "--version"], timeout=min(timeout, 5)).strip().split("\n")[0]
        trouble += f"; it calls itself {says[:100]!r}" if says else ""
    return _from_layout(executable, trouble)


def _from_answer(executable: Path, answer: Answer, machine: Machine) -> Interpreter:
    data = answer.data
    listed = [Path(p) for p in data["path"] if p]
    extra = [Path(p) for p in machine.env.get("PYTHONPATH", "").split(os.pathsep) if p]
    whole = tuple(dict.fromkeys([*extra, *listed, *(Path(p) for p in data["user"])]))
    known = {Path(p) for p in [data["purelib"], data["platlib"], *data["user"]]}
    folders = [p for p in whole if p in known or p.name in ("site-packages", "dist-packages")]
    folders += [p for p in sorted(known) if p not in folders]
    major, minor, micro = data["version"]
    return Interpreter(
        executable=executable,
        version=(int(major), int(minor), int(micro)),
        prefix=Path(data["prefix"]),
        # lib64 is often a link to lib: one folder, not two.
        folders=tuple({f.resolve(): f for f in reversed(folders) if f.is_dir()}.values())[::-1],
        path=whole,
        include=Path(data["include"]),
        machine=data["machine"],
        bits=int(data["bits"]),
        is_venv=bool(data["venv"]),
        trouble=None,
        native=data.get("native"),
    )


def _from_layout(executable: Path, trouble: str) -> Interpreter:
    """An interpreter that cannot start: a virtual environment or installation has a known layout."""
    prefix = executable.parent.parent if executable.parent.name in ("bin", "Scripts") else executable.parent
    found = sorted(prefix.glob("lib/python3.*/site-packages")) + sorted(prefix.glob("Lib/site-packages"))
    version = None
    for folder in found:
        if match := re.fullmatch(r"python3\.(\d+)", folder.parent.name):
            version = (3, int(match[1]), 0)
    return Interpreter(
        executable=executable,
        version=version,
        prefix=prefix,
        folders=tuple(found),
        path=tuple(found),
        include=None,
        machine=None,
        bits=None,
        is_venv=(prefix / "pyvenv.cfg").is_file(),
        trouble=trouble,
    )
