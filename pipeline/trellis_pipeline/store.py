"""A folder where a run keeps its stages, and takes them up again."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from trellis_regression.whole import write_whole

from .artifacts import load, save
from .errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
RUN = "run.json"
"""The file of a folder that says what run its stages are of."""


class StageStore:
    """Stages of one run as files.

    Args:
        folder: made when the first stage is kept.
        resume: take up what lies there. It must come from the same input, options and weights, or it is an error:
            stages of two runs are never mixed.
    """

    def __init__(self, folder: Path, *, resume: bool = False) -> None:
        self.folder, self.resume = folder, resume
        self.resumed: list[str] = []

    def begin(self, identity: dict[str, Any]) -> None:
        """Binds the folder to a run.

        Raises:
            CheckpointError: resuming from a folder of another run, and the message names what differs; or a folder
                with files of something else.
        """
        if self.resume:
            kept = self.kept()
            if kept.get("command", "generate") != "generate":
                raise CheckpointError(
                    f"{self.folder}: its stages are those of a {kept['command']}, which cannot be resumed"
                )
            differ = [k for k in identity if kept.get(k) != identity[k]]
            if differ:
                what = "; ".join(
                    f"other {k}" if isinstance(identity[k], dict) else f"{k} was {kept.get(k)!r}, is {identity[k]!r}"
                    for k in differ
                )
                raise CheckpointError(f"{self.folder}: its stages come from another run: {what}")
            return
        self.require_own()
        for old in self.folder.glob("*.safetensors"):
            old.unlink()
        path = self.folder / RUN
        write_whole(path, lambda file: file.write_text(json.dumps(identity, indent=1) + "\n"))

    def require_own(self) -> None:
        """Looks whether the .safetensors files in the folder are a run's, as a new run removes them.

        Raises:
            CheckpointError: the folder holds some that no run kept, a model's perhaps.
        """
        found = () if (self.folder / RUN).is_file() else sorted(self.folder.glob("*.safetensors"))
        if other := next((path for path in found if not _is_stage(path)), None):
            raise CheckpointError(
                f"{self.folder}: it holds {other.name} but no {RUN}, so that its files are not a run's stages, and a new "
                "run would remove them; give a folder of its own"
            )

    def kept(self) -> dict[str, Any]:
        """What the run in the folder was bound to.

        Raises:
            CheckpointError: there is none.
        """
        try:
            content = json.loads((self.folder / RUN).read_text())
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            raise CheckpointError(f"{self.folder}: there is no run to resume ({RUN}: {why})") from None
        if not isinstance(content, dict):
            raise CheckpointError(f"{self.folder}: there is no run to resume ({RUN} holds no object)")
        return content

    def find(self, name: str, kind: type[T]) -> tuple[T, torch.Tensor | None] | None:
        """A kept stage and its noise generator's state, if resuming and it is there."""
        path = self._path(name)
        if not self.resume or not path.is_file():
            return None
        self.resumed.append(name)
        return load(kind, path)

    def keep(self, name: str, artifact: Any, rng: torch.Generator | None = None) -> None:
        """Writes a stage, whole or not at all."""
        save(artifact, self._path(name), rng=None if rng is None else rng.get_state())

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def _is_stage(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as file:
            return {"stage", "fields"} <= (file.metadata() or {}).keys()  # as `artifacts.save` writes
    except (SafetensorError, OSError):
        return False


@contextmanager
def alone(folder: Path, option: str, what: str) -> Iterator[None]:
    """Makes a folder and holds it against another process that asks for it in this way. One left empty is removed.

    Args:
        option: that names the folder, for the message.
        what: works there, for the message: "batch", "run".

    Raises:
        ValueError: another one is at work there.
    """
    fresh = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY) if fcntl else None
    try:
        if descriptor is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{option}: {folder}: another {what} is at work there") from None
            except OSError:  # a file system without locks
                pass
        yield
    finally:
        if fresh:
            with contextlib.suppress(OSError):  # something was written
                folder.rmdir()
        if descriptor is not None:
            os.close(descriptor)
