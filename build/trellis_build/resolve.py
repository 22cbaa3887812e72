"""`nox -s lock`: resolves every lock with uv and checks the outcome against the matrix before writing it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from . import environments, lock_check, locks, shell
from .errors import BuildError
from .layout import Checkout
from .locks import Lock


def update(checkout: Checkout, *, upgrade: bool, only: list[str] | None = None) -> None:
    """Writes build/locks/; versions already locked are kept where they still fit, unless `upgrade`.

    Raises:
        BuildError: something cannot be resolved, or torch's own pins are not what the matrix says.
    """
    matrix = checkout.matrix
    names = {name for lock in locks.wanted(matrix) for name in (lock.row, lock.file.removesuffix(".txt")) if name}
    if unknown := sorted(set(only or ()) - names):
        raise BuildError(f"--only {unknown[0]}: no such row or file; there are {', '.join(sorted(names))}")
    uv = _uv(checkout, matrix.groups["lock"])
    for lock in locks.wanted(matrix):
        if only and lock.row not in only and lock.file.removesuffix(".txt") not in only:
            continue
        path = checkout.locks / lock.file
        with shell.step(f"locks/{lock.file}") as state:
            text = _resolve(uv, lock, path, upgrade)
            cuda = ""
            if lock.row and lock.dependencies:
                row = matrix.rows[lock.row]
                if any(e.row == lock.row for e in matrix.extra_files):
                    text, cuda = locks.split_cuda_only(matrix, text)
                    text = locks.accept_extra_files(matrix, lock.row, text)
                if bad := list(lock_check.pin_problems(row, locks.pins(text), f"row {row.name}")):
                    raise BuildError("\n".join([*bad, "the packages' metadata is right: correct build/matrix.toml"]))
            if (line := locks.names_a_place(text + cuda)) is not None:
                raise BuildError(f"{lock.file}: the resolver wrote a place into the lock: {line.strip()!r}")
            locks.write(path, lock, text)
            if cuda:
                name = locks.extra_name(str(lock.row))
                title = f"What only the CUDA build of row {lock.row}'s torch needs"
                extra = Lock(name, title, lock.requirements, lock.python, row=lock.row)
                locks.write(checkout.locks / name, extra, cuda)
            more = f" and {len(locks.pins(cuda))} for CUDA torch" if cuda else ""
            state.note = f"{len(locks.pins(text))} packages{more}"
    expected = {lock.file for lock in locks.wanted(matrix)} | {locks.extra_name(e.row) for e in matrix.extra_files}
    for path in checkout.locks.glob("*.txt"):
        if path.name not in expected:
            print(f"  locks/{path.name}: no longer asked for, deleted")
            path.unlink()


def _uv(checkout: Checkout, requirements: tuple[str, ...]) -> Path:
    environment = environments.Environment(checkout.out / "envs" / "lock")
    want = environments.digest() + ";".join(requirements)
    if environment.holds().get("lock") != want:
        with shell.step("environment lock: installing the resolver"):
            environment = environments.create(environment.folder)
            environment.pip("install", *requirements, what="installing the resolver")
            environment.note(lock=want)
    return environment.bin / "uv"


def _resolve(uv: Path, lock: Lock, path: Path, upgrade: bool) -> str:
    """The requirements file for every Python from `lock.python` on, from the packages' metadata alone."""
    command = [
        *(str(uv), "pip", "compile", "-", "--universal", "--python-version", lock.python, "--generate-hashes"),
        *("--no-header", "--no-annotate", "--no-emit-index-url", "--no-python-downloads", "--quiet"),
        *([] if lock.dependencies else ["--no-deps"]),
    ]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.txt"
        if path.is_file() and not upgrade:  # the resolver prefers what stands in its output file
            split = path.with_name(locks.extra_name(path.stem))
            kept = [p.read_text(encoding="utf-8") for p in (path, split) if p.is_file()]
            out.write_text("\n".join(kept), encoding="utf-8")
        command += ["--output-file", str(out)]
        done = subprocess.run(command, input="\n".join(lock.requirements), capture_output=True, text=True, check=False)
        text = out.read_text(encoding="utf-8") if out.is_file() else ""
    if done.returncode != 0 or not locks.pins(text):
        raise BuildError(f"{lock.file} cannot be resolved:\n{done.stderr.strip()}")
    return text
