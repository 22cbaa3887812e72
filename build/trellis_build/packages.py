"""Compiler packages, unpacked once into out/toolchains/ for each version of their lock."""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from . import shell
from .errors import BuildError
from .layout import Checkout


def fetch(checkout: Checkout, lock: str) -> Path:
    """The folder that holds the packages of ``build/locks/<lock>.txt``, installed there by pip if need be."""
    file = checkout.locks / f"{lock}.txt"
    if not file.is_file():
        raise BuildError(f"build/locks/{lock}.txt is missing; run `nox -s lock`")
    version = hashlib.sha256(file.read_bytes()).hexdigest()[:12]
    folder = checkout.out / "toolchains" / f"{lock.removeprefix('toolchain-')}-{version}"
    done = folder / ".complete"
    if done.is_file():
        return folder
    if folder.exists():
        shutil.rmtree(folder)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-compile")
    command = [*pip, "--require-hashes", "--only-binary=:all:", "--target", str(folder), "-r", str(file)]
    with shell.step(f"{lock}: getting the compiler's packages"):
        shell.run(command, log=checkout.out / "logs" / f"{lock}.log", what=f"installing {lock}")
    # pip marks no file of a wheel executable unless the archive does; the compilers must be.
    for tool in folder.glob("nvidia/*/bin/*"):
        if tool.is_file():
            tool.chmod(0o755)
    done.touch()
    return folder
