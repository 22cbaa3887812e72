"""Sparse voxel operations: submanifold convolution, grid sampling, resampling, space-filling orders.

For an argument that cannot serve, every function raises TypeError (its kind, its dtype) or ValueError (its shape, device
or values), and names it, what was expected and what came. Their docstrings say what they raise besides.
"""

from ._index import VoxelIndex, voxel_index
from ._ops_conv import conv_map, neighbor_map, submanifold_conv3d
from ._ops_convnext import convnext
from ._ops_grid import grid_sample_3d
from ._ops_norm import layer_norm, norm_heads, norm_linear, residual_norm
from ._ops_order import decode_order, encode_order
from ._ops_resample import Resampled, add_shares, channel_to_space, downsample, space_to_channel, upsample
from ._plan import ConvPlan, conv_plan

__all__ = [
    "ConvPlan",
    "Resampled",
    "VoxelIndex",
    "add_shares",
    "channel_to_space",
    "conv_map",
    "conv_plan",
    "convnext",
    "decode_order",
    "downsample",
    "encode_order",
    "grid_sample_3d",
    "layer_norm",
    "neighbor_map",
    "norm_heads",
    "norm_linear",
    "residual_norm",
    "space_to_channel",
    "submanifold_conv3d",
    "upsample",
    "voxel_index",
]
