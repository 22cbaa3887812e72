"""Triangle rasterisation, interpolation and texture sampling; see the package's README.

For an argument that cannot serve, every function raises TypeError (its kind, its dtype) or ValueError (its shape, device
or values), and names it, what was expected and what came. Their docstrings say what they raise besides.
"""

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
