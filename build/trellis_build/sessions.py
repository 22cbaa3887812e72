"""The sessions that run the project's own code: tests, demo, lint, a development environment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from . import builder, environments, lock_check, shell
from .environments import Environment
from .errors import BuildError
from .layout import EXTENSIONS, Checkout
from .matrix import Row

_PACKAGES = (
    "build/trellis_build",
    "diagnostics/trellis_doctor",
    "pipeline/trellis_pipeline",
    "regression/trellis_regression",
    "csrc/native/python/trellis_native",
    *(f"csrc/{name}/python/trellis_{name}" for name in EXTENSIONS),
    "csrc/compat/python/trellis_compat",
)

EVERY_TEST = ("-n", "auto", "--maxprocesses", "8", "--dist", "worksteal", "--durations", "25")
"""pytest's arguments where none are given. Each process takes a stretch of the tests, so files stay together as far as can
be, and who is done first takes over from the other."""


def ready(checkout: Checkout, row: Row) -> Environment:
    """The row's environment with this checkout's wheels in it; builds what has changed.

    Raises:
        BuildError: a wheel does not build, or the environment cannot be made.
    """
    environments.require_possible(checkout, row)
    outcome = builder.build_row(checkout, row)
    if not outcome.ok:
        raise BuildError(f"row {row.name} does not build; what follows would run on old code")
    with shell.alone(checkout.out):
        environment = environments.for_row(checkout, row)
        environments.install_wheels(environment, outcome.wheels, checkout.out / "logs" / "envs")
    return environment


def run(checkout: Checkout, row: Row, command: Sequence[str]) -> int:
    """Runs `command` in the row's environment, from the root of the checkout; returns its exit status."""
    if not command:
        raise BuildError("nothing to run; say what after --, such as `nox -s run -- python -m trellis_native`")
    environment = ready(checkout, row)
    return shell.passthrough(command, cwd=checkout.root, env=environment.variables())


def tests(checkout: Checkout, row: Row, arguments: Sequence[str]) -> int:
    """pytest on the wheels just built: with `arguments`, or every test on all processors. Its summary comes last."""
    environment = ready(checkout, row)
    command = [str(environment.python), "-m", "pytest", *(arguments or EVERY_TEST)]
    # Several processes on few processors: a thread that waits for another by spinning would keep a third from working.
    variables = {"OMP_WAIT_POLICY": "passive", **_with_validator(checkout, environment)}
    return shell.passthrough(command, cwd=checkout.root, env=variables)


def regress(checkout: Checkout, row: Row, arguments: Sequence[str]) -> int:
    """Fixed assets through the road on the wheels just built, gated against golden/; the report is in out/regress/."""
    environment = ready(checkout, row)
    command = [str(environment.python), "-m", "trellis_pipeline.gating.regress", "--out", str(checkout.out / "regress")]
    return shell.passthrough([*command, *arguments], cwd=checkout.root, env=_with_validator(checkout, environment))


def _with_validator(checkout: Checkout, environment: Environment) -> dict[str, str]:
    """Variables of an environment in which the Khronos validator is found.

    It is an npm package: its Node comes with the environment, its files are kept in out/.
    """
    validator = checkout.out / "gltf-validator"
    shell.run(
        [environment.python, "-m", "trellis_regression.khronos", "--install", validator],
        env=environment.variables(),
        what="installing the glTF validator",
    )
    return {**environment.variables(), "TRELLIS_GLTF_VALIDATOR": str(validator)}


def demo(checkout: Checkout, row: Row, arguments: Sequence[str]) -> int:
    """The whole road on the sample asset, into out/demo/."""
    environment = ready(checkout, row)
    command = [str(environment.python), "-m", "trellis_pipeline.demo", "--out", str(checkout.out / "demo"), *arguments]
    return shell.passthrough(command, cwd=checkout.root, env=environment.variables())


def lint(checkout: Checkout, row: Row) -> int:
    """ruff, mypy, the validator of the matrix and the locks; all are run, whatever the first says."""
    environment = environments.for_row(checkout, row)
    packages = [p for p in _PACKAGES if (checkout.root / p).is_dir()]
    commands = {
        "ruff check": ["ruff", "check", "."],
        "ruff format": ["ruff", "format", "--check", "."],
        "mypy": ["mypy", *packages, "noxfile.py"],
    }
    failed = []
    for name, command in commands.items():
        print(f"{name}:", flush=True)
        if shell.passthrough(
            [str(environment.bin / command[0]), *command[1:]], cwd=checkout.root, env=environment.variables()
        ):
            failed.append(name)
    print("matrix and locks:", flush=True)
    if bad := lock_check.all_problems(checkout):
        print("\n".join(bad))
        failed.append("matrix and locks")
    else:
        print("matrix.toml is well formed, and every lock says what it says")
    if failed:
        print(f"lint FAILED: {', '.join(failed)}", flush=True)
    return 1 if failed else 0


def develop(checkout: Checkout, row: Row) -> Path:
    """An environment that runs the Python code as it lies in this checkout; returns its folder.

    The wheels are installed (metadata, commands, native libraries); a start-up file then puts the source
    folders before them. Native libraries are taken from the wheels' folder until `nox -s dev` is run again.
    """
    environments.require_possible(checkout, row, name=f"dev-{row.name}")
    outcome = builder.build_row(checkout, row)
    if not outcome.ok:
        raise BuildError(f"row {row.name} does not build")
    with shell.alone(checkout.out):
        environment = environments.for_row(checkout, row, name=f"dev-{row.name}")
        environments.install_wheels(environment, outcome.wheels, checkout.out / "logs" / "envs")
    site = next(environment.folder.glob("lib/python*/site-packages"))
    folders = [str((checkout.root / p).parent) for p in _PACKAGES if (checkout.root / p).is_dir()]
    # Sources hold no native libraries; this variable tells trellis_native where they are.
    start = f"import sys, os; sys.path[0:0] = {folders!r}; os.environ.setdefault('TRELLIS_NATIVE_DIR', {str(site)!r})\n"
    (site / "trellis_forge_sources.pth").write_text(start, encoding="utf-8")
    return environment.folder


def default_row(checkout: Checkout) -> str:
    """The row of sessions that need no GPU: TRELLIS_ROW, else cpu."""
    return os.environ.get("TRELLIS_ROW", "cpu")
