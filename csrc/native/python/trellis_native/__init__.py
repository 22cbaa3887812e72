"""The native runtime shared by the extensions of Trellis Forge; see the package's README."""

from . import check
from ._extension import EXTENSIONS, Extension, Library, report
from ._flavour import Choice, Flavour, choose_cuda, driver_version, find_flavours, runs_on
from ._header import Function, Parameter, parse_header
from ._ops import OpLibrary

__all__ = [
    "EXTENSIONS",
    "Choice",
    "Extension",
    "Flavour",
    "Function",
    "Library",
    "OpLibrary",
    "Parameter",
    "check",
    "choose_cuda",
    "driver_version",
    "find_flavours",
    "parse_header",
    "report",
    "runs_on",
]
