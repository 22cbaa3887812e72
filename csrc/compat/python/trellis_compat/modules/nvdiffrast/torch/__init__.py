"""As nvdiffrast.torch, without gradients of positions and texture coordinates."""

from ._antialias import antialias, antialias_construct_topology_hash
from ._raster import DepthPeeler, RasterizeCudaContext, RasterizeGLContext, interpolate, rasterize
from ._texture import texture, texture_construct_mip

__all__ = [
    "DepthPeeler",
    "RasterizeCudaContext",
    "RasterizeGLContext",
    "antialias",
    "antialias_construct_topology_hash",
    "interpolate",
    "rasterize",
    "texture",
    "texture_construct_mip",
]
