"""A picture of an object -> the square crop on black that the models were trained on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError, first_line

MAX_SIDE = 32_768
MAX_PIXELS = 1 << 27
"""Larger pictures are refused before they are decoded: 2^27 pixels take half a GiB."""

_LIMITS = f"at most {MAX_SIDE:,} pixels a side and {MAX_PIXELS:,} in all are taken"

LONGEST = 1024
# Alpha above this share counts as the object when its box is sought.
_SOLID = 0.8

# A reader that says what is wrong with a file before it raises would say it on standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())

RemoveBackground = Callable[[Image.Image], Image.Image]
"""An opaque RGB picture -> the same with an alpha channel."""


@dataclass(frozen=True)
class PreparedImage:
    """What conditions the models.

    Attributes:
        image: RGB, square, premultiplied on black.
        source_size: width and height of the picture that came in.
        alpha: "own" when the picture's alpha was used, else "removed".
    """

    image: Image.Image
    source_size: tuple[int, int]
    alpha: str


def open_image(path: str | Path) -> Image.Image:
    """Reads a picture as RGB, or as RGBA where it has transparency, turned upright as its EXIF says.

    Raises:
        ImageError: not a picture, broken, or larger than the limits; decided from its header where possible.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is another
            with Image.open(path, formats=_formats()) as image:
                _check_size(image.size, path)
                image.seek(0)
                image.load()
                return _plain(ImageOps.exif_transpose(image))
    except UnidentifiedImageError:
        raise ImageError(f"{path}: {_what_else(Path(path))}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: {_LIMITS}") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: it is a folder, not a picture") from None
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # broken files make Pillow's readers and what they call raise whatever they like
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ImageError(f"{path}: it cannot be decoded: {first_line(error)}") from None


def _formats() -> list[str]:
    """What Pillow reads by itself. It would have Ghostscript run an EPS, whatever the file's name: a program, not a picture."""
    Image.init()
    return [name for name in Image.ID if name not in ("EPS", "WMF")]


_PAGE = "a web page, perhaps of a download that failed"
_OTHERS = {
    b"ftyphei": "HEIC; save it as PNG", b"ftypmif1": "HEIC; save it as PNG", b"ftypavif": "AVIF; save it as PNG",
    b"<svg": "an SVG drawing; save it as PNG", b"%PDF": "a PDF; save it as PNG", b"%!PS": "an EPS drawing; save it as PNG",
    b"<html": _PAGE, b"<!doctype html": _PAGE,
}  # fmt: skip


def _what_else(path: Path) -> str:
    """What a file is that Pillow does not read: people have photographs of telephones, drawings, and downloads that failed."""
    with path.open("rb") as file:
        head = file.read(512).lower()
    if not head:
        return "the file is empty"
    found = next((what for mark, what in _OTHERS.items() if mark.lower() in head), None)
    if found is None:
        return "not a picture in a format that is known here"
    return f"not a picture in a format that is known here: it is {found}"


def _check_size(size: tuple[int, int], path: str | Path) -> None:
    if max(size) > MAX_SIDE or size[0] * size[1] > MAX_PIXELS:
        raise ImageError(f"{path}: {size[0]} x {size[1]} pixels; {_LIMITS}")


def _plain(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise ImageError("the picture holds values that are not finite")
        top = 65535.0 if image.mode != "F" else max(1.0, float(values.max(initial=0)))
        image = Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    transparent = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    return image.convert("RGBA" if transparent else "RGB")


def is_opaque(picture: Image.Image) -> bool:
    """Whether no pixel lets anything through, so that the object must be found first."""
    return picture.mode != "RGBA" or int(np.asarray(picture.getchannel("A")).min()) == 255


def prepare(picture: Image.Image, remove_background: RemoveBackground | None) -> PreparedImage:
    """Crops the object to a square and puts it on black.

    Alpha is used where any pixel is not opaque, else `remove_background` makes one. The picture is scaled so that its
    longest side is at most 1024, cropped to the square around the pixels with alpha over 0.8, and premultiplied.

    Raises:
        ImageError: fully transparent, an object of a pixel or two, or opaque with no way to find the object.
    """
    size = picture.size
    _check_size(size, "image")
    picture = _plain(picture)
    own = not is_opaque(picture)
    scale = min(1.0, LONGEST / max(size))
    if scale < 1:
        picture = picture.resize((max(1, int(size[0] * scale)), max(1, int(size[1] * scale))), Image.Resampling.LANCZOS)
    if not own:
        if remove_background is None:
            raise ImageError("the picture is opaque, and no background removal is at hand to find the object in it")
        picture = remove_background(picture.convert("RGB"))
    pixels = np.asarray(picture)
    rows, columns = np.nonzero(pixels[:, :, 3] > _SOLID * 255)
    if len(rows) == 0:
        most = int(pixels[:, :, 3].max(initial=0)) / 255
        what = "the picture is fully transparent" if own else "background removal found no object"
        if own and most > 0:
            what = f"nothing in the picture is solid (alpha is at most {most:.2f})"
        raise ImageError(f"{what}: no pixel has alpha over {_SOLID}")
    left, right, top, bottom = columns.min(), columns.max(), rows.min(), rows.max()
    half = max(right - left, bottom - top) // 2
    if half < 1:
        raise ImageError(f"the object is {right - left + 1} x {bottom - top + 1} pixels small")
    x, y = (left + right) / 2, (top + bottom) / 2
    square = np.asarray(picture.crop((round(x - half), round(y - half), round(x + half), round(y + half))), np.float32)
    premultiplied = square[:, :, :3] * (square[:, :, 3:] / 255)
    return PreparedImage(Image.fromarray(premultiplied.astype(np.uint8)), size, "own" if own else "removed")
