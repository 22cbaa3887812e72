"""Texture statistics over covered texels only: what no triangle shows says nothing about the asset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import trellis_mesh as mesh
import trellis_raster as raster

from ..asset import Asset, linear_to_display, moved, rows, starts
from ..scene import Part, Texture

MAX_RASTER = 2048
"""Larger textures are looked at on a grid of this side, each grid point at its nearest texel."""
_PLAIN_TEXELS = 1024  # what a part without a texture counts as
_BLACK = 0.02  # luminance, display units
_WHITE = 2_550_000
_DEAD = 2  # a sampler that reads nothing gives 0 in every channel
_OPAQUE, _CLEAR = 250, 8
_OTHER = 38  # as much lighter or darker in a channel is another colour
_STEP, _IN_PROPORTION, _DIM = 6, 0.05, 24
_INVISIBLE = 0.05  # of glass one sees more
_INSIDE = 0.045  # farther than this from every side of the box; see `black_inside_share`
_SLABS = (0.0025, 0.0075, 0.015, 0.03)  # of the longest side
# Sums of a chart's texels are taken in whole numbers of 2^-16; a face counts with at most as many, of at most 2^24 faces.
_FIXED, _MOST = 1 << 16, 1 << 22
# Odd multiplier of the keys by which vertices are told apart: 2^64 over the golden ratio, as a signed number.
_MIX = 0x9E3779B97F4A7C15 - (1 << 64)


@dataclass(frozen=True)
class Texels:
    """The covered texels of an asset, on its device: colour uint8 [N, 3] and alpha uint8 [N] as shown (factors applied),
    and where they lie.

    Attributes:
        surface: roughness and metallic uint8 [N, 2], as stored.
        points: float32 [N, 3], unit space.
        mode: "OPAQUE", "MASK" or "BLEND" by index 0, 1, 2, int8 [N]; `cutoff` float32 [N] belongs to MASK.
        ripples: of neighbouring covered texels whether alpha steps between them as `_ripples` says, bool [M].
        gutter: of texels just outside a chart the largest channel difference from the nearest inside, and the colour, to a
            sixteenth, as one number, int16 [G, 2].
    """

    rgb: torch.Tensor
    alpha: torch.Tensor
    surface: torch.Tensor
    points: torch.Tensor
    mode: torch.Tensor
    cutoff: torch.Tensor
    ripples: torch.Tensor
    gutter: torch.Tensor


def measure(asset: Asset) -> dict[str, Any]:
    """All statistics of this module; only for an asset with a surface."""
    texels = collect(asset)
    return {
        "texels": len(texels.rgb), **_colour(texels), **_alpha(texels), **_dead(texels),
        **_maps(asset, texels), **_charts(asset),
    }  # fmt: skip


def _share(which: torch.Tensor) -> float:
    """The share of true ones among them, exactly; 0 of none."""
    return int(which.sum()) / len(which) if len(which) else 0.0


def _colour(texels: Texels) -> dict[str, Any]:
    r, g, b = texels.rgb.int().unbind(1)
    luminance = r * 2126 + g * 7152 + b * 722  # of _WHITE, in whole numbers: no device rounds a grey into the next bin
    counts = torch.bincount(luminance // 10_000, minlength=256).cpu().numpy()
    some = counts[counts > 0] / max(1, len(luminance))
    black = luminance < round(_BLACK * _WHITE)
    return {
        "luminance_mean": float(luminance.double().mean()) / _WHITE,
        "luminance_entropy": float(-(some * np.log2(some)).sum()),
        "black_share": _share(black),
        "black_inside_share": _inside(texels, black),
        "gutter_bleed_share": _bleed(texels.gutter),
    }


def _bleed(gutter: torch.Tensor) -> float:
    """Texels just outside charts that hold the one other colour that is most frequent there: a background. A picture that
    goes on beyond its charts has many."""
    other = gutter[gutter[:, 0] > _OTHER, 1].long()
    return int(torch.bincount(other, minlength=1).max()) / len(gutter) if len(gutter) else 0.0


def _inside(texels: Texels, black: torch.Tensor) -> float:
    """Black (or dead) share away from the sides of the box, where lost coordinates leave spots of their own (`edge-of-grid`).

    A box-shaped asset has nearly all of its surface at the sides; then all of it counts.
    """
    low, high = texels.points.amin(0), texels.points.amax(0)
    inside = torch.ones_like(black)
    for axis, x in enumerate(texels.points.unbind(1)):
        inside &= (x - low[axis] > _INSIDE) & (high[axis] - x > _INSIDE)
    return int((black & inside).sum()) / int(inside.sum()) if _share(inside) > 0.05 else _share(black)


def _alpha(texels: Texels) -> dict[str, Any]:
    alpha, count = texels.alpha, max(1, len(texels.alpha))
    visible = alpha.float() / 255
    seen = torch.where(texels.mode == 1, (visible >= texels.cutoff).float(), visible)
    seen = torch.where(texels.mode == 0, 1.0, seen)
    blended = texels.mode == 2
    histogram = torch.bincount((alpha // 32).long(), minlength=8).tolist()
    return {
        "alpha_below_opaque_share": _share(alpha < _OPAQUE),
        "alpha_histogram": [round(n / count, 5) for n in histogram],
        "transparency": float(1 - seen.double().mean()),
        "seen_through_share": _share(seen < 0.98),
        "invisible_share": _share(seen < _INVISIBLE),
        "alpha_ripple_share": _share(texels.ripples),
        "alpha_lost_share": _share((texels.mode == 0) & (alpha < 128)),
        "blended_share": _share(blended),
        "blended_opaque_share": _share(alpha[blended] >= _OPAQUE),
    }


def _dead(texels: Texels) -> dict[str, Any]:
    colourless = (texels.rgb <= _DEAD).all(1)
    dead = colourless & (texels.surface <= _DEAD).all(1)
    worst = 0.0
    total, all_dead = len(dead), int(dead.sum())
    if all_dead:
        low, high = texels.points.amin(0), texels.points.amax(0)
        for axis in range(3):
            for depth in (texels.points[:, axis] - low[axis], high[axis] - texels.points[:, axis]):
                for slab in _SLABS:
                    inside = depth < slab
                    n, of_them = int(inside.sum()), int((dead & inside).sum())
                    if 16 <= n < total:
                        worst = max(worst, of_them / n - (all_dead - of_them) / (total - n))
    return {
        "dead_share": all_dead / max(1, total), "dead_inside_share": _inside(texels, dead), "dead_edge_contrast": worst,
        "colourless_share": _share(colourless),
    }  # fmt: skip


def _maps(asset: Asset, texels: Texels) -> dict[str, Any]:
    """Mean roughness and metalness; nothing for an asset of which a part has no map."""
    if any("metallicRoughnessTexture" not in p.material.textures for p in asset.parts):
        return {}
    roughness, metallic = texels.surface.float().mean(0) / 255
    return {"roughness_mean": float(roughness), "metallic_mean": float(metallic)}


def _charts(asset: Asset) -> dict[str, Any]:
    """Charts are faces joined across edges whose two ends have the same place and the same uv.

    ``sliver_charts``: in how many texels there are charts of fewer than 8: those of a palette lie in one, and waste none.
    """
    sizes: list[torch.Tensor] = []
    texels_of_faces, charts, areas, places_taken = [], [], [], 0
    for i, texture, uv in _textured(asset):
        part, height, width = asset.parts[i], *texture.image.shape[:2]
        local = torch.from_numpy(part.faces).to(asset.device).long()
        a, b, c = rows(uv, local).unbind(1)
        ab, ac = b - a, c - a
        face_texels = (ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]).abs() / 2 * width * height
        places = asset.positions[asset.offsets[i] : asset.offsets[i + 1]]
        weld = _same((uv * (1 << 16)).round().long(), places + 0.0)  # -0 is 0
        count, label = mesh.connected_components(rows(weld, local).int(), len(weld))
        size = torch.zeros(count, dtype=torch.int64, device=asset.device)
        size.index_add_(0, label.long(), (face_texels.clamp(max=_MOST) * _FIXED).round().long())
        p, q, r = rows(asset.unit[asset.offsets[i] : asset.offsets[i + 1]].double(), local).unbind(1)
        places_taken += _places(uv, local, label.long(), size < 8 * _FIXED, width, height)
        charts.append(label.long() + sum(map(len, sizes)))
        areas.append(torch.linalg.cross(q - p, r - p).square().sum(1).sqrt())
        sizes.append(size)
        texels_of_faces.append(face_texels)
    if not sizes:
        return {
            "charts": 0, "sliver_chart_share": 0.0, "sliver_area_share": 0.0, "texels_per_triangle": 0.0, "sliver_charts": 0,
        }  # fmt: skip
    sliver = torch.cat(sizes) < 8 * _FIXED
    area = torch.cat(areas)
    ordered = torch.cat(texels_of_faces).sort().values
    middle = ordered[[(len(ordered) - 1) // 2, len(ordered) // 2]]
    return {
        "charts": len(sliver),
        "sliver_charts": places_taken,
        "sliver_chart_share": _share(sliver),
        "sliver_area_share": float(area[sliver[torch.cat(charts)]].sum() / area.sum().clamp_min(1e-30)),
        "texels_per_triangle": float(middle.mean()),
    }


def _places(
    uv: torch.Tensor, faces: torch.Tensor, chart: torch.Tensor, which: torch.Tensor, width: int, height: int
) -> int:
    """In how many texels the middles of some charts lie. chart: of each face; which: of the charts those that count."""
    low = torch.full((len(which), 2), torch.inf, dtype=uv.dtype, device=uv.device)
    index = chart.repeat_interleave(3)[:, None].expand(-1, 2)
    corners = rows(uv, faces.reshape(-1)) * torch.tensor([width, height], dtype=uv.dtype, device=uv.device)
    high = (-low).scatter_reduce(0, index, corners, "amax")
    low = low.scatter_reduce(0, index, corners, "amin")
    return len(torch.unique(((low + high) / 2)[which].floor(), dim=0))


def _same(texels: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """A number for each vertex [V], equal where texel int64 [V, 2] and position float32 [V, 3] are: the first such vertex.

    Rows are told apart by 64-bit keys, an odd multiplier a column; two of a million different rows share a key with a
    chance of 3e-8.
    """
    key = torch.zeros(len(texels), dtype=torch.int64, device=texels.device)
    for column in (*texels.unbind(1), *positions.contiguous().view(torch.int32).long().unbind(1)):
        key = (key ^ column) * _MIX
        key = key ^ ((key >> 29) & ((1 << 35) - 1))  # a shift of an unsigned number
    ordered, order = key.sort(stable=True)
    fresh = starts(ordered)
    same = torch.empty_like(order)
    same[order] = order[fresh][fresh.cumsum(0) - 1]
    return same


def _textured(asset: Asset) -> Iterator[tuple[int, Texture, torch.Tensor]]:
    """Parts with a base colour texture, by index, and their uv float64 [V, 2] with the texture's transform applied."""
    for i, part in enumerate(asset.parts):
        texture = part.material.textures.get("baseColorTexture")
        if texture is not None and texture.uv_set in part.uvs and part.uvs[texture.uv_set].shape[1] == 2:
            uv = moved(texture, torch.from_numpy(part.uvs[texture.uv_set]).to(asset.device))
            yield i, texture, uv.nan_to_num(0.0, 0.0, 0.0).clamp(-1e4, 1e4)


def collect(asset: Asset) -> Texels:
    """Every covered texel of every part, read where the part's triangles lie in its base colour texture."""
    with_uv = {i: (texture, uv) for i, texture, uv in _textured(asset)}
    found = []
    for i, part in enumerate(asset.parts):
        points = asset.unit[asset.offsets[i] : asset.offsets[i + 1]]
        if i in with_uv:
            texels = _rasterized(asset, part, points, *with_uv[i])
            if len(texels.rgb):
                found.append(texels)
                continue
        found.append(_plain(part, points))
    if len(found) == 1:
        return found[0]
    return Texels(*(torch.cat([getattr(t, name) for t in found]) for name in Texels.__dataclass_fields__))


def _rasterized(asset: Asset, part: Part, points: torch.Tensor, texture: Texture, uv: torch.Tensor) -> Texels:
    height, width = (min(n, MAX_RASTER) for n in texture.image.shape[:2])
    faces = torch.from_numpy(part.faces).to(asset.device).long()
    corners = rows(uv, faces)
    # Repeated textures: back to the first tile.
    middle = (corners[:, 0] + corners[:, 1] + corners[:, 2]) / 3
    flat = (corners - (middle[:, None] * (1 - 1e-9)).floor()).reshape(-1, 2)
    clip = torch.cat([flat * 2 - 1, torch.zeros_like(flat[:, :1]), torch.ones_like(flat[:, :1])], 1).float()
    order = torch.arange(len(flat), dtype=torch.int32, device=asset.device).view(-1, 3)
    rast = raster.rasterize(clip[None], order, (height, width))
    covered = rast[0, ..., 3] > 0
    seen = covered.view(-1).nonzero()[:, 0]
    at = rows(raster.interpolate(rows(points, faces).reshape(1, -1, 3), rast, order)[0].view(-1, 3), seen)
    image = _at_grid(asset.pixels(texture), height, width)
    factor = linear_to_display(np.array(part.material.base_color[:3], np.float64))
    alpha_factor = np.array([np.clip(part.material.base_color[3], 0, 1)])
    rgba = _chosen(image, seen)
    surface = part.material.textures.get("metallicRoughnessTexture")
    same = (
        surface is not None and surface.uv_set == texture.uv_set and np.allclose(surface.transform, texture.transform)
    )
    # The green and blue channels hold roughness and metallic; without a map nothing can be said to be dead by them.
    rough = (
        _chosen(_at_grid(asset.pixels(surface), height, width), seen)[:, 1:3]
        if surface is not None and same
        else torch.zeros_like(rgba[:, :2])
    )
    alpha = _scaled(image[..., 3], alpha_factor)
    return Texels(
        _scaled(rgba[:, :3], factor), rows(alpha.reshape(-1), seen), rough, at, *_mode(part, rgba), _ripples(image, alpha, covered),
        _gutter(image, covered),
    )  # fmt: skip


def _scaled(values: torch.Tensor, factor: np.ndarray) -> torch.Tensor:
    if np.all(factor == 1):
        return values
    scale = torch.from_numpy(np.clip(factor, 0, 1)).to(values.device)
    table = (torch.arange(256, device=values.device)[:, None].double() * scale).round().to(torch.uint8)
    if len(scale) > 1:
        return torch.stack([rows(table[:, i], values[:, i].int()) for i in range(values.shape[1])], 1)
    return rows(table[:, 0], values.int())


def _mode(part: Part, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    index = {"OPAQUE": 0, "MASK": 1}.get(part.material.alpha_mode, 2)
    count = len(like)
    cutoff = torch.full((count,), part.material.alpha_cutoff, dtype=torch.float32, device=like.device)
    return torch.full((count,), index, dtype=torch.int8, device=like.device), cutoff


def _ripples(image: torch.Tensor, alpha: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """Whether alpha steps between neighbouring covered texels as weights do that were not divided by their sum, bool [P].

    Those scale every channel alike. Glass before metal changes from texel to texel too, but not its colour in proportion.
    """
    if int(alpha.min()) >= _OPAQUE:  # nothing to see
        return torch.zeros(0, dtype=torch.bool, device=alpha.device)
    brightest = image[..., :3].amax(-1)
    found = []
    for one, other in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        both = covered[one] & covered[other]
        a, b = (alpha[x][both].int() for x in (one, other))
        steps = ((a - b).abs() >= _STEP) & (torch.minimum(a, b) > _CLEAR) & (torch.maximum(a, b) < 255 - _CLEAR)
        which = steps.nonzero()[:, 0]
        m, n = (brightest[x][both][which].int() for x in (one, other))
        a, b = a[which], b[which]
        # m / a and n / b, multiplied out; of what is dark nothing is known.
        off = (m * b - n * a).abs() > _IN_PROPORTION * torch.maximum(m * b, n * a)
        steps[which[off | ((m - n) * (a - b) < 0) | (torch.maximum(m, n) < _DIM)]] = False
        found.append(steps)
    return torch.cat(found)


def _gutter(image: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """Differences just outside charts, where linear filtering reads: texels that touch a covered one."""
    grown = covered.clone()
    grown[1:] |= covered[:-1]
    grown[:-1] |= covered[1:]
    grown[:, 1:] |= covered[:, :-1]
    grown[:, :-1] |= covered[:, 1:]
    border = grown & ~covered
    if not bool(border.any()):
        return torch.zeros(0, 2, dtype=torch.int16, device=image.device)
    nearest = raster.nearest_texel(covered)[border].long()
    inside = _chosen(image, nearest)[:, :3].short()
    outside = _chosen(image, border.view(-1).nonzero()[:, 0])[:, :3].short()
    shade = outside // 16
    return torch.stack([(outside - inside).abs().amax(1), shade[:, 0] * 256 + shade[:, 1] * 16 + shade[:, 2]], 1)


def _chosen(image: torch.Tensor, texels: torch.Tensor) -> torch.Tensor:
    """Some texels [N, 4] of an image uint8 [H, W, 4], by number; four bytes are moved as one."""
    return rows(image.view(torch.int32).view(-1), texels).view(torch.uint8).view(-1, 4)


def _at_grid(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The nearest texels of a grid of height x width over the image uint8 [H, W, 4]."""
    h, w = image.shape[:2]
    if (h, w) == (height, width):
        return image
    if h % height == 0 and w % width == 0:
        whole = image.view(torch.int32)
        return whole[h // height // 2 :: h // height, w // width // 2 :: w // width].contiguous().view(torch.uint8)
    y = ((torch.arange(height, device=image.device) + 0.5).double() * h / height).long()
    x = ((torch.arange(width, device=image.device) + 0.5).double() * w / width).long()
    return image[y[:, None], x]


def _plain(part: Part, points: torch.Tensor) -> Texels:
    """A part without a texture: its factor and vertex colours at some of its corners."""
    corners = part.faces.reshape(-1)
    chosen = corners[:: max(1, len(corners) // _PLAIN_TEXELS)]
    colour = np.tile(np.array(part.material.base_color, np.float64), (len(chosen), 1))
    if part.colors is not None:
        colour = colour * part.colors[chosen]
    rgb = (linear_to_display(colour[:, :3]) * 255).round().astype(np.uint8)
    alpha = (np.nan_to_num(colour[:, 3]).clip(0, 1) * 255).round().astype(np.uint8)
    values = np.nan_to_num(np.array([part.material.roughness, part.material.metallic], np.float64))
    surface = np.tile((values.clip(0, 1) * 255).round().astype(np.uint8), (len(chosen), 1))
    shown, opacity, rough = (torch.from_numpy(x).to(points.device) for x in (rgb, alpha, surface))
    none = torch.zeros(0, 2, dtype=torch.int16, device=points.device)
    at = points[torch.from_numpy(chosen.astype(np.int64)).to(points.device)]
    return Texels(shown, opacity, rough, at, *_mode(part, shown), none.new_zeros(0).bool(), none)
