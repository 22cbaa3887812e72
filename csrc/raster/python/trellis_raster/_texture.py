"""Texture look-ups and mip pyramids: argument checks and operators."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from trellis_native import check

from ._library import EXTENSION, MAX_SIDE, OPS

_FILTERS = ("nearest", "linear", "mip")
_WRAPS = ("repeat", "clamp", "mirror", "zero")


def _level_sizes(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    sizes = [(height, width)]
    for _ in range(levels - 1):
        height, width = max(1, height // 2), max(1, width // 2)
        sizes.append((height, width))
    return sizes


@dataclass(frozen=True)
class MipPyramid:
    """An image and its smaller versions, one after the other: `data` is float32 [B, texels, C]."""

    data: torch.Tensor
    height: int
    width: int
    levels: int

    def level(self, index: int) -> torch.Tensor:
        """Level `index` as float32 [B, H, W, C], a view; 0 is the image itself."""
        index = check.positive_int("index", index, minimum=0, maximum=self.levels - 1)
        sizes = _level_sizes(self.height, self.width, index + 1)
        begin = sum(h * w for h, w in sizes[:-1])
        h, w = sizes[-1]
        return self.data[:, begin : begin + h * w].view(len(self.data), h, w, self.data.shape[2])


@OPS.define("build_mips(Tensor image, int levels) -> Tensor")
def _build_mips(image: torch.Tensor, levels: int) -> torch.Tensor:
    batch, height, width, channels = image.shape
    data = image.new_empty((batch, sum(h * w for h, w in _level_sizes(height, width, levels)), channels))
    EXTENSION.call("build_mips", image, batch, height, width, channels, levels, data, device=image.device)
    return data


@OPS.fake("build_mips")
def _(image: torch.Tensor, levels: int) -> torch.Tensor:
    batch, height, width, channels = image.shape
    return image.new_empty((batch, sum(h * w for h, w in _level_sizes(height, width, levels)), channels))


def build_mips(image: torch.Tensor, *, levels: int | None = None) -> MipPyramid:
    """Successively halved versions of an image, by exact area averaging (odd sides too), down to 1 x 1.

    Args:
        image: float32 [B, H, W, C], sides at most 32,768.
        levels: how many, the image included; None for all.

    Raises:
        TypeError, ValueError: an argument of another type, shape or range than stated.
    """
    image = _check_image(image)
    _, height, width, _ = image.shape
    most = max(height, width).bit_length()
    levels = most if levels is None else check.positive_int("levels", levels, maximum=most)
    return MipPyramid(_build_mips(image.detach(), levels), height, width, levels)


@OPS.define("uv_lod(Tensor uv, SymInt texture_height, SymInt texture_width) -> Tensor")
def _uv_lod(uv: torch.Tensor, texture_height: int, texture_width: int) -> torch.Tensor:
    batch, height, width, _ = uv.shape
    lod = uv.new_empty((batch, height, width))
    EXTENSION.call("uv_lod", uv, batch, height, width, texture_height, texture_width, lod, device=uv.device)
    return lod


@OPS.fake("uv_lod")
def _(uv: torch.Tensor, texture_height: int, texture_width: int) -> torch.Tensor:
    return uv.new_empty(uv.shape[:3])


def uv_lod(uv: torch.Tensor, texture_size: tuple[int, int]) -> torch.Tensor:
    """Mip level of each pixel: log2 of the texels that uv moves by from pixel to pixel, not below 0.

    On each image axis the smaller of the differences to the two neighbours is taken, so that pixels beside a jump
    between charts or beside the background stay sharp; the larger axis decides.

    Args:
        uv: float32 [B, H, W, 2].
        texture_size: (height, width) of the texture's level 0.

    Returns:
        float32 [B, H, W].

    Source: OpenGL 4.6 specification, section 8.14.
    """
    uv = check.tensor("uv", uv, dtype=torch.float32, shape=["B", "H", "W", 2])
    if not isinstance(texture_size, (tuple, list)) or len(texture_size) != 2:
        raise TypeError(f"texture_size: expected (height, width), got {texture_size!r}")
    height = check.positive_int("texture_size[0]", texture_size[0], maximum=MAX_SIDE)
    width = check.positive_int("texture_size[1]", texture_size[1], maximum=MAX_SIDE)
    result: torch.Tensor = _uv_lod(uv.detach(), height, width)
    return result


@OPS.define(
    "sample_texture(Tensor pyramid, SymInt texture_height, SymInt texture_width, int levels, Tensor uv, Tensor? lod, "
    "str filter, str wrap) -> Tensor"
)
def _sample_texture(
    pyramid: torch.Tensor,
    texture_height: int,
    texture_width: int,
    levels: int,
    uv: torch.Tensor,
    lod: torch.Tensor | None,
    filter: str,  # noqa: A002  (the field's word)
    wrap: str,
) -> torch.Tensor:
    texture_batch, _, channels = pyramid.shape
    batch, height, width, _ = uv.shape
    out = uv.new_empty((batch, height, width, channels))
    EXTENSION.call(
        "sample_texture",
        *(pyramid, texture_batch, texture_height, texture_width, channels, levels, uv, lod, batch, height * width),
        *(_FILTERS.index(filter), _WRAPS.index(wrap), out),
        device=uv.device,
    )
    return out


@OPS.fake("sample_texture")
def _(
    pyramid: torch.Tensor,
    texture_height: int,
    texture_width: int,
    levels: int,
    uv: torch.Tensor,
    lod: torch.Tensor | None,
    filter: str,  # noqa: A002
    wrap: str,
) -> torch.Tensor:
    return uv.new_empty((*uv.shape[:3], pyramid.shape[2]))


def sample_texture(
    image: torch.Tensor | MipPyramid,
    uv: torch.Tensor,
    filter: str = "linear",  # noqa: A002
    *,
    wrap: str = "repeat",
    lod: torch.Tensor | float | None = None,
) -> torch.Tensor:
    """Texture values at uv.

    Args:
        image: float32 [B, H, W, C], or [1, H, W, C] shared by all; or a pyramid of such from `build_mips`. Texel
            (column i, row j) has its centre at ((i + 0.5) / W, (j + 0.5) / H): row 0 is at v = 0. (glTF has the same
            convention; a format with v upwards needs 1 - v.)
        uv: float32 [B, H', W', 2].
        filter: "nearest", "linear", or "mip": linear between the two nearest levels of a pyramid.
        wrap: what lies outside [0, 1]: "repeat", "clamp" (the border texel), "mirror", or "zero".
        lod: for "mip", the level (fractional, clamped to those there are): float32 [B, H', W'] or a number; None
            takes it from `uv_lod`.

    Returns:
        float32 [B, H', W', C]; 0 where uv is not finite. No gradient.

    Raises:
        TypeError, ValueError: an argument of another type, shape, device or range than stated.
    """
    check.choice("filter", filter, _FILTERS)
    check.choice("wrap", wrap, _WRAPS)
    uv = check.tensor("uv", uv, dtype=torch.float32, shape=["B", "H", "W", 2])
    if isinstance(image, MipPyramid):
        pyramid = image
    elif filter == "mip":
        pyramid = build_mips(image)
    else:
        image = _check_image(image)
        pyramid = MipPyramid(image.flatten(1, 2), image.shape[1], image.shape[2], 1)
    data = check.tensor("image", pyramid.data, dtype=torch.float32, shape=["B", "texels", "C"], like=uv)
    if len(data) not in (1, len(uv)):
        raise ValueError(f"image: expected a batch of 1 or {len(uv)} like uv, got {len(data)}")
    if torch.is_grad_enabled() and (data.requires_grad or uv.requires_grad):
        raise ValueError("image, uv: one requires a gradient, but texture sampling has none; pass it detached")
    if lod is not None and filter != "mip":
        raise ValueError(f'lod: expected None with filter {filter!r}; it selects levels with "mip"')
    if filter == "mip":
        if lod is None:
            lod = uv_lod(uv, (pyramid.height, pyramid.width))
        elif isinstance(lod, torch.Tensor):
            lod = check.tensor("lod", lod, dtype=torch.float32, shape=list(uv.shape[:3]), like=uv).detach()
        else:
            lod = torch.full(uv.shape[:3], check.number("lod", lod), dtype=torch.float32, device=uv.device)
    result: torch.Tensor = _sample_texture(data, pyramid.height, pyramid.width, pyramid.levels, uv, lod, filter, wrap)
    return result


def _check_image(image: torch.Tensor) -> torch.Tensor:
    image = check.tensor("image", image, dtype=torch.float32, shape=["B", "H", "W", "C"])
    if not (1 <= image.shape[1] <= MAX_SIDE and 1 <= image.shape[2] <= MAX_SIDE):
        raise ValueError(f"image: expected sides in [1, {MAX_SIDE}], got {image.shape[1]} x {image.shape[2]}")
    if torch.is_grad_enabled() and image.requires_grad:
        raise ValueError("image: requires a gradient, but texture sampling has none; pass image.detach()")
    return image
