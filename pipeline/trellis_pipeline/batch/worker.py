"""The process that opens the models once and makes one picture after another; `supervise.Worker` is its other side.

First question: the options. Then, for each picture, its file, its GLB, its manifest and the file for what the run says.
An answer holds either `facts` or `kind` and `error`:

    unusable   this picture will not do, however often it is tried
    disk       the result cannot be written, and the next one cannot either
    crash      anything else; this process is not to be used again
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import faulthandler
import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from trellis_regression.command import in_one_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_PR_SET_PDEATHSIG = 1


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answers", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    arguments = parser.parse_args()
    _die_with(arguments.parent)
    faulthandler.enable()

    def answer(**what: Any) -> None:
        os.write(arguments.answers, json.dumps(what).encode() + b"\n")

    questions = map(json.loads, sys.stdin)
    options = next(questions, None)
    if options is None:
        return 0
    from ..asset import GlbOptions
    from ..generate import GenerateOptions, Opened, begin, make, open_pipeline
    from ..manifest import write_manifest

    asked = GenerateOptions(**{**options, "glb": GlbOptions(**options["glb"])})
    try:
        opened: Opened = open_pipeline(asked, lambda line: print(line, file=sys.stderr, flush=True))
    except (ValueError, NotImplementedError) as error:
        answer(kind="unusable", error=_line(error))
        return 0
    answer(facts={"device": str(opened.pipeline.device)})
    before = _allocated(opened)
    for job in questions:
        log = Path(job["log"])
        with _said_to(log):
            try:
                manifest, prepared = begin(job["picture"], asked, quiet=False)
                facts = make(opened, prepared, job["glb"], asked, manifest)
                write_manifest(facts, job["manifest"])
                facts = {
                    "faces": facts["output"]["faces"],
                    "seconds": facts["seconds"],
                    "left": _allocated(opened) - before,
                }
                log.unlink()
                answer(facts=facts)
            except Exception as error:
                kind = _kind(error)
                with suppress(OSError):  # a full disk
                    if kind == "unusable" and not log.stat().st_size:
                        log.unlink()  # the answer says all
                    elif kind == "unusable":
                        print(f"error: {_line(error)}", file=sys.stderr, flush=True)
                    else:
                        traceback.print_exc()
                answer(kind=kind, error=_line(error))
    return 0


def _kind(error: Exception) -> str:
    import torch

    cause: BaseException | None = error
    while cause is not None:  # a stage that ran out of memory is a StageError over torch's own
        if isinstance(cause, (torch.cuda.OutOfMemoryError, MemoryError)):
            return "crash"
        cause = cause.__cause__
    if isinstance(error, OSError):
        if error.errno in FULL:
            return "disk"
        return "unusable" if isinstance(error, (FileNotFoundError, PermissionError)) else "crash"
    return "unusable" if isinstance(error, (ValueError, NotImplementedError)) else "crash"


def _line(error: BaseException) -> str:
    plain = isinstance(error, (ValueError, NotImplementedError, OSError))
    return in_one_line(error) if plain else f"{type(error).__name__}: {in_one_line(error)}"


def _allocated(opened: Any) -> int:
    """Bytes of the device that are allocated between two runs, when their models and tensors are gone."""
    import gc

    import torch

    from ..memory.ledger import free_workspaces

    if opened.pipeline.device.type != "cuda":
        return 0
    gc.collect()
    free_workspaces()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated(opened.pipeline.device)


@contextmanager
def _said_to(log: Path) -> Iterator[None]:
    """Standard error goes into a file, that of libraries and of a crash too."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    before = os.dup(2)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            with suppress(OSError):
                sys.stderr.flush()
            os.dup2(before, 2)
            os.close(before)


def _die_with(parent: int) -> None:
    """A parent that is killed takes this process, and the memory that it holds of the card, with it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
