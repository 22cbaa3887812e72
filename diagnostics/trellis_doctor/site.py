"""What is installed, read from metadata and files alone; nothing is imported."""

from __future__ import annotations

import ast
import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_REQUIREMENT = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)\)?\s*(?:;(.*))?$")
_LIBRARY = re.compile(r".+\.so(\.[0-9.]+)?$")
_SKIPPED_FOLDERS = {"__pycache__", "include", "tests", "test", ".git", "node_modules"}


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def version_key(text: str) -> tuple[int, ...]:
    """Leading numbers of a version, for comparing: 2.10.0+cu128 -> (2, 10, 0)."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    return tuple(int(p) for p in match[0].split(".")) if match else ()


@dataclass(frozen=True)
class Requirement:
    name: str
    specifier: str
    marker: str

    @property
    def exact(self) -> str | None:
        match = re.fullmatch(r"===?\s*([^*,\s]+)", self.specifier)
        return match[1] if match else None


@dataclass(frozen=True)
class Distribution:
    name: str
    version: str
    folder: Path  # the .dist-info or .egg-info
    requires: tuple[Requirement, ...] = ()
    files: tuple[str, ...] = field(default=(), repr=False)

    @property
    def text(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class BrokenDistribution:
    folder: Path
    why: str
    is_leftover: bool = False


class Site:
    """The folders of installed packages of an interpreter.

    Args:
        folders: where packages are installed.
        path: everything on sys.path, for finding modules.
    """

    def __init__(self, folders: tuple[Path, ...], path: tuple[Path, ...]) -> None:
        self.path = tuple(dict.fromkeys([*path, *folders, *_from_pth(folders)]))
        # PYTHONPATH may name a folder that pip installed into (--target): it counts as one of packages.
        others = [p for p in self.path if p not in folders and any(p.glob("*.dist-info"))]
        self.folders = (*folders, *others)
        self.broken: list[BrokenDistribution] = []
        self.distributions: dict[str, Distribution] = {}
        # Folders outside site-packages may hold metadata too (editable installs, PYTHONPATH).
        for folder in dict.fromkeys([*folders, *self.path]):
            self._read(folder)

    def _read(self, folder: Path) -> None:
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError:
            return
        seen: dict[str, Distribution] = {}
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("~") and entry.is_dir():
                self.broken.append(
                    BrokenDistribution(path, "left over from an installation that was interrupted", True)
                )
                continue
            if not entry.name.endswith((".dist-info", ".egg-info")):
                continue
            result = read_distribution(path)
            if isinstance(result, BrokenDistribution):
                self.broken.append(result)
                continue
            key = normalised(result.name)
            if key in seen:
                both = f"{seen[key].version} ({seen[key].folder.name}) and {result.version} ({result.folder.name})"
                self.broken.append(BrokenDistribution(path, f"{result.name} is recorded twice: {both}"))
            seen[key] = result
            self.distributions.setdefault(key, result)

    def get(self, name: str) -> Distribution | None:
        return self.distributions.get(normalised(name))

    def module(self, dotted: str) -> Path | None:
        """The file (or namespace folder) that `import dotted` would take."""
        parts = dotted.split(".")
        namespace = None
        for base in self.path:
            place = base.joinpath(*parts)
            if (place / "__init__.py").is_file():
                return place / "__init__.py"
            if place.with_name(f"{parts[-1]}.py").is_file():
                return place.with_name(f"{parts[-1]}.py")
            if place.parent.is_dir():
                for compiled in sorted(place.parent.glob(f"{parts[-1]}.*so")):
                    if compiled.name.split(".")[0] == parts[-1]:
                        return compiled
            if namespace is None and place.is_dir():
                namespace = place
        return namespace

    @functools.cached_property
    def libraries(self) -> tuple[Path, ...]:
        """Every shared library below the package folders, and of packages found elsewhere on the path."""
        found: dict[Path, None] = {}
        for folder in self.folders:
            found.update(dict.fromkeys(_libraries_below(folder)))
        return tuple(found)

    @functools.cached_property
    def _owners(self) -> dict[str, Distribution]:
        owners = {}
        for distribution in self.distributions.values():
            for name in distribution.files:
                owners[str(distribution.folder.parent / name)] = distribution
        return owners

    def owner(self, path: Path) -> Distribution | None:
        """The distribution that recorded `path` or, for a Python file, its package's __init__.py."""
        return self._owners.get(str(path))

    def owners_of_import(self, name: str) -> list[Distribution]:
        """Distributions that installed files below the import name."""
        return [
            d
            for d in self.distributions.values()
            if any(f == f"{name}.py" or f.startswith((f"{name}/", f"{name}.cpython", f"{name}.abi3")) for f in d.files)
        ]


def _from_pth(folders: tuple[Path, ...]) -> Iterator[Path]:
    for folder in folders:
        for file in sorted(folder.glob("*.pth")):
            try:
                lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError:
                continue
            for line in lines:
                if line.strip() and not line.startswith(("import", "#")):
                    yield (folder / line.strip()).resolve()
        # Editable installations by an import hook keep a table of where their packages are.
        for file in sorted(folder.glob("__editable___*_finder.py")):
            mapping = constants(file).get("MAPPING")
            for place in mapping.values() if isinstance(mapping, dict) else ():
                yield Path(str(place)).parent


def _libraries_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED_FOLDERS and not f.startswith("~"))
        for name in sorted(files):
            if ".so" in name and _LIBRARY.fullmatch(name):
                yield Path(parent, name)


def read_distribution(folder: Path) -> Distribution | BrokenDistribution:
    """The metadata in a .dist-info or .egg-info."""
    file = folder if folder.is_file() else folder / ("METADATA" if folder.suffix == ".dist-info" else "PKG-INFO")
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return BrokenDistribution(folder, f"{file.name} cannot be read: {error.strerror or error}")
    fields: dict[str, list[str]] = {}
    for line in text.split("\n"):
        if not line.strip():
            break
        key, colon, value = line.partition(":")
        if colon and not line[0].isspace():
            fields.setdefault(key.lower(), []).append(value.strip())
    if not fields.get("name") or not fields.get("version"):
        missing = "Name" if not fields.get("name") else "Version"
        return BrokenDistribution(folder, f"{file.name} has no {missing}")
    requires = []
    for line in fields.get("requires-dist", []):
        if match := _REQUIREMENT.match(line):
            requires.append(Requirement(normalised(match[1]), match[2].strip(), (match[3] or "").strip()))
    return Distribution(fields["name"][0], fields["version"][0], folder, tuple(requires), _recorded(folder))


def _recorded(folder: Path) -> tuple[str, ...]:
    """Code that the distribution installed, relative to the folder around its metadata."""
    for name, separator in (("RECORD", ","), ("installed-files.txt", "\n")):
        try:
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        files = (line.split(separator)[0].strip('"') for line in lines)
        if name == "installed-files.txt":
            files = (os.path.normpath(os.path.join(folder.name, f)) for f in files)  # noqa: PTH118
        return tuple(f for f in files if f.endswith(".py") or ".so" in f)
    return ()


def constants(file: Path) -> dict[str, object]:
    """Names that a module sets to a literal at its top, without running it."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
    except (OSError, SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[str, object] = {}
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if value is None:
            continue
        for target in targets:
            if isinstance(target, ast.Name):
                try:
                    found[target.id] = ast.literal_eval(value)
                except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                    continue
    return found
