"""The native library of this package, and its namespace of torch operators."""

from pathlib import Path

from trellis_native import Extension, OpLibrary

EXTENSION = Extension("raster", Path(__file__).parent)
OPS = OpLibrary("trellis_raster")

MAX_SIDE = 32768
MAX_FACES = 16777215
