"""Triangle rasterisation, interpolation and texture sampling; see the package's README."""

from ._gaps import fill_gaps, nearest_texel
from ._library import EXTENSION, MAX_FACES, MAX_SIDE
from ._rasterize import depth_layers, interpolate, rasterize
from ._texture import MipPyramid, build_mips, sample_texture, uv_lod

__all__ = [
    "EXTENSION",
    "MAX_FACES",
    "MAX_SIDE",
    "MipPyramid",
    "build_mips",
    "depth_layers",
    "fill_gaps",
    "interpolate",
    "nearest_texel",
    "rasterize",
    "sample_texture",
    "uv_lod",
]
