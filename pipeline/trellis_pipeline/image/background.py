"""Finding the object in an opaque picture, by a model that is already on this machine.

Nothing is downloaded here and no code from a model repository runs. Where no model is present, the error says what
to bring.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import ImageError
from .prepare import RemoveBackground

REMBG_MODELS = ("birefnet-general", "isnet-general-use", "u2net")
"""Models of rembg that serve, best first."""

METHODS = ("auto", "rembg", "birefnet", "keep")


def choose(method: str, birefnet: str | None = None, device: torch.device | None = None) -> RemoveBackground:
    """A way to remove backgrounds.

    Args:
        method: "rembg"; "birefnet", from the folder `birefnet`; "keep", which takes the whole picture as the object;
            "auto": the first of rembg and BiRefNet whose model is present.

    Raises:
        ImageError: the method asked for is not at hand; under "auto", none is.
    """
    if method not in METHODS:
        raise ImageError(f"background: expected one of {', '.join(METHODS)}, got {method!r}")
    if method == "keep":
        return _keep
    reasons = []
    for name in ("rembg", "birefnet") if method == "auto" else (method,):
        try:
            return _rembg() if name == "rembg" else _birefnet(birefnet, device or torch.device("cpu"))
        except ImageError as error:
            reasons.append(str(error))
    raise ImageError(
        f"the picture is opaque and its background cannot be removed: {'; '.join(reasons)}. "
        "A picture with an alpha channel needs none of these"
    )


def _keep(picture: Image.Image) -> Image.Image:
    return picture.convert("RGBA")


def rembg_home() -> Path:
    """The folder where rembg keeps its models."""
    return Path(os.environ.get("U2NET_HOME", Path(os.environ.get("XDG_DATA_HOME", Path.home())) / ".u2net"))


def _rembg() -> RemoveBackground:
    home = rembg_home()
    present = [name for name in REMBG_MODELS if (home / f"{name}.onnx").is_file()]
    if not present:
        raise ImageError(f"rembg: none of its models ({', '.join(REMBG_MODELS)}) is in {home}")
    try:
        import rembg
    except ImportError:
        raise ImageError("rembg: it is not installed (pip install 'rembg[cpu]')") from None
    session = rembg.new_session(present[0])

    def remove(picture: Image.Image) -> Image.Image:
        mask = rembg.remove(picture, session=session, only_mask=True)
        return _with_alpha(picture, mask)

    return remove


def _birefnet(source: str | None, device: torch.device) -> RemoveBackground:
    if not source or not Path(source).is_dir():
        raise ImageError(
            f"birefnet: expected a folder with its weights, got {source or 'none'} (ZhengPeng7/BiRefNet is ungated)"
        )
    try:
        from transformers import AutoModelForImageSegmentation
    except ImportError:
        raise ImageError("birefnet: it needs transformers (pip install 'trellis-pipeline[generate]')") from None
    try:
        model: Any = AutoModelForImageSegmentation.from_pretrained(
            source, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
        )
    except (OSError, ValueError, KeyError) as error:
        raise ImageError(
            f"birefnet: this transformers cannot load {source} without running code from it: {' '.join(str(error).split())[:200]}"
        ) from None
    model = model.eval().requires_grad_(False)

    @torch.no_grad()
    def remove(picture: Image.Image) -> Image.Image:
        pixels = np.asarray(picture.resize((1024, 1024), Image.Resampling.BILINEAR), np.float32) / 255
        pixels = (pixels - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
        batch = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None].to(device)
        try:
            out = model.to(device)(batch)
            logits = out.logits if hasattr(out, "logits") else out[-1]
            values = logits.sigmoid().float().cpu().squeeze().numpy()
        finally:
            model.to("cpu")
        return _with_alpha(picture, Image.fromarray((values * 255).round().astype(np.uint8)))

    return remove


def _with_alpha(picture: Image.Image, mask: Image.Image) -> Image.Image:
    result = picture.convert("RGB").convert("RGBA")
    result.putalpha(mask.convert("L").resize(picture.size, Image.Resampling.BILINEAR))
    return result
