"""What became of each picture of a batch, line by line, so that a machine that stops at any moment loses no more than one."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .jobs import Job, shaping

NAME = "batch.jsonl"


class Journal:
    """`batch.jsonl` in the batch's folder: a JSON object for every picture that was made, failed or was given back."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._last: dict[str, dict[str, Any]] = {}
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""
        self._torn = bool(text) and not text.endswith("\n")  # the machine stopped in the midst of a line
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._last[entry["name"]] = entry
            except (ValueError, KeyError, TypeError):
                continue

    def require_own(self, jobs: Sequence[Job]) -> None:
        """Looks whether files that a batch would write over are a batch's.

        Raises:
            ValueError: there is one, and no batch has been here.
        """
        there = [path for job in jobs for path in job.outputs if path.exists()]
        if there and not self.path.is_file():
            raise ValueError(
                f"--out: {there[0]} would be written over, and no batch made it (there is no {NAME}); give a folder of its own"
            )

    def begin(self) -> None:
        """Marks the folder as a batch's."""
        self.path.touch()

    def set_aside(self, job: Job, options: dict[str, Any]) -> str | None:
        """Why a picture failed before, if neither it nor the options have changed since; None if it is to be tried."""
        entry = self._last.get(job.name, {})
        same = entry.get("picture") == _state(job.picture) and entry.get("options") == shaping(options)
        return str(entry.get("error")) if entry.get("result") == "failed" and same else None

    def add(self, job: Job, result: str, options: dict[str, Any], **more: Any) -> None:
        """Writes a line and waits until the disk has it.

        Args:
            result: "made"; "failed", which sets the picture aside; or "given back", after which it is tried again.
        """
        entry = {"name": job.name, "result": result, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                 "picture": _state(job.picture), "options": shaping(options), **more}  # fmt: skip
        with self.path.open("a", encoding="utf-8") as file:
            file.write("\n" * self._torn + json.dumps(entry) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._torn = False
        self._last[job.name] = entry


def _state(picture: Path) -> list[Any] | None:
    """What tells whether a picture has changed; it may be gone."""
    try:
        status = picture.stat()
    except OSError:
        return None
    return [str(picture), status.st_size, status.st_mtime_ns]
