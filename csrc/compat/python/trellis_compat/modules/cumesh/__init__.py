"""Mesh processing under cumesh's names, by trellis_mesh."""

from . import remeshing
from ._bvh import cuBVH
from ._mesh import CuMesh

__all__ = ["CuMesh", "cuBVH", "remeshing"]
