"""Imports of the upstream names: each is loaded, under its own name, from its file in ``modules``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from ._missing import missing

NAMES = ("cumesh", "flex_gemm", "nvdiffrast", "nvdiffrec_render", "o_voxel")
"""The top-level modules that `install` serves."""

_MODULES = Path(__file__).parent / "modules"


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        module.__dict__["__getattr__"] = _refusal(module)
        # Having a path, even an empty one, makes `from module import name` ask the finder for a name that the module
        # lacks, whose text then reaches the user; without it Python would replace that by one of its own.
        module.__dict__.setdefault("__path__", [])


def _refusal(module: ModuleType) -> Callable[[str], NoReturn]:
    """What Python calls for a name that `module` lacks (PEP 562)."""

    def refuse(name: str) -> NoReturn:
        raise AttributeError(missing(module.__name__, name, module.__all__), name=name, obj=module)

    return refuse


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, *rest = fullname.split(".")
        if root not in NAMES:
            return None
        place = _MODULES.joinpath(root, *rest)
        package = place / "__init__.py"
        if package.is_file():
            loader = _Loader(fullname, str(package))
            return spec_from_file_location(fullname, package, loader=loader, submodule_search_locations=[str(place)])
        file = place.with_suffix(".py")
        if file.is_file():
            return spec_from_file_location(fullname, file, loader=_Loader(fullname, str(file)))
        parent, _, name = fullname.rpartition(".")
        raise ModuleNotFoundError(missing(parent, name, sys.modules[parent].__all__))


_FINDER = _Finder()


def _ours(module: ModuleType) -> bool:
    return isinstance(getattr(module.__spec__, "loader", None), _Loader)


def install() -> None:
    """From now on ``import flex_gemm`` (and the other `NAMES`) gives this package's, also where the real one is installed.

    Calling it again changes nothing.

    Raises:
        ImportError: one of the real modules is imported already, so that some code would run on it and some on ours;
            the text names it and its file. Nothing is changed then.
    """
    for name in NAMES:
        module = sys.modules.get(name)
        if module is not None and not _ours(module):
            where = getattr(module, "__file__", None) or "an unknown place"
            raise ImportError(
                f"{name} is already imported, from {where}: call trellis_compat.install() before anything imports it, "
                "or use `python -m trellis_compat SCRIPT`",
                name=name,
            )
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)


def uninstall() -> None:
    """Takes `install` back: the names mean the real modules again. What was imported before keeps working."""
    if _FINDER in sys.meta_path:
        sys.meta_path.remove(_FINDER)
    for name in [n for n in sys.modules if n.split(".")[0] in NAMES]:
        if _ours(sys.modules[name]):
            del sys.modules[name]
