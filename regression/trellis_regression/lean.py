"""Importing torch without what a gate never touches: a fifth of the time that a short command takes.

`import torch` also imports distributions, optimisers, quantisation, export and the rules by which compiled graphs are traced.
Here those are modules that load when something is asked of them, as importlib.util.LazyLoader would have it; that one cannot
be used, since torch's own look through `sys.modules` (inspect.getmodule) asks every module for its file, and it then loads.
Only for versions of torch with which this was tried; another is imported as it is.

With a GPU the command takes 2.1 s on a large asset, and 2.5 s against a golden, where it takes 2.7 and 3.0 s without this
(docs/gates.md, "Speed"); 3 s is what it may take.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import Any, cast

TRIED = ("2.11", "2.13")
"""Versions of torch, by the first two numbers."""

LATER = (
    "unittest.mock", "tarfile", "multiprocessing.connection", "pynvml", "torchgen.model", "torch.utils.data",
    "torch.distributions", "torch.nested", "torch.optim", "torch.profiler", "torch.ao", "torch.nn.intrinsic", "torch.nn.qat",
    "torch.nn.quantizable", "torch.nn.quantized", "torch.quantization", "torch.masked", "torch.export",
    "torch.distributed._meta_registrations", "torch._meta_registrations",
)  # fmt: skip
"""What nothing else of torch needs while it is imported, in its order."""

# torch.fx cannot be imported in the midst of torch.func, and the compiler takes all of torch to be there.
_FIRST = {"torch.func": ("torch.fx",), "torch._dynamo": LATER, "torch._inductor": LATER}
_BACKENDS = "TORCH_DEVICE_BACKEND_AUTOLOAD"
_loading = RLock()


class Later(ModuleType):
    """A module that loads when an attribute is asked for that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        # Those with underscores are asked of every module, by what looks for something in all of them.
        if name.startswith("__") and name.endswith("__") and name not in ("__all__", "__getattr__"):
            raise AttributeError(name)
        load(self)
        return getattr(self, name)


def load(module: ModuleType) -> None:
    """Loads it, if it is one that has not loaded."""
    with _loading:
        if type(module) is not Later:
            return
        spec = module.__spec__
        assert spec is not None and spec.loader is not None
        kind = cast("Any", module)
        kind.__class__ = ModuleType
        try:
            spec.loader.exec_module(module)
        except BaseException:
            kind.__class__ = Later  # whoever asks next hears the same
            raise


class _Waiting:
    """Makes the module and leaves the rest to `load`."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return Later(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self._loader


class _There:
    """For a module that is there already: its package has imported it by loading."""

    def __init__(self, spec: ModuleSpec | None) -> None:
        self._spec = spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self._spec


class _Finder:
    def __init__(self) -> None:
        self._left = set(LATER)

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in sys.modules:  # it is loaded again, which is not our business
            return None
        package = sys.modules.get(name.rpartition(".")[0])
        if package is not None and type(package) is Later:  # a part of it is wanted
            load(package)
        for first in _FIRST.get(name, ()):
            if first not in LATER:
                importlib.import_module(first)
            elif first in sys.modules:  # not all of them are installed everywhere
                load(sys.modules[first])
        if name in sys.modules:
            return _spec(name)
        if name not in self._left:
            return None
        self._left.discard(name)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = cast("Any", _Waiting(spec.loader))
        return spec


def _spec(name: str) -> ModuleSpec:
    """The import system takes a module's own spec where it finds that a search has imported it; so it is given this."""
    module = sys.modules[name]
    spec = ModuleSpec(name, cast("Any", _There(module.__spec__)))
    module.__spec__ = spec
    return spec


def import_torch() -> ModuleType:
    """torch, imported so if it is of a version that was tried and nobody has imported it."""
    if "torch" not in sys.modules and _version() in TRIED:
        sys.meta_path.insert(0, cast("Any", _Finder()))
        # It would read what every installed package offers, for devices of other makers.
        given = os.environ.get(_BACKENDS)
        os.environ.setdefault(_BACKENDS, "0")
        try:
            importlib.import_module("torch")
        finally:
            if given is None:
                del os.environ[_BACKENDS]
    import torch

    return torch


def _version() -> str:
    spec = PathFinder.find_spec("torch")
    if spec is None or spec.origin is None:
        return ""
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    found = re.search(r"^__version__ = '(\d+\.\d+)\.", text, re.MULTILINE)
    return found[1] if found else ""
