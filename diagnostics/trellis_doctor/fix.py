"""Applies the remedies that are marked safe."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Callable, Iterable

from .examine import Result
from .finding import Finding
from .machine import Machine

_TIMEOUT = 1800


def safe(results: Iterable[Result]) -> list[Finding]:
    return [f for r in results for f in r.findings if f.safe_fix and f.commands]


def apply(findings: Iterable[Finding], machine: Machine, say: Callable[[str], None]) -> list[str]:
    """Runs each finding's commands, without a shell; returns the ids of the checks to run again."""
    touched = []
    for finding in findings:
        touched.append(finding.id)
        for command in finding.commands:
            say(f"$ {command}")
            try:
                done = subprocess.run(
                    shlex.split(command), env=machine.env, stdin=subprocess.DEVNULL, timeout=_TIMEOUT, check=False,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                say(f"  could not be run: {error}")
                break
            if done.returncode != 0:
                words = done.stdout.decode("utf-8", "replace").strip().splitlines()
                say(f"  failed with status {done.returncode}: {words[-1] if words else 'no output'}")
                break
    return touched
