"""Finding the object in an opaque picture, by a model that is already on this machine.

Nothing is downloaded here and no code from a model repository runs. BiRefNet, which upstream uses in the form of
RMBG-2.0, comes through rembg: as an ONNX file it is all weights. transformers has no class of its own for it (to 5.24);
loading it there means running the code of its repository. Where no model is present, the error says what to bring.
"""

from __future__ import annotations

import os
from pathlib import Path

from PIL import Image

from ..errors import ImageError
from .prepare import RemoveBackground

BIREFNET = "birefnet-general"
REMBG_MODELS = (BIREFNET, "isnet-general-use", "u2net")
"""Models of rembg that serve, best first."""

METHODS = ("auto", "rembg", "birefnet", "keep")


def choose(method: str) -> RemoveBackground:
    """A way to remove backgrounds.

    Args:
        method: "rembg" (and "auto"): the best of `REMBG_MODELS` that is present; "birefnet": that one; "keep": the whole
            picture is the object.

    Raises:
        ImageError: the method asked for is not at hand.
    """
    if method not in METHODS:
        raise ImageError(f"background: expected one of {', '.join(METHODS)}, got {method!r}")
    if method == "keep":
        return _keep
    try:
        return _rembg((BIREFNET,) if method == "birefnet" else REMBG_MODELS)
    except ImageError as error:
        raise ImageError(
            f"the picture is opaque and its background cannot be removed: {error}. Give a picture with an alpha channel, "
            "or take the whole picture as the object (--background keep)"
        ) from None


def _keep(picture: Image.Image) -> Image.Image:
    return picture.convert("RGBA")


def rembg_home() -> Path:
    """The folder where rembg keeps its models."""
    return Path(os.environ.get("U2NET_HOME", Path(os.environ.get("XDG_DATA_HOME", Path.home())) / ".u2net"))


def _rembg(models: tuple[str, ...]) -> RemoveBackground:
    home = rembg_home()
    present = [name for name in models if (home / f"{name}.onnx").is_file()]
    if not present:
        wanted = " or ".join(f"{name}.onnx" for name in models)
        raise ImageError(f"rembg has no model in {home}, where {wanted} would serve ('rembg d {models[0]}' brings it)")
    try:
        import rembg
    except ImportError:
        raise ImageError("rembg is not installed (pip install 'rembg[cpu]')") from None
    session = rembg.new_session(present[0])

    def remove(picture: Image.Image) -> Image.Image:
        mask = rembg.remove(picture, session=session, only_mask=True)
        return _with_alpha(picture, mask)

    return remove


def _with_alpha(picture: Image.Image, mask: Image.Image) -> Image.Image:
    result = picture.convert("RGB").convert("RGBA")
    result.putalpha(mask.convert("L").resize(picture.size, Image.Resampling.BILINEAR))
    return result
