"""Virtual environments made from locks, in out/envs/, kept until their lock or their wheels change."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import locks, shell
from .errors import BuildError
from .layout import Checkout
from .locks import extra_name
from .matrix import Row

# Run inside the environment: does the torch that pip took need packages that a CPU build does not?
_NEEDS_CUDA = (
    "import importlib.metadata as m; print(any(r.startswith(('nvidia-', 'cuda-')) for r in m.requires('torch') or ()))"
)


GIGABYTES = {"cpu": 2, "cuda": 8}
"""Of disk that an environment takes at the very least; where pip finds the CUDA build of torch, `cpu` takes 5.3."""


@dataclass(frozen=True)
class Environment:
    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def python(self) -> Path:
        return self.bin / "python"

    @property
    def _marker(self) -> Path:
        return self.folder / "trellis-environment.json"

    def holds(self) -> dict[str, str]:
        """Digests of what was installed; empty when it was not finished."""
        try:
            held: dict[str, str] = json.loads(self._marker.read_text(encoding="utf-8"))
            return held
        except (OSError, ValueError):
            return {}

    def serves(self, lock: str) -> bool:
        """Whether it holds what that lock says and still lies where it was made: its commands name that place."""
        held = self.holds()
        return held.get("lock") == lock and held.get("folder", str(self.folder)) == str(self.folder)

    def note(self, **digests: str) -> None:
        self._marker.write_text(json.dumps({**self.holds(), **digests}, indent=1) + "\n", encoding="utf-8")

    def variables(self) -> dict[str, str]:
        """What activating the environment would set, with nothing of the caller's Python let in."""
        path = os.environ.get("PATH", "")
        return {
            "VIRTUAL_ENV": str(self.folder),
            "PATH": f"{self.bin}{os.pathsep}{path}",
            "PYTHONPATH": "",
            "PYTHONNOUSERSITE": "1",
            # Packages are installed without bytecode. Were it never written, each process would compile torch anew, in seconds.
            "PYTHONDONTWRITEBYTECODE": "",
            "TRELLIS_NATIVE_DIR": "",
        }

    def pip(self, *arguments: str | Path, log: Path | None = None, what: str) -> str:
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *arguments]
        return shell.run(command, env=self.variables(), log=log, what=what)


def digest(*paths: Path) -> str:
    """One digest for the contents of files, and of the Python that runs this."""
    total = hashlib.sha256(sys.version.encode())
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()


def create(folder: Path) -> Environment:
    """An empty environment of this Python in `folder`, in place of what was there."""
    if folder.exists():
        shutil.rmtree(folder)
    shell.run([sys.executable, "-m", "virtualenv", "--quiet", folder], what=f"making the environment {folder.name}")
    return Environment(folder)


def _named(checkout: Checkout, row: Row, name: str | None) -> Environment:
    return Environment(checkout.out / "envs" / (name or row.name))


def _wanted(checkout: Checkout, row: Row) -> str:
    """What an environment of `row` notes as its lock."""
    lock, extra = checkout.locks / f"{row.name}.txt", checkout.locks / extra_name(row.name)
    return digest(*(p for p in (lock, extra) if p.is_file()))


def require_possible(checkout: Checkout, row: Row, *, name: str | None = None, fresh: bool = False) -> None:
    """Looks whether `for_row` can succeed, before the minutes of compiling that come first.

    Raises:
        BuildError: this Python is not one of the row's, or the disk has no room for an environment that is not there.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if version not in row.python:
        raise BuildError(
            f"row {row.name} is for Python {', '.join(row.python)}; nox runs on Python {version}. "
            f"Install nox in one of those, such as `python{row.python[-1]} -m pip install nox`"
        )
    if not fresh and _named(checkout, row, name).serves(_wanted(checkout, row)):
        return
    need, free = GIGABYTES["cuda" if row.cuda else "cpu"], shutil.disk_usage(checkout.root).free / 1e9
    if free < need:
        raise BuildError(
            f"the environment of row {row.name} takes at least {need} GB of disk, and {free:.1f} GB are free at {checkout.root}"
        )


def for_row(checkout: Checkout, row: Row, *, name: str | None = None, fresh: bool = False) -> Environment:
    """The environment that holds what `row` locks; made when it is missing, stale or `fresh` is asked for.

    Raises:
        BuildError: this Python is not one of the row's, there is no room, or an installation failed.
    """
    require_possible(checkout, row, name=name, fresh=fresh)
    lock, extra = checkout.locks / f"{row.name}.txt", checkout.locks / extra_name(row.name)
    want, environment = _wanted(checkout, row), _named(checkout, row, name)
    if not fresh and environment.serves(want):
        return environment
    logs = checkout.out / "logs" / "envs"
    with shell.step(f"environment {environment.folder.name}: installing what build/locks/{lock.name} says"):
        environment = create(environment.folder)
        with tempfile.TemporaryDirectory() as folder:
            several = [e.package for e in checkout.matrix.extra_files if e.row == row.name]
            install_lock(environment, prefer_pips_choice(environment, lock, several, Path(folder)), logs)
        # The CPU build of torch needs nothing of NVIDIA's; a machine whose pip finds the CUDA build must have it all.
        if extra.is_file() and environment_needs_cuda(environment):
            install_lock(environment, extra, logs)
        environment.pip("check", what=f"checking that {lock.name} is complete")
        environment.note(lock=want, folder=str(environment.folder))
    return environment


def prefer_pips_choice(environment: Environment, lock: Path, packages: Sequence[str], folder: Path) -> Path:
    """`lock`, with the file that pip itself would take for each of `packages` named, if the lock accepts that file.

    Needed because pip, given hashes, prefers a file whose index states the hash over a newer version (such as
    2.13.0+cpu) from a local folder, which states none.
    """
    text = lock.read_text(encoding="utf-8")
    for block in list(locks.blocks(text)):
        (pin,) = locks.pins(block)
        if pin.name not in packages:
            continue
        place = folder / pin.name
        wish = f"{pin.name}=={pin.version}"
        environment.pip("download", "--no-deps", "--only-binary=:all:", "-d", place, wish, what=f"getting {wish}")
        (file,) = place.iterdir()
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        if sha256 in pin.hashes:
            text = text.replace(block, f"{pin.name} @ {file.as_uri()} --hash=sha256:{sha256}")
    chosen = folder / lock.name
    chosen.write_text(text, encoding="utf-8")
    return chosen


def install_lock(environment: Environment, lock: Path, logs: Path) -> None:
    """Installs exactly what `lock` says; pip checks each file's hash."""
    environment.pip(
        *("install", "--no-deps", "--require-hashes", "--no-compile", "-r", str(lock)),
        log=logs / f"{environment.folder.name}-{lock.stem}.log",
        what=f"installing {lock.name}",
    )


def environment_needs_cuda(environment: Environment) -> bool:
    out = shell.run([environment.python, "-c", _NEEDS_CUDA], env=environment.variables(), what="reading torch's needs")
    return out.strip() == "True"


def install_wheels(environment: Environment, wheels: Sequence[Path], logs: Path) -> None:
    """Installs the project's own wheels, unless these very files are installed already."""
    want = digest(*wheels)
    if environment.holds().get("wheels") == want:
        return
    with shell.step(f"environment {environment.folder.name}: installing {len(wheels)} wheels of this checkout"):
        if environment.holds().get("wheels"):
            environment.note(wheels="")  # whoever interrupts this leaves neither the old ones nor the new ones
        environment.pip(
            *("install", "--no-deps", "--no-index", "--force-reinstall", *map(str, wheels)),
            log=logs / f"{environment.folder.name}-wheels.log",
            what="installing the project's wheels",
        )
        environment.note(wheels=want)
