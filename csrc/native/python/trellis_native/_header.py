"""Reads the functions that a C header declares, so that their ctypes signatures are written once: in C.

The headers are plain C99 in one style: every exported function is ``TK_API <return type> name(<parameters>);``.
Anything marked TK_API that this reader cannot understand is an error, not a function left out.
"""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from typing import Any

_SCALARS: dict[str, Any] = {
    "int": ctypes.c_int,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint8_t": ctypes.c_uint8,
    "uint32_t": ctypes.c_uint32,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
}

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_FUNCTION = re.compile(r"\bTK_API\s+([\w\s*]+?)\b(\w+)\s*\(([^()]*)\)\s*;")


@dataclass(frozen=True)
class Parameter:
    """One parameter: its C type with single spaces (``const float*``) and its name."""

    type: str
    name: str

    @property
    def ctype(self) -> Any:
        return _ctype(self.type)


@dataclass(frozen=True)
class Function:
    """One declared function."""

    name: str
    returns: str
    parameters: tuple[Parameter, ...]

    @property
    def restype(self) -> Any:
        return ctypes.c_char_p if self.returns == "const char*" else _ctype(self.returns)

    @property
    def takes_device(self) -> bool:
        """Whether the function ends in ``int device, void* stream``."""
        return [(p.type, p.name) for p in self.parameters[-2:]] == [("int", "device"), ("void*", "stream")]


def _ctype(c_type: str) -> Any:
    if c_type == "void":
        return None
    if c_type.endswith("*"):
        return ctypes.c_void_p
    bare = c_type.removeprefix("const ")
    if bare not in _SCALARS:
        raise ValueError(f"unknown C type {c_type!r}; expected a pointer or one of {', '.join(_SCALARS)}")
    return _SCALARS[bare]


def _normalise(c_type: str) -> str:
    return re.sub(r"\s*\*", "*", " ".join(c_type.split()))


def _parameter(text: str) -> Parameter:
    match = re.fullmatch(r"\s*(.+?[\s*])(\w+)\s*", text, re.DOTALL)
    if match is None:
        raise ValueError(f"cannot read the parameter {text.strip()!r}; expected a type and a name")
    parameter = Parameter(_normalise(match[1]), match[2])
    _ctype(parameter.type)
    return parameter


def parse_header(text: str) -> dict[str, Function]:
    """Functions marked TK_API in a header's text, by name.

    Raises:
        ValueError: a declaration marked TK_API is not in the style above, names an unknown type, or a
            name is declared twice.
    """
    code = _COMMENT.sub(" ", text)
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", "", code, flags=re.MULTILINE)
    functions: dict[str, Function] = {}
    for match in _FUNCTION.finditer(code):
        returns, name, inside = _normalise(match[1]), match[2], match[3].strip()
        parameters = () if inside in ("", "void") else tuple(_parameter(p) for p in inside.split(","))
        if name in functions:
            raise ValueError(f"{name} is declared twice")
        function = Function(name, returns, parameters)
        function.restype  # noqa: B018  (an unknown return type must fail here, not at the first call)
        functions[name] = function
    marked = len(re.findall(r"\bTK_API\b", code))
    if marked != len(functions):
        raise ValueError(f"{marked} declarations are marked TK_API but {len(functions)} could be read")
    return functions
