"""The native half of this package and its operator namespace, shared by the modules beside it."""

from __future__ import annotations

from pathlib import Path

from trellis_native import Extension, OpLibrary

EXTENSION = Extension("mesh", Path(__file__).parent)
OPS = OpLibrary("trellis_mesh")
