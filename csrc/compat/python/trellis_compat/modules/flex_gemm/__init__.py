"""Sparse convolution and sampling under flex_gemm's names, by trellis_sparse."""

from . import ops

__all__ = ["ops"]
