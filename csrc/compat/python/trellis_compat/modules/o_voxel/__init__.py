"""O-Voxels under o_voxel's names, by trellis_voxel (and the other extensions for `postprocess`)."""

from . import convert, io, postprocess, rasterize, serialize

__all__ = ["convert", "io", "postprocess", "rasterize", "serialize"]
