"""Facts of libraries, kept between runs by the identity of the file (path, size, modification time, inode)."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .elf import ElfError, LibraryFacts, read

_FORMAT = 2  # raise when the reader learns more


def default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "trellis-doctor"


class LibraryCache:
    """Reads libraries, each once. A cache that cannot be read or written costs time, never an answer."""

    def __init__(self, folder: Path | None) -> None:
        self._file = folder / f"libraries-{_FORMAT}.json" if folder else None
        self._known: dict[str, Any] = {}
        self._fresh: dict[str, Any] = {}
        self._results: dict[Path, LibraryFacts | ElfError] = {}
        if self._file:
            with contextlib.suppress(OSError, ValueError):
                loaded = json.loads(self._file.read_text(encoding="utf-8"))
                self._known = loaded if isinstance(loaded, dict) else {}

    def facts(self, path: Path) -> LibraryFacts:
        """The facts of `path`; raises ElfError where it cannot be read."""
        if path not in self._results:
            try:
                self._results[path] = self._look_up(path)
            except ElfError as error:
                self._results[path] = error
        result = self._results[path]
        if isinstance(result, ElfError):
            raise result
        return result

    def _look_up(self, path: Path) -> LibraryFacts:
        try:
            status = path.stat()
        except OSError as error:
            raise ElfError(f"it cannot be read: {error.strerror}") from None
        key = f"{path}|{status.st_size}|{status.st_mtime_ns}|{status.st_ino}"
        with contextlib.suppress(KeyError, TypeError):
            facts = _from_json(self._known[key])
            self._fresh[key] = self._known[key]
            return facts
        facts = read(path)
        self._fresh[key] = asdict(facts)
        return facts

    def save(self) -> None:
        if self._file is None or self._fresh.keys() <= self._known.keys():
            return
        kept = {k: v for k, v in self._known.items() if Path(k.split("|")[0]).exists()}
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            draft = self._file.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps({**kept, **self._fresh}), encoding="utf-8")
            draft.replace(self._file)


def _from_json(data: dict[str, Any]) -> LibraryFacts:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    return LibraryFacts(**values)
