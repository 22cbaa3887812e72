"""Rasterisation under nvdiffrast's names, by trellis_raster: its `torch` submodule."""

__all__ = ["torch"]

from . import torch
