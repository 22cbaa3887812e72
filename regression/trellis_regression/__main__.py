"""``python -m trellis_regression`` and ``trellis-gate``: the command as a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from . import interrupt


def main() -> NoReturn:
    """Runs the command and ends at once; the system takes back what the process held.

    Python would first take apart every module and tensor, and the CUDA driver its context.
    """
    status = interrupt.run("trellis-gate", _command, at_once=_abandon)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _command() -> Callable[[], int]:
    from .cli import main as command

    return command


def _abandon() -> None:
    """Ends the processes beside this one. Modules that are not loaded have begun none."""
    for name in ("khronos", "opening"):
        if module := sys.modules.get(f"{__package__}.{name}"):
            getattr(module, "abandon", lambda: None)()  # it may be loading still
    if module := sys.modules.get("multiprocessing"):
        for process in getattr(module, "active_children", list)():
            process.kill()


if __name__ == "__main__":
    main()
