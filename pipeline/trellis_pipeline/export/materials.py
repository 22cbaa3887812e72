"""The materials of a GLB's parts in the form that the voxeliser reads, which multiplies bytes as they are stored.

glTF 2.0, section 3.9: factors and vertex colours are linear, the texels of base colour and emission are sRGB, and a
product is one of linear values. Each texture has its own set of coordinates, transform (KHR_texture_transform) and wrapping.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import trellis_voxel as voxel
from trellis_raster import fill_gaps
from trellis_regression.scene import Part, Texture

Floats = npt.NDArray[np.float64]

# What each kind of texture gives, in the order in which `textured` hands them out.
_GIVES = {
    "baseColorTexture": ("base_color", "alpha"),
    "metallicRoughnessTexture": ("metallic", "roughness"),
    "emissiveTexture": ("emissive",),
    "normalTexture": ("normal",),
}
# 8-bit alpha from which a texel's colour can be trusted.
_SHOWN = 16
# How a texture is looked up: the set of coordinates, its transform and its wrapping.
_Lookup = tuple[int, bytes, tuple[str, str]]


def textured(parts: Sequence[Part]) -> list[tuple[list[voxel.TexturedMesh], tuple[str, ...]]]:
    """The parts as meshes for `trellis_voxel.voxelize_attributes`, with the attributes to take from them.

    A mesh for the voxeliser has one set of coordinates and one wrapping. Nearly always all textures share them, and there
    is one list; where a part's textures are looked up in several ways there are more, each for some of the attributes.
    """
    images = _Images()
    lists: list[tuple[list[_Lookup | None], list[str]]] = []
    for slot in _GIVES:
        ways = [_lookup(p, slot) for p in parts]
        for shared, slots in lists:
            if all(a is None or b is None or a == b for a, b in zip(shared, ways, strict=True)):
                shared[:] = [a or b for a, b in zip(shared, ways, strict=True)]
                slots.append(slot)
                break
        else:
            lists.append((ways, [slot]))
    return [
        (
            [_mesh(p, way, slots, images) for p, way in zip(parts, ways, strict=True)],
            tuple(name for slot in slots for name in _GIVES[slot]),
        )
        for ways, slots in lists
    ]


def linear_to_srgb(x: Floats) -> Floats:
    """The sRGB transfer function (IEC 61966-2-1) of values in [0, 1]; what lies outside is cut off."""
    x = np.clip(x, 0.0, 1.0)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)


def srgb_to_linear(x: Floats) -> Floats:
    """Its inverse."""
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _lookup(part: Part, slot: str) -> _Lookup | None:
    texture = part.material.textures.get(slot)
    # Without its coordinates a texture cannot be read, and the factor alone counts.
    if texture is None or texture.uv_set not in part.uvs:
        return None
    return texture.uv_set, texture.transform.tobytes(), texture.wrap


def _mesh(part: Part, way: _Lookup | None, slots: Sequence[str], images: _Images) -> voxel.TexturedMesh:
    m = part.material
    found = {slot: m.textures[slot] for slot in slots if _lookup(part, slot)}
    base, glow = found.get("baseColorTexture"), found.get("emissiveTexture")
    colors = None if part.colors is None else part.colors.astype(np.float64)
    factor = np.array(m.base_color[:3])
    if colors is not None and base is None:
        colors[:, :3] *= factor  # exact, where a product of encoded values is not
        factor = np.ones(3)
    if colors is not None:
        colors[:, :3] = linear_to_srgb(colors[:, :3])
    uvs, wrap = None, ("repeat", "repeat")
    if way is not None:
        turn = next(t for t in found.values()).transform
        uv = part.uvs[way[0]].astype(np.float64) @ turn[:, :2].T + turn[:, 2]
        uvs, wrap = torch.from_numpy(np.stack([uv[:, 0], 1 - uv[:, 1]], 1).astype(np.float32)), way[2]
    material = voxel.PbrMaterial(
        base_color_factor=_rgba(np.ones(3) if base else linear_to_srgb(factor), m.base_color[3]),
        metallic_factor=m.metallic,
        roughness_factor=m.roughness,
        emissive_factor=_rgb(np.ones(3) if glow else linear_to_srgb(np.array(m.emissive))),
        base_color_texture=images.times(base, factor, hidden=m.alpha_mode != "OPAQUE"),
        metallic_roughness_texture=images.plain(found.get("metallicRoughnessTexture")),
        emissive_texture=images.times(glow, np.array(m.emissive)),
        normal_texture=images.plain(found.get("normalTexture")),
        alpha_mode=m.alpha_mode,
        alpha_cutoff=m.alpha_cutoff,
        wrap=wrap,
    )
    return voxel.TexturedMesh(
        vertices=torch.from_numpy(part.positions),
        faces=torch.from_numpy(part.faces),
        materials=[material],
        uvs=uvs,
        normals=torch.from_numpy(np.nan_to_num(part.normals)),
        colors=None if colors is None else torch.from_numpy(colors.astype(np.float32)),
    )


def _rgb(values: Floats) -> tuple[float, float, float]:
    r, g, b = values.tolist()
    return r, g, b


def _rgba(values: Floats, alpha: float) -> tuple[float, float, float, float]:
    return (*_rgb(values), alpha)


class _Images:
    """Texels as tensors uint8 [H, W, 4], one for each image and factor however many materials share it."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, bytes, bool], tuple[Texture, torch.Tensor]] = {}

    def plain(self, texture: Texture | None) -> torch.Tensor | None:
        """As they are stored."""
        return self.times(texture, np.ones(3))

    def times(self, texture: Texture | None, factor: Floats, *, hidden: bool = False) -> torch.Tensor | None:
        """With the linear `factor` multiplied into their colour, sRGB before and after.

        Args:
            hidden: whether alpha hides some, whose colour is nobody's (white or black often) and would come into its
                neighbours' as soon as they are averaged: they take that of the nearest one that shows.
        """
        if texture is None:
            return None
        key = (id(texture.image), factor.tobytes(), hidden)
        if key not in self._known:
            image = texture.image.copy()
            if (factor != 1).any():
                levels = srgb_to_linear(np.arange(256) / 255)
                for c, f in enumerate(factor):
                    image[..., c] = np.rint(255 * linear_to_srgb(levels * f)).astype(np.uint8)[image[..., c]]
            texels = torch.from_numpy(image)
            shown = texels[..., 3] >= _SHOWN
            if hidden and bool(shown.any()) and not bool(shown.all()):
                texels[..., :3] = fill_gaps(texels[..., :3].contiguous(), shown)
            self._known[key] = texture, texels  # keeps the image, so that its id stays its own
        return self._known[key][1]
