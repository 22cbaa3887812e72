"""Runs of ``trellis`` that are interrupted at a chosen moment, each in a process of its own with a real SIGINT.

    python interrupts.py STAGE|FILE ... -- generate ARGUMENTS

All load torch once: this process imports, and forks for each run. A name with a dot is a file that is about to take its
name; another is a stage, which gets the signal some milliseconds after it began, and in any case before it ends. The
last run is left alone. Prints a JSON line for each: the status, what was said, and the stage that was running.
"""

import importlib
import json
import os
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

AFTER = 0.01


def interrupted(target, arguments):
    """In the forked process: the command with the signal at `target`; never returns."""
    from trellis_pipeline.cli import main
    from trellis_pipeline.manifest import Manifest

    signal.signal(signal.SIGINT, signal.default_int_handler)
    stage, replace = Manifest.stage, Path.replace

    @contextmanager
    def watched(self, name):
        with stage(self, name) as facts:
            print(f"<{name}>", file=sys.stderr)
            if name != target:
                yield facts
                return
            timer = threading.Timer(AFTER, os.kill, (os.getpid(), signal.SIGINT))
            timer.start()
            yield facts
            timer.join()

    def watched_replace(self, other):
        if Path(other).name == target:
            os.kill(os.getpid(), signal.SIGINT)
        return replace(self, other)

    Manifest.stage, Path.replace = watched, watched_replace
    os._exit(main(arguments))


def run(target, arguments):
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            interrupted(target, arguments)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return {"target": target, "status": status, "said": said.read()}


if __name__ == "__main__":
    at = sys.argv.index("--")
    for name in ("cli", "generate", "gating.faults"):
        importlib.import_module(f"trellis_pipeline.{name}")
    importlib.import_module("trellis_pipeline.image.features").require_transformers()
    for name in [*sys.argv[1:at], ""]:
        print(json.dumps(run(name, sys.argv[at + 1 :])), flush=True)
