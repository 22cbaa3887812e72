"""Finding the object in an opaque picture, by a model that is already on this machine.

Nothing is downloaded here and no code from a model repository runs. BiRefNet, which upstream uses in the form of
RMBG-2.0, comes through rembg: as an ONNX file it is all weights. transformers has no class of its own for it (to 5.24);
loading it there means running the code of its repository. Where no model is present, the error says what to bring.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ..arguments import home
from ..errors import ImageError, first_line
from .prepare import RemoveBackground

BIREFNET = "birefnet-general"
REMBG_MODELS = (BIREFNET, "isnet-general-use", "u2net")
"""Models of rembg that serve, best first."""

METHODS = ("auto", "rembg", "birefnet", "keep")


def require_method(method: str) -> None:
    """Raises ImageError for a name that is not in `METHODS`."""
    if method not in METHODS:
        raise ImageError(f"background: expected one of {', '.join(METHODS)}, got {method!r}")


def choose(method: str) -> RemoveBackground:
    """A way to remove backgrounds.

    Args:
        method: "rembg" (and "auto"): the best of `REMBG_MODELS` that is present; "birefnet": that one; "keep": the whole
            picture is the object.

    Raises:
        ImageError: the method asked for is not at hand.
    """
    require_method(method)
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


def model_file(name: str) -> Path | None:
    """Where rembg has a model: in a folder of its own (rembg from 2.0.8x) or flat, as before."""
    own, flat = homes()
    places = (own / "models" / name / f"{name}.onnx", flat / f"{name}.onnx")
    return next((place for place in places if place.is_file()), None)


def homes() -> tuple[Path, Path]:
    """The folders where newer and older versions of rembg keep their models, by the variables that rembg itself reads."""
    given, data = os.environ.get("U2NET_HOME"), os.environ.get("XDG_DATA_HOME")
    flat = Path(given) if given else Path(data or home()) / ".u2net"
    new = Path(os.environ.get("REMBG_HOME") or (Path(data) / "rembg" if data else home() / ".rembg"))
    return (flat if given else new).expanduser(), flat.expanduser()


def _rembg(models: tuple[str, ...]) -> RemoveBackground:
    files = {name: file for name in models if (file := model_file(name))}
    if not files:
        wanted = " or ".join(f"{name}.onnx" for name in models)
        where = " or ".join(dict.fromkeys(map(str, homes())))
        raise ImageError(f"rembg has no model in {where}, where {wanted} would serve ('rembg d {models[0]}' brings it)")
    name, file = next(iter(files.items()))
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            import rembg
    except ImportError as error:
        raise ImageError(f"rembg is not installed (pip install 'rembg[cpu]'): {error}") from None
    except SystemExit:  # what it does where onnxruntime is missing
        raise ImageError("rembg needs onnxruntime (pip install 'rembg[cpu]')") from None
    try:
        with _only(file):
            session = rembg.new_session(name)
    except Exception as error:  # onnxruntime's own
        raise ImageError(f"{file}: rembg cannot open it: {first_line(error)}") from None

    def remove(picture: Image.Image) -> Image.Image:
        try:
            mask = rembg.remove(picture, session=session, only_mask=True)
        except Exception as error:  # onnxruntime's own, where a file holds another model
            raise ImageError(f"{file}: it cannot tell the object from its background: {first_line(error)}") from None
        return _with_alpha(picture, mask)

    return remove


@contextlib.contextmanager
def _only(file: Path) -> Iterator[None]:
    """Makes every version of rembg take this file: it would look elsewhere, or fetch one with the checksum it knows."""
    own = {"U2NET_HOME": str(file.parent), "MODEL_CHECKSUM_DISABLED": "1"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _with_alpha(picture: Image.Image, mask: Image.Image) -> Image.Image:
    result = picture.convert("RGB").convert("RGBA")
    result.putalpha(mask.convert("L").resize(picture.size, Image.Resampling.BILINEAR))
    return result
