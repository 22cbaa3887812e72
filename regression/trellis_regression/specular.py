"""Specular-glossiness materials as metallic-roughness ones.

KHR_materials_pbrSpecularGlossiness names a diffuse and a specular colour where metallic-roughness has one colour and a share
of metal. The share is the one for which a metallic-roughness surface reflects as brightly in both lobes as the given one: a
quadratic equation, as in the conversion that Khronos gives with the extension
(extensions/2.0/Archived/KHR_materials_pbrSpecularGlossiness/examples).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
Factors = tuple[tuple[float, ...], tuple[float, ...], float]
"""Of diffuse (4), specular (3) and glossiness, linear."""

_DIELECTRIC = 0.04  # what a surface without metal reflects of light from straight ahead
_EPSILON = 1e-6
_STRIP = 256  # rows of a texture that are converted at one time


def metallic_roughness(diffuse: Floats, specular: Floats) -> tuple[Floats, Floats]:
    """Base colour [..., 3] and metallic [...] of linear diffuse and specular colours [..., 3]."""
    kept = 1 - specular.max(-1)
    metallic = _metallic(_brightness(diffuse), _brightness(specular), kept)
    share = metallic[..., None]
    of_diffuse = diffuse * kept[..., None] / ((1 - _DIELECTRIC) * np.maximum(1 - share, _EPSILON))
    of_specular = (specular - _DIELECTRIC * (1 - share)) / np.maximum(share, _EPSILON)
    base = of_diffuse + (of_specular - of_diffuse) * share**2
    return np.clip(base, 0, 1).astype(np.float32), metallic.astype(np.float32)


def _brightness(colour: Floats) -> Floats:
    squared: Floats = (colour**2 * np.array([0.299, 0.587, 0.114], np.float32)).sum(-1)
    return np.sqrt(squared)


def _metallic(diffuse: Floats, specular: Floats, kept: Floats) -> Floats:
    a = _DIELECTRIC
    b = diffuse * kept / (1 - a) + specular - 2 * a
    root = (-b + np.sqrt(np.maximum(b * b - 4 * a * (a - specular), 0))) / (2 * a)
    return np.where(specular < a, 0, np.clip(root, 0, 1))


def converted(
    diffuse: Bytes | None,
    specular: Bytes | None,
    factors: Factors,
) -> tuple[Bytes, Bytes]:
    """The images of baseColorTexture and metallicRoughnessTexture, uint8 [H, W, 4], their factors being 1.

    Args:
        diffuse: sRGB and alpha, [H, W, 4]; None for white.
        specular: sRGB and linear glossiness, [H, W, 4]; None for white. The smaller of the two is enlarged.
    """
    given = [x for x in (diffuse, specular) if x is not None]
    height, width = max((x.shape[:2] for x in given), default=(1, 1), key=lambda s: s[0] * s[1])
    white = np.full((1, 1, 4), 255, np.uint8)
    first, second = (_sized(white if x is None else x, height, width) for x in (diffuse, specular))
    base, surface = np.empty((height, width, 4), np.uint8), np.full((height, width, 4), 255, np.uint8)
    levels = np.arange(256, dtype=np.float32) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4).astype(np.float32)
    scale, shine, glossiness = (np.array(f, np.float32) for f in factors)
    for top in range(0, height, _STRIP):
        rows = slice(top, top + _STRIP)
        colour, metallic = metallic_roughness(
            linear[first[rows, :, :3]] * scale[:3], linear[second[rows, :, :3]] * shine
        )
        encoded = np.where(colour <= 0.0031308, 12.92 * colour, 1.055 * colour ** (1 / 2.4) - 0.055)
        base[rows, :, :3] = _bytes(encoded)
        base[rows, :, 3] = _bytes(levels[first[rows, :, 3]] * scale[3])
        surface[rows, :, 1] = _bytes(1 - levels[second[rows, :, 3]] * glossiness)
        surface[rows, :, 2] = _bytes(metallic)
    return base, surface


def _sized(image: Bytes, height: int, width: int) -> Bytes:
    if image.shape[:2] == (height, width):
        return image
    if image.shape[:2] == (1, 1):
        return np.broadcast_to(image, (height, width, 4))
    bands = [Image.fromarray(np.ascontiguousarray(image[..., c])) for c in range(4)]  # RGBA would weigh by alpha
    return np.stack([np.asarray(b.resize((width, height), Image.Resampling.BILINEAR)) for b in bands], 2)


def _bytes(values: npt.NDArray[np.floating]) -> Bytes:
    levels: Bytes = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return levels
