"""`nox -s verify`: do a row's wheels work in a fresh environment made from that row's lock?"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

from . import environments, machine, shell
from .builder import REPORT
from .errors import BuildError
from .layout import Checkout
from .machine import Machine
from .matrix import Row

_GIGABYTES = {"cpu": 4, "cuda": 14}  # torch, its libraries and pip's copies of them while it unpacks


def wheels(checkout: Checkout, row: Row) -> list[Path]:
    """The wheels of dist/<row>/, whose hashes must be those of SHA256SUMS and whose build must have succeeded.

    Raises:
        BuildError: there are none, or they are not what was built.
    """
    folder = checkout.dist(row.name)
    if not (folder / REPORT).is_file():
        raise BuildError(f"dist/{row.name} holds no build; run `nox -s build -- --row {row.name}`")
    report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    if not report["ok"]:
        raise BuildError(f"the last build of row {row.name} failed for {', '.join(report['failures'])}; build it again")
    lines = (folder / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    found = sorted(folder.glob("*.whl"))
    for path in found:
        if sums.get(path.name) != hashlib.sha256(path.read_bytes()).hexdigest():
            raise BuildError(f"{path.name} in dist/{row.name} is not the file that SHA256SUMS names; build it again")
    return found


def refusal(row: Row, here: Machine, free: int, *, without_gpu: bool) -> str | None:
    """Why this row cannot be verified on this machine; None when it can."""
    if row.cuda is not None and not without_gpu:
        major = int(row.cuda.split(".")[0])
        if here.driver is None:
            return f"it needs an NVIDIA driver for CUDA {major}, and this machine has none (--without-gpu checks the CPU half)"
        if here.driver[0] < major:
            return f"it needs a driver for CUDA {major}; this one is for CUDA {here.driver[0]}.{here.driver[1]}"
        if not here.gpus:
            return "the driver sees no GPU (--without-gpu checks the CPU half)"
    need = _GIGABYTES["cuda" if row.cuda else "cpu"]
    if free < need * 2**30:
        return f"its environment needs about {need} GB of disk, and {free / 2**30:.1f} GB are free"
    return None


def verify(checkout: Checkout, row: Row, *, without_gpu: bool = False) -> None:
    """Installs the row's lock and wheels in a fresh environment and runs one operation of each extension.

    Raises:
        BuildError: it cannot be done here (says why), or an answer was wrong.
    """
    files = wheels(checkout, row)
    free = shutil.disk_usage(checkout.root).free
    if (why := refusal(row, machine.detect(), free, without_gpu=without_gpu)) is not None:
        raise BuildError(f"row {row.name} cannot be verified here: {why}")
    environment = environments.for_row(checkout, row, name=f"verify-{row.name}", fresh=True)
    try:
        environments.install_wheels(environment, files, checkout.out / "logs" / "envs")
        script = Path(__file__).with_name("known_answers.py")
        devices = "cpu" if row.cuda is None or without_gpu else "cpu,cuda"
        code = shell.passthrough(
            [environment.python, "-I", script, devices, row.torch, row.cuda or "none"],
            cwd=environment.folder,  # nothing of the checkout may be importable by accident
            env=environment.variables(),
        )
        if code != 0:
            raise BuildError(f"row {row.name}: the installed wheels do not give the known answers (see above)")
        print(
            f"row {row.name}: {len(files)} wheels verified on {devices.replace(',', ' and ')}, Python {sys.version.split()[0]}"
        )
    finally:
        shutil.rmtree(environment.folder, ignore_errors=True)
