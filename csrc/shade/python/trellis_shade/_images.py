"""Reading high-dynamic-range images, through OpenImageIO."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import torch


def read_radiance(path: str | os.PathLike[str]) -> torch.Tensor:
    """The RGB channels of a Radiance .hdr or OpenEXR .exr file as float32 [H, W, 3], negative values as 0."""
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"path: no such file: {file}")
    try:
        oiio = importlib.import_module("OpenImageIO")  # at first use: it is an optional dependency
    except ImportError as error:
        raise ImportError('reading .hdr and .exr files needs OpenImageIO: pip install "trellis-shade[hdr]"') from error
    image = oiio.ImageInput.open(str(file))
    if image is None:
        raise ValueError(f"path: {file} cannot be read as an image: {oiio.geterror()}")
    try:
        names = list(image.spec().channelnames)
        if image.spec().nchannels == 1:
            wanted = [0, 0, 0]
        elif {"R", "G", "B"} <= set(names):
            wanted = [names.index(c) for c in "RGB"]
        else:
            raise ValueError(f"path: {file}: expected channels R, G and B, got {', '.join(names)}")
        pixels = image.read_image(format="float")
        if pixels is None:
            raise ValueError(f"path: {file} cannot be read to its end: {image.geterror()}")
    finally:
        image.close()
    rgb = torch.from_numpy(pixels)[..., wanted].clamp(min=0).contiguous()
    if not bool(torch.isfinite(rgb).all()):
        raise ValueError(f"path: {file}: expected finite values, got NaN or infinity")
    return rgb
