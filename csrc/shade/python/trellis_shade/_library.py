"""The native library of this package, and its namespace of torch operators."""

from pathlib import Path

from trellis_native import Extension, OpLibrary

EXTENSION = Extension("shade", Path(__file__).parent)
OPS = OpLibrary("trellis_shade")
