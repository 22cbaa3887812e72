"""Runs scripts in the inspected interpreter, so that a crash, a hang or an abort is an answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROBES = Path(__file__).parent / "probes"
_MARK = "TRELLIS-DOCTOR "


@dataclass(frozen=True)
class Answer:
    """What came back. `died` says in words how the process ended where it gave no whole answer."""

    data: dict[str, Any] = field(default_factory=dict)
    died: str | None = None
    stderr: str = ""
    seconds: float = 0.0

    @property
    def last_words(self) -> str:
        lines = [line for line in self.stderr.strip().splitlines() if line.strip()]
        # Python's own report of a crash begins with the reason and ends with a list of modules.
        reasons = [line for line in lines if line.startswith(("Fatal Python error", "terminate called"))]
        return (reasons[0] if reasons else lines[-1])[:300] if lines else ""


def ask(command: list[str], env: Mapping[str, str], timeout: float) -> Answer:
    """Runs `command`, which prints one marked line of JSON, and takes it down with its children after `timeout` seconds."""
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            start_new_session=True,
        )
    except OSError as error:
        return Answer(died=f"it could not be started: {error.strerror or error}")
    died = None
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        try:
            out, err = process.communicate(timeout=5)
        except subprocess.TimeoutExpired:  # a child outside the group holds the pipe
            out, err = b"", b""
        died = f"it gave no answer in {timeout:.0f} s and was stopped"
    except BaseException:  # Ctrl-C, which a terminal does not send to another session
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    seconds = time.monotonic() - began
    stderr = err.decode("utf-8", "replace")
    data: dict[str, Any] = {}
    for line in out.decode("utf-8", "replace").splitlines():
        if line.startswith(_MARK):
            try:
                found = json.loads(line[len(_MARK) :])
                data.update(found if isinstance(found, dict) else {})
            except ValueError:
                died = died or "its answer was cut off"
    if died is None and process.returncode < 0:
        try:
            name = signal.Signals(-process.returncode).name
        except ValueError:
            name = f"signal {-process.returncode}"
        died = f"it was killed by {name}"
    elif died is None and process.returncode != 0:
        died = f"it ended with status {process.returncode}"
    elif died is None and not data:
        died = "it ended without an answer"
    return Answer(data, died, stderr, seconds)


def script(name: str) -> Path:
    return PROBES / f"{name}.py"
