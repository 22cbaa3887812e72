"""Texture statistics over covered texels only: what no triangle shows says nothing about the asset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import trellis_mesh as mesh
import trellis_raster as raster

from ..asset import Asset, Floats, Ints, linear_to_display
from ..scene import Part, Texture

Bytes = npt.NDArray[np.uint8]

MAX_RASTER = 2048
"""Larger textures are looked at on a grid of this side, each grid point at its nearest texel."""
_PLAIN_TEXELS = 1024  # what a part without a texture counts as
_BLACK = 0.02  # luminance, display units
_DEAD = 2  # a sampler that reads nothing gives 0 in every channel
_OPAQUE, _CLEAR = 250, 8
_INSIDE = 0.045  # farther than this from every side of the box; see `black_inside_share`
_SLABS = (0.0025, 0.0075, 0.015, 0.03)  # of the longest side


@dataclass(frozen=True)
class Texels:
    """The covered texels of an asset: colour [N, 3] and alpha [N] as shown (factors applied), and where they lie.

    Attributes:
        surface: roughness and metallic [N, 2], as stored.
        points: float32 [N, 3], unit space.
        mode: "OPAQUE", "MASK" or "BLEND" by index 0, 1, 2 [N]; `cutoff` [N] belongs to MASK.
        pairs: alpha of texels and of their right and lower neighbours in the same chart, [M, 2].
        gutter: largest channel difference of texels just outside a chart from the nearest inside, [G].
    """

    rgb: Bytes
    alpha: Bytes
    surface: Bytes
    points: Floats
    mode: npt.NDArray[np.int8]
    cutoff: Floats
    pairs: Bytes
    gutter: Bytes


def measure(asset: Asset) -> dict[str, Any]:
    """All statistics of this module; only for an asset with a surface."""
    texels = collect(asset)
    return {"texels": len(texels.rgb), **_colour(texels), **_alpha(texels), **_dead(texels), **_charts(asset)}


def _colour(texels: Texels) -> dict[str, Any]:
    luminance = texels.rgb.astype(np.float32) @ np.array([0.2126, 0.7152, 0.0722], np.float32) / 255
    histogram = np.bincount((luminance * 255).astype(np.int64).clip(0, 255), minlength=256) / max(1, len(luminance))
    some = histogram[histogram > 0]
    return {
        "luminance_mean": float(luminance.mean()),
        "luminance_entropy": float(-(some * np.log2(some)).sum()),
        "black_share": float((luminance < _BLACK).mean()),
        "black_inside_share": _inside(texels, luminance < _BLACK),
        "gutter_bleed_share": float((texels.gutter > 38).mean()) if len(texels.gutter) else 0.0,
    }


def _inside(texels: Texels, black: npt.NDArray[np.bool_]) -> float:
    """Black share away from the sides of the box, where lost coordinates leave spots of their own (`edge-of-grid`).

    A box-shaped asset has nearly all of its surface at the sides; then all of it counts.
    """
    low, high = texels.points.min(0), texels.points.max(0)
    inside = ((texels.points - low > _INSIDE) & (high - texels.points > _INSIDE)).all(1)
    return float(black[inside].mean()) if inside.mean() > 0.05 else float(black.mean())


def _alpha(texels: Texels) -> dict[str, Any]:
    alpha = texels.alpha
    seen = np.select(
        [texels.mode == 0, texels.mode == 1], [1.0, (alpha / 255.0 >= texels.cutoff).astype(np.float64)], alpha / 255.0
    )
    blended = texels.mode == 2
    a, b = texels.pairs[:, 0].astype(np.int16), texels.pairs[:, 1].astype(np.int16)
    inside = (a > _CLEAR) & (a < 255 - _CLEAR) & (b > _CLEAR) & (b < 255 - _CLEAR)
    not_opaque = float((alpha < _OPAQUE).mean())
    return {
        "alpha_below_opaque_share": not_opaque,
        "alpha_histogram": [round(float(x), 5) for x in np.bincount(alpha // 32, minlength=8) / max(1, len(alpha))],
        "transparency": float(1 - seen.mean()),
        "seen_through_share": float((seen < 0.98).mean()),
        "alpha_ripple_share": float((inside & (np.abs(a - b) >= 6)).mean()) if len(a) else 0.0,
        "alpha_lost_share": float(((texels.mode == 0) & (alpha < 128)).mean()),
        "blended_share": float(blended.mean()),
        "blended_opaque_share": float((alpha[blended] >= _OPAQUE).mean()) if blended.any() else 0.0,
    }


def _dead(texels: Texels) -> dict[str, Any]:
    dead = np.asarray((texels.rgb <= _DEAD).all(1) & (texels.surface <= _DEAD).all(1))
    worst = 0.0
    low, high = texels.points.min(0), texels.points.max(0)
    if dead.any():
        for axis in range(3):
            for depth in (texels.points[:, axis] - low[axis], high[axis] - texels.points[:, axis]):
                for slab in _SLABS:
                    inside = depth < slab
                    if np.count_nonzero(inside) >= 16 and not inside.all():
                        worst = max(worst, float(dead[inside].mean() - dead[~inside].mean()))
    return {"dead_share": float(dead.mean()), "dead_edge_contrast": worst}


def _charts(asset: Asset) -> dict[str, Any]:
    """Charts are faces joined across edges whose two ends have the same place and the same uv."""
    sizes, texels_of_faces = [], []
    for part, texture, uv in _textured(asset):
        height, width = texture.image.shape[:2]
        a, b, c = (uv[part.faces[:, k]].astype(np.float64) for k in range(3))
        face_texels = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2 * width * height
        weld = _same(np.round(uv * (1 << 16)).astype(np.int64), part.positions + np.float32(0))  # -0 is 0
        faces = weld[part.faces].astype(np.int32)
        count, label = mesh.connected_components(torch.from_numpy(faces), len(weld))
        sizes.append(np.bincount(label.numpy(), face_texels, minlength=count))
        texels_of_faces.append(face_texels)
    if not sizes:
        return {"charts": 0, "sliver_chart_share": 0.0, "texels_per_triangle": 0.0, "sliver_charts": 0}
    size = np.concatenate(sizes)
    return {
        "charts": len(size),
        "sliver_charts": int((size < 8).sum()),
        "sliver_chart_share": float((size < 8).mean()),
        "texels_per_triangle": float(np.median(np.concatenate(texels_of_faces))),
    }


def _same(texels: Ints, positions: Floats) -> Ints:
    """A number for each vertex [V], equal where texel [V, 2] and position [V, 3] are: the first such vertex.

    Rows are told apart by 64-bit keys, an odd multiplier a column; two of a million different rows share a key with a
    chance of 3e-8.
    """
    columns = [*texels.T, *np.ascontiguousarray(positions).view(np.int32).astype(np.int64).T]
    key = np.zeros(len(texels), np.uint64)
    for column in columns:
        key = (key ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    order = np.argsort(key, kind="stable")
    fresh = np.r_[True, np.diff(key[order]) != 0]
    same = np.empty(len(key), np.int64)
    same[order] = order[np.flatnonzero(fresh)][np.cumsum(fresh) - 1]
    return same


def _textured(asset: Asset) -> Iterator[tuple[Part, Texture, npt.NDArray[np.float64]]]:
    """Parts with a base colour texture, and their uv [V, 2] with the texture's transform applied."""
    for part in asset.parts:
        texture = part.material.textures.get("baseColorTexture")
        if texture is not None and texture.uv_set in part.uvs and part.uvs[texture.uv_set].shape[1] == 2:
            uv = part.uvs[texture.uv_set].astype(np.float64) @ texture.transform[:, :2].T + texture.transform[:, 2]
            yield part, texture, np.nan_to_num(uv, posinf=0, neginf=0).clip(-1e4, 1e4)


def collect(asset: Asset) -> Texels:
    """Every covered texel of every part, read where the part's triangles lie in its base colour texture."""
    offsets = np.cumsum([0] + [len(p.positions) for p in asset.parts])
    with_uv = {id(part): (texture, uv) for part, texture, uv in _textured(asset)}
    found = []
    for part, offset in zip(asset.parts, offsets[:-1], strict=True):
        points = asset.unit[offset : offset + len(part.positions)]
        if id(part) in with_uv:
            texture, uv = with_uv[id(part)]
            texels = _rasterized(part, points, texture, uv)
            if len(texels.rgb):
                found.append(texels)
                continue
        found.append(_plain(part, points))
    return Texels(*(np.concatenate([getattr(t, name) for t in found]) for name in Texels.__dataclass_fields__))


def _rasterized(part: Part, points: Floats, texture: Texture, uv: npt.NDArray[np.float64]) -> Texels:
    height, width = (min(n, MAX_RASTER) for n in texture.image.shape[:2])
    corners = uv[part.faces]
    corners = corners - np.floor(
        corners.mean(1, keepdims=True) * (1 - 1e-9)
    )  # repeated textures: back to the first tile
    flat = corners.reshape(-1, 2)
    clip = np.concatenate([flat * 2 - 1, np.zeros((len(flat), 1)), np.ones((len(flat), 1))], 1).astype(np.float32)
    order = torch.arange(len(flat), dtype=torch.int32).view(-1, 3)
    rast = raster.rasterize(torch.from_numpy(clip)[None], order, (height, width))
    at = raster.interpolate(torch.from_numpy(points[part.faces].reshape(1, -1, 3)), rast, order)[0].numpy()
    covered = rast[0, ..., 3].numpy() > 0
    image = _at_grid(texture.image, height, width)
    factor = linear_to_display(np.array(part.material.base_color[:3], np.float64))
    alpha_factor = float(np.clip(part.material.base_color[3], 0, 1))
    rgba = image[covered]
    surface = part.material.textures.get("metallicRoughnessTexture")
    same = (
        surface is not None and surface.uv_set == texture.uv_set and np.allclose(surface.transform, texture.transform)
    )
    # The green and blue channels hold roughness and metallic; without a map nothing can be said to be dead by them.
    rough = (
        _at_grid(surface.image, height, width)[covered][:, 1:3]
        if surface is not None and same
        else np.zeros((len(rgba), 2), np.uint8)
    )
    alpha = _scaled(image[..., 3], alpha_factor)
    return Texels(
        _scaled(rgba[:, :3], factor), alpha[covered], rough, at[covered], *_mode(part, len(rgba)),
        _pairs(alpha, covered), _gutter(image, covered),
    )  # fmt: skip


def _scaled(values: Bytes, factor: Any) -> Bytes:
    if np.all(np.asarray(factor) == 1):
        return values
    scaled: Bytes = (values * np.clip(factor, 0, 1)).round().astype(np.uint8)
    return scaled


def _mode(part: Part, count: int) -> tuple[npt.NDArray[np.int8], Floats]:
    index = {"OPAQUE": 0, "MASK": 1}.get(part.material.alpha_mode, 2)
    return np.full(count, index, np.int8), np.full(count, part.material.alpha_cutoff, np.float32)


def _pairs(alpha: Bytes, covered: npt.NDArray[np.bool_]) -> Bytes:
    if alpha.min() >= _OPAQUE:  # nothing to see
        return np.zeros((0, 2), np.uint8)
    rows, columns = covered[1:] & covered[:-1], covered[:, 1:] & covered[:, :-1]
    return np.concatenate(
        [
            np.stack([alpha[1:][rows], alpha[:-1][rows]], 1),
            np.stack([alpha[:, 1:][columns], alpha[:, :-1][columns]], 1),
        ]
    )


def _gutter(image: Bytes, covered: npt.NDArray[np.bool_]) -> Bytes:
    """Differences just outside charts, where linear filtering reads: texels that touch a covered one."""
    grown = covered.copy()
    for axis in (0, 1):
        for shift in (1, -1):
            moved = np.roll(covered, shift, axis)
            edge: list[Any] = [slice(None), slice(None)]
            edge[axis] = 0 if shift == 1 else -1
            moved[tuple(edge)] = False
            grown |= moved
    border = grown & ~covered
    if not border.any():
        return np.zeros(0, np.uint8)
    nearest = raster.nearest_texel(torch.from_numpy(covered)).numpy()[border]
    inside = image.reshape(-1, 4)[nearest][:, :3].astype(np.int16)
    difference: Bytes = np.abs(image[border][:, :3].astype(np.int16) - inside).max(1).astype(np.uint8)
    return difference


def _at_grid(image: Bytes, height: int, width: int) -> Bytes:
    """The nearest texels of a grid of height x width over the image."""
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    if h % height == 0 and w % width == 0:
        return image[h // height // 2 :: h // height, w // width // 2 :: w // width]
    rows: Ints = ((np.arange(height) + 0.5) * h / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * w / width).astype(np.int64)
    nearest: Bytes = image[rows[:, None], columns]
    return nearest


def _plain(part: Part, points: Floats) -> Texels:
    """A part without a texture: its factor and vertex colours at some of its corners."""
    corners = part.faces.reshape(-1)
    chosen = corners[:: max(1, len(corners) // _PLAIN_TEXELS)]
    colour = np.tile(np.array(part.material.base_color, np.float64), (len(chosen), 1))
    if part.colors is not None:
        colour = colour * part.colors[chosen]
    rgb = (linear_to_display(colour[:, :3]) * 255).round().astype(np.uint8)
    alpha = (colour[:, 3].clip(0, 1) * 255).round().astype(np.uint8)
    surface = np.array([part.material.roughness, part.material.metallic], np.float64).clip(0, 1) * 255
    return Texels(
        rgb, alpha, np.tile(surface.round().astype(np.uint8), (len(chosen), 1)), points[chosen],
        *_mode(part, len(chosen)), np.zeros((0, 2), np.uint8), np.zeros(0, np.uint8),
    )  # fmt: skip
