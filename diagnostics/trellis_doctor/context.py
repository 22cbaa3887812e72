"""What every check may look at; each fact is found once."""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import matrix
from .cache import LibraryCache
from .elf import ElfError, ElfFile, LibraryFacts
from .finding import Evidence, Finding, Severity
from .interpreter import Interpreter
from .machine import Machine
from .process import Answer, ask, script
from .site import Distribution, Site, constants, version_key


@dataclass(frozen=True)
class TorchFacts:
    """The installed torch, without importing it."""

    version: str
    cuda: str | None
    folder: Path
    distribution: Distribution | None

    @property
    def key(self) -> tuple[int, ...]:
        return version_key(self.version)

    @property
    def short(self) -> str:
        return self.version.split("+")[0]

    @property
    def text(self) -> str:
        return f"torch {self.short} ({'CUDA ' + self.cuda if self.cuda else 'CPU build'})"

    @functools.cached_property
    def libraries(self) -> tuple[Path, ...]:
        """What other libraries link against."""
        return tuple(p for p in sorted((self.folder / "lib").glob("*.so*")) if p.is_file())


class Context:
    """Args:
    models: folder of model files (`--models`), or None to look in the usual places.
    timeout: seconds that a probe may take.
    answers: of probes that need not be run, by name and arguments joined with spaces.
    """

    def __init__(
        self,
        python: Interpreter,
        machine: Machine,
        cache: LibraryCache,
        *,
        row: matrix.Row | None = None,
        rows: tuple[matrix.Row, ...] = (),
        models: Path | None = None,
        timeout: float = 120,
        answers: dict[str, Answer] | None = None,
    ) -> None:
        self.python = python
        self.machine = machine
        self.rows = rows
        self.models = models
        self._row = row
        self._cache = cache
        self._timeout = timeout
        self._answers = dict(answers or {})
        self.site = Site(python.folders, python.path)

    # Libraries

    def library(self, path: Path) -> LibraryFacts:
        """Raises ElfError."""
        return self._cache.facts(path)

    def readable(self) -> Iterable[tuple[Path, LibraryFacts]]:
        """The environment's libraries that can be read; the check unreadable-library tells of the others."""
        for path in self.site.libraries:
            try:
                yield path, self.library(path)
            except ElfError:
                continue

    def defined_in(self, names: Iterable[str], libraries: Iterable[Path]) -> set[str]:
        left, found = set(names), set[str]()
        for library in libraries:
            if not left:
                break
            try:
                with ElfFile(library) as file:
                    hit = file.defined(left)
            except (ElfError, ValueError):
                continue
            found |= hit
            left -= hit
        return found

    # Packages

    @functools.cached_property
    def torch(self) -> TorchFacts | None:
        init = self.site.module("torch")
        if init is None or init.name != "__init__.py":
            return None
        facts = constants(init.parent / "version.py")
        distribution = self.site.get("torch")
        version = facts.get("__version__") or (distribution.version if distribution else None)
        if not isinstance(version, str):
            return None
        cuda = facts.get("cuda")
        return TorchFacts(version, cuda if isinstance(cuda, str) else None, init.parent, distribution)

    @functools.cached_property
    def row(self) -> matrix.Row | None:
        """The row asked for, else the one of the installed torch."""
        if self._row or self.torch is None:
            return self._row
        version = [r for r in self.rows if r.torch == self.torch.short]
        # A row without CUDA takes the CUDA build of its torch as well: it is what the package index has.
        same = [r for r in version if r.cuda == self.torch.cuda] or [r for r in version if r.cuda is None]
        return same[0] if same else None

    @property
    def native_folder(self) -> str | None:
        """TRELLIS_NATIVE_DIR, of this shell or as the interpreter sets it for itself."""
        return self.machine.env.get("TRELLIS_NATIVE_DIR") or self.python.native

    @functools.cached_property
    def hidden_torches(self) -> list[Path]:
        """Folders of further torches, behind the one that an import takes."""
        if self.torch is None:
            return []
        found = {(p / "torch").resolve(): p / "torch" for p in self.python.path if (p / "torch/__init__.py").is_file()}
        found.pop(self.torch.folder.resolve(), None)
        return list(found.values())

    @property
    def row_was_asked_for(self) -> bool:
        return self._row is not None

    # Probes

    def probe(self, name: str, *arguments: str) -> Answer:
        """The answer of probes/<name>.py in the inspected interpreter."""
        key = " ".join([name, *arguments])
        if key not in self._answers:
            if not self.python.works:
                self._answers[key] = Answer(died="the interpreter cannot start")
            else:
                # Without writing .pyc files: the inspected environment stays as it is.
                env = {**self.machine.env, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONFAULTHANDLER": "1"}
                command = [str(self.python.executable), str(script(name)), *arguments]
                self._answers[key] = ask(command, env, self._timeout)
        return self._answers[key]

    @property
    def answers(self) -> dict[str, Answer]:
        """Of the probes run so far."""
        return dict(self._answers)

    # Findings

    def pip(self, *arguments: str) -> str:
        """A command of pip for the inspected environment: uv's, where that has no pip of its own and uv is here."""
        executable = str(self.python.executable)
        if not self.has_pip and self.machine.which("uv"):
            return shlex.join(["uv", "pip", arguments[0], "--python", executable, *arguments[1:]])
        return shlex.join([executable, "-m", "pip", *arguments])

    @property
    def has_pip(self) -> bool:
        return self.site.get("pip") is not None or self.site.module("pip") is not None

    def finding(
        self,
        check: str,
        severity: Severity,
        summary: str,
        *,
        seen: Iterable[Evidence],
        leads_to: str,
        remedy: Iterable[str],
        safe_fix: bool = False,
        verify: str | None = None,
    ) -> Finding:
        remedy = list(remedy)
        pip = shlex.join([str(self.python.executable), "-m", "pip"])
        first = next((i for i, line in enumerate(remedy) if pip in line), None)
        if first is not None and not self.has_pip:  # an environment of uv, or one that Debian made
            remedy.insert(first, shlex.join([str(self.python.executable), "-m", "ensurepip"]))
        again = shlex.join(["trellis-doctor", "--python", str(self.python.executable), "--only", check])
        return Finding(
            check, severity, summary, tuple(seen), leads_to, tuple(remedy), verify or again, safe_fix=safe_fix
        )

    def shown(self, path: Path) -> str:
        """`path` relative to the package folder that holds it."""
        for folder in (*self.site.folders, self.machine.root):
            if folder != Path("/") and path.is_relative_to(folder):
                return str(path.relative_to(folder))
        return str(path)

    def search_path(self, library: Path, facts: LibraryFacts) -> list[Path]:
        """Folders in which the loader looks for what `library` needs, those that torch preloads from included."""
        folders = [
            Path(
                os.path.normpath(
                    entry.replace("$ORIGIN", str(library.parent)).replace("${ORIGIN}", str(library.parent))
                )
            )
            for entry in facts.runpath
            if entry
        ]
        folders.append(library.parent)
        return [*folders, *self.packaged_folders, *self.machine.library_folders]

    @functools.cached_property
    def packaged_folders(self) -> list[Path]:
        folders = [self.torch.folder / "lib"] if self.torch else []
        for base in self.site.folders:
            folders += sorted((base / "nvidia").glob("*/lib"))
        return [*folders, self.python.prefix / "lib"]
