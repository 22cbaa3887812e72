"""Texture look-ups."""

from __future__ import annotations

import torch
import trellis_raster
from trellis_shade import EnvironmentLight

from ._lazy import settled

__all__: list[str] = []

_WRAPS = {"wrap": "repeat", "clamp": "clamp", "zero": "zero"}
_FILTERS = ("auto", "nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear")


def texture_construct_mip(
    tex: torch.Tensor, max_mip_level: int | None = None, cube_mode: bool = False
) -> trellis_raster.MipPyramid:
    """Smaller versions of an image [B, H, W, C] for `texture`, at most `max_mip_level` of them."""
    if cube_mode:
        raise NotImplementedError("texture_construct_mip: trellis_compat serves cube maps without mip levels only")
    most = max(tex.shape[1:3]).bit_length()
    levels = most if max_mip_level is None else min(max_mip_level + 1, most)
    return trellis_raster.build_mips(tex.float(), levels=levels)


def texture(
    tex: torch.Tensor,
    uv: torch.Tensor,
    uv_da: torch.Tensor | None = None,
    mip_level_bias: torch.Tensor | None = None,
    mip: trellis_raster.MipPyramid | None = None,
    filter_mode: str = "auto",
    boundary_mode: str = "wrap",
    max_mip_level: int | None = None,
) -> torch.Tensor:
    """`trellis_raster.sample_texture`. No gradients.

    Args:
        tex: float32 [B or 1, H, W, C], or with `boundary_mode` "cube" [1, 6, n, n, 3].
        uv: float32 [B, H', W', 2], row 0 of the image at v = 0; for a cube map directions [B, H', W', 3].
        uv_da: [B, H', W', 4], derivatives of uv as from `interpolate`; the level is that of the longer axis of the
            pixel's footprint.
        mip_level_bias: [B, H', W'], added to that level, or the level itself where `uv_da` is None.
        mip: from `texture_construct_mip`.
        filter_mode: "nearest", "linear", "linear-mipmap-nearest", "linear-mipmap-linear", or "auto": the last if
            there is something to choose a level by, else "linear".
        boundary_mode: "wrap", "clamp", "zero" or "cube".
        max_mip_level: levels above it are not used.

    Returns:
        float32 [B, H', W', C].
    """
    if filter_mode not in _FILTERS:
        raise ValueError(f"filter_mode: expected one of {', '.join(_FILTERS)}, got {filter_mode!r}")
    if boundary_mode not in (*_WRAPS, "cube"):
        raise ValueError(f"boundary_mode: expected one of {', '.join(_WRAPS)}, cube, got {boundary_mode!r}")
    if filter_mode == "auto":
        filter_mode = "linear" if uv_da is None and mip_level_bias is None else "linear-mipmap-linear"
    if max_mip_level == 0 and "mipmap" in filter_mode:
        filter_mode = "linear"
    if boundary_mode == "cube":
        return _cube(tex, uv, filter_mode)
    wrap = _WRAPS[boundary_mode]
    if "mipmap" not in filter_mode:
        return trellis_raster.sample_texture(tex, uv, filter=filter_mode, wrap=wrap)
    if isinstance(mip, list):
        raise NotImplementedError("mip: trellis_compat serves what texture_construct_mip returns, not a list of images")
    level = _level(settled(uv_da), mip_level_bias, tex)
    if filter_mode == "linear-mipmap-nearest":
        level = level.clamp_min(0).floor()  # upstream takes the finer of the two levels, not the nearer
    pyramid = texture_construct_mip(tex, max_mip_level) if mip is None else mip
    return trellis_raster.sample_texture(pyramid, uv, filter="mip", wrap=wrap, lod=level)


def _level(uv_da: torch.Tensor | None, bias: torch.Tensor | None, tex: torch.Tensor) -> torch.Tensor:
    if uv_da is None:
        if bias is None:
            raise ValueError("uv_da, mip_level_bias: expected one of them with a mipmap filter, got None for both")
        return bias.float()
    height, width = tex.shape[1:3]
    # The map from pixels to texels, rows u and v; its larger singular value is the footprint's longer axis.
    jacobian = uv_da.reshape(*uv_da.shape[:-1], 2, 2) * uv_da.new_tensor([width, height])[:, None]
    half = jacobian.square().sum((-2, -1)) / 2
    area = jacobian[..., 0, 0] * jacobian[..., 1, 1] - jacobian[..., 0, 1] * jacobian[..., 1, 0]
    longest = half + (half.square() - area.square()).clamp_min(0).sqrt()
    level: torch.Tensor = longest.clamp_min(1e-30).log2() / 2
    return level if bias is None else level + bias


def _cube(tex: torch.Tensor, directions: torch.Tensor, filter_mode: str) -> torch.Tensor:
    if filter_mode != "linear" or tex.dim() != 5 or tex.shape[0] != 1 or tex.shape[4] != 3:
        raise NotImplementedError(
            "texture: trellis_compat serves cube maps of shape [1, 6, n, n, 3] with linear filtering only, "
            f"got {list(tex.shape)} with {filter_mode}"
        )
    cube = tex[0].detach().float().contiguous()
    # A light of one level is a plain cube map.
    light = EnvironmentLight(cube.view(-1, 3), cube.shape[1], 1, cube, cube.new_zeros(2, 2, 2))
    return light.radiance(directions)
