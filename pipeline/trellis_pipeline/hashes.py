"""SHA-256 of files: of a checkpoint's 16 GB beside a run, several files at a time, and once for as long as they stay.

What was hashed is remembered in ``~/.cache/trellis/sha256.json`` (XDG_CACHE_HOME) by a file's real path, size, time of
change and `weights.fingerprint`; where that cannot be written, files are hashed each time.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from trellis_regression.whole import write_whole

from .arguments import home
from .weights import fingerprint

_BLOCK = 8 << 20
_AT_A_TIME = 8
_MOST_ENTRIES = 256


def sha256(path: str | Path, stop: threading.Event | None = None) -> str:
    """SHA-256 of a file, in hexadecimal. `stop` ends it early with a RuntimeError."""
    digest, block = hashlib.sha256(), bytearray(_BLOCK)
    view = memoryview(block)
    with Path(path).open("rb", buffering=0) as file:
        while size := file.readinto(block):
            if stop is not None and stop.is_set():
                raise RuntimeError("hashing was stopped")
            digest.update(view[:size])
    return digest.hexdigest()


class Hashes:
    """Hashes files on threads of its own from construction on; leaving the context stops what is not done."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._stop = threading.Event()
        self._memory = _Memory(_place())
        self._threads = ThreadPoolExecutor(min(_AT_A_TIME, os.cpu_count() or 1))
        self._futures: dict[Path, Future[dict[str, Any]]] = {
            path: self._threads.submit(self._facts, path) for path in dict.fromkeys(paths)
        }

    def __enter__(self) -> Hashes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._threads.shutdown(cancel_futures=True)

    def of(self, path: Path) -> dict[str, Any]:
        """``sha256``, and ``remembered`` where it was not computed now. Waits for it."""
        return self._futures[path].result()

    def remember(self) -> None:
        """Keeps what was computed for the next run. Waits for all."""
        found = {path: future.result() for path, future in self._futures.items()}
        self._memory.keep({path: facts["sha256"] for path, facts in found.items() if "remembered" not in facts})

    def _facts(self, path: Path) -> dict[str, Any]:
        known = self._memory.find(path)
        return {"sha256": known, "remembered": True} if known else {"sha256": sha256(path, self._stop)}


def _place() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or home() / ".cache") / "trellis" / "sha256.json"


class _Memory:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError):
            content = {}
        self._known: dict[str, Any] = content if isinstance(content, dict) else {}
        # Taken before anything is hashed: a file that changes meanwhile is not remembered as what it became.
        self._marks: dict[Path, list[Any]] = {}

    def find(self, path: Path) -> str | None:
        mark = self._marks[path] = _mark(path)
        entry = self._known.get(str(path.resolve()))
        known = isinstance(entry, dict) and entry.get("mark") == mark
        return str(entry["sha256"]) if known and entry else None

    def keep(self, computed: dict[Path, str]) -> None:
        fresh = {
            str(path.resolve()): {"mark": self._marks[path], "sha256": digest}
            for path, digest in computed.items()
            if _mark(path) == self._marks[path]
        }
        if not fresh:
            return
        kept = list(({k: v for k, v in self._known.items() if k not in fresh} | fresh).items())[-_MOST_ENTRIES:]
        try:
            write_whole(self._path, lambda file: file.write_text(json.dumps(dict(kept), indent=1)))
        except OSError:
            return


def _mark(path: Path) -> list[Any]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, fingerprint(path)]
