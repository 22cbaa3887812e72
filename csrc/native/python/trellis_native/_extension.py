"""An extension's native libraries: loaded once per flavour, checked against the header, called with tensors."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import struct
import threading
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ._flavour import Choice, Flavour, choose_cuda, driver_version, find_flavours
from ._header import Function, parse_header

# The other half of this table is csrc/native/include/trellis/abi.h.
_ERRORS: dict[int, type[Exception]] = {1: ValueError, 2: MemoryError, 3: RuntimeError, 4: RuntimeError}
_CPU = -1

EXTENSIONS: dict[str, Extension] = {}
"""Extensions imported so far, by name."""


class Library:
    """One loaded flavour: a ctypes library whose functions carry the header's signatures."""

    def __init__(self, extension: str, flavour: Flavour, functions: dict[str, Function], header_abi: str) -> None:
        self.flavour = flavour
        self._functions = functions
        self._prefix = f"tk_{extension}_"
        if not _is_whole_elf(flavour.path):
            raise ImportError(
                f"trellis_{extension}: {flavour.path.name} is not a whole ELF file: reinstall trellis-{extension}"
            )
        try:
            self._library = ctypes.CDLL(str(flavour.path))
        except OSError as error:
            raise ImportError(f"trellis_{extension}: {flavour.path.name} could not be loaded: {error}") from error
        if (abi := self._text("abi")) != header_abi:
            raise ImportError(
                f"trellis_{extension}: {flavour.path} was built from another header than the one installed "
                f"(library {abi[:12]}, header {header_abi[:12]}); reinstall trellis-{extension}"
            )

    def _text(self, verb: str) -> str:
        function = getattr(self._library, self._prefix + verb)
        function.restype, function.argtypes = ctypes.c_char_p, []
        return bytes(function()).decode()

    @property
    def last_error(self) -> str:
        return self._text("last_error")

    @property
    def version(self) -> str:
        return self._text("version")

    @functools.cache  # noqa: B019  (libraries live as long as the process)
    def function(self, verb: str) -> Any:
        """The C function tk_<extension>_<verb> with its argument types set."""
        name = self._prefix + verb
        declared = self._functions.get(name)
        if declared is None:
            raise AttributeError(f"{name} is not declared in the header")
        try:
            function = getattr(self._library, name)
        except AttributeError:
            raise NotImplementedError(
                f"{self._prefix.removeprefix('tk_').rstrip('_')}.{verb} has no {self.flavour.name} kernel in this release; "
                "move its tensors to the CPU"
            ) from None
        function.restype = declared.restype
        function.argtypes = [p.ctype for p in declared.parameters]
        return function


def _is_whole_elf(path: Path) -> bool:
    """Whether a 64-bit little-endian ELF file reaches to its last table (the dynamic loader dies of a bus error if not)."""
    with path.open("rb") as file:
        head = file.read(64)
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":
        return False
    (table,) = struct.unpack_from("<Q", head, 40)
    size, count = struct.unpack_from("<HH", head, 58)
    return path.stat().st_size >= int(table) + int(size) * int(count)


class _Call(NamedTuple):
    """A C function and how it is called."""

    function: Any
    takes_device: bool
    parameters: int


class Extension:
    """The native half of package ``trellis_<name>``.

    Args:
        name: the extension's short name, such as "sparse".
        package: folder of its Python package; ``include/trellis_<name>.h`` and ``lib/_<flavour>.so`` lie in it.

    ``TRELLIS_NATIVE_DIR=<prefix>`` takes headers and libraries from ``<prefix>/trellis_<name>`` instead (where
    ``cmake --install`` puts them), for working on native code without reinstalling; `report` names the folder used.
    """

    def __init__(self, name: str, package: Path) -> None:
        self.name = name
        override = os.environ.get("TRELLIS_NATIVE_DIR")
        self.folder = Path(override) / f"trellis_{name}" if override else package
        header = self.folder / "include" / f"trellis_{name}.h"
        if not header.exists():
            raise ImportError(f"trellis_{name}: {header} is missing: the native part was not built; run `nox -s build`")
        text = header.read_bytes()
        self.abi = hashlib.sha256(text).hexdigest()
        self.functions = parse_header(text.decode())
        self.flavours = find_flavours(self.folder / "lib")
        self._loaded: dict[str, Library] = {}
        self._calls: dict[tuple[str, torch.device], _Call] = {}  # what `call` needs to know, looked up once
        self._lock = threading.Lock()
        EXTENSIONS[name] = self

    def choose(self, device: torch.device) -> Choice:
        """Which flavour serves `device`, and why."""
        if device.type == "cpu":
            cpu = next((f for f in self.flavours if f.name == "cpu"), None)
            return Choice(
                cpu,
                "tensors on the CPU" if cpu else f"no _cpu.so in {self.folder / 'lib'}: reinstall trellis-{self.name}",
            )
        if device.type == "cuda":
            return choose_cuda(self.flavours, driver_version(), torch.cuda.get_device_capability(device))
        return Choice(None, f"device type {device.type!r} is not supported; expected cpu or cuda")

    def library(self, device: torch.device) -> Library:
        """The library for `device`, loaded at first use.

        Raises:
            RuntimeError: no installed flavour serves the device; the text says why and names the remedy.
        """
        key = str(device)
        with self._lock:
            if key not in self._loaded:
                choice = self.choose(device)
                if choice.flavour is None:
                    raise RuntimeError(
                        f"trellis_{self.name} cannot serve {device}: {choice.reason}. "
                        "Build for this machine with `nox -s build`, or move the tensors to the CPU"
                    )
                same = next((lib for lib in self._loaded.values() if lib.flavour == choice.flavour), None)
                self._loaded[key] = same or Library(self.name, choice.flavour, self.functions, self.abi)
            return self._loaded[key]

    def call(self, verb: str, *arguments: Any, device: torch.device) -> None:
        """Calls ``tk_<name>_<verb>`` on `device`'s current stream and raises what it reports.

        Tensors become their data pointers (they must lie on `device` and be contiguous), None a null pointer,
        and ctypes objects, numbers and pointers pass as they are. Where the C function ends in
        ``int device, void* stream`` those two are added here.
        """
        call = self._calls.get((verb, device)) or self._prepare(verb, device)
        values = [_pointer(a, device) if isinstance(a, torch.Tensor) else a for a in arguments]
        if call.takes_device:
            if device.type == "cuda":
                index = torch.cuda.current_device() if device.index is None else device.index
                # The handle alone: making a Stream of it takes longer than all else here.
                values += [index, torch._C._cuda_getCurrentRawStream(index)]
            else:
                values += [_CPU, None]
        if len(values) != call.parameters:
            raise TypeError(f"tk_{self.name}_{verb} takes {call.parameters} arguments, got {len(values)}")
        code = call.function(*values)
        if code != 0:
            error = self.library(device).last_error
            raise _ERRORS.get(code, RuntimeError)(error or f"tk_{self.name}_{verb} failed with code {code}")

    def _prepare(self, verb: str, device: torch.device) -> _Call:
        function = self.library(device).function(verb)
        declared = self.functions[f"tk_{self.name}_{verb}"]
        call = _Call(function, declared.takes_device, len(declared.parameters))
        self._calls[verb, device] = call
        return call


def _pointer(tensor: torch.Tensor, device: torch.device) -> int | None:
    if tensor.device != device and not (tensor.device.type == device.type and device.index is None):
        raise ValueError(f"a tensor of this call is on {tensor.device}, expected {device}")
    if not tensor.is_contiguous():
        raise ValueError(
            f"a tensor of this call is not contiguous: shape {tuple(tensor.shape)}, strides {tensor.stride()}"
        )
    return tensor.data_ptr() or None


def report() -> list[dict[str, Any]]:
    """For each extension imported so far: its folder, what is installed, and what each device of this machine gets."""
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices += [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
    rows = []
    for name, extension in sorted(EXTENSIONS.items()):
        chosen = {str(d): extension.choose(d) for d in devices}
        rows.append(
            {
                "extension": f"trellis_{name}",
                "folder": str(extension.folder),
                "flavours": [f.name for f in extension.flavours],
                "devices": {
                    d: {"flavour": c.flavour.name if c.flavour else None, "reason": c.reason} for d, c in chosen.items()
                },
            }
        )
    return rows
