"""Procedural materials, and painting them onto shapes: one small texel block a face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import trimesh
import trimesh.visual
from PIL import Image

from .geometry import Mesh, Points, noise

Paint = Callable[[Points, Points], Points]
"""Centres and normals [N, 3] -> red, green, blue, alpha, roughness, metallic [N, 6] in [0, 1], display units."""


def _rows(rgb: Points, alpha: float | Points = 1.0, rough: float | Points = 0.7, metal: float | Points = 0.0) -> Points:
    n = len(rgb)
    return np.column_stack([rgb, *(np.broadcast_to(x, n) for x in (alpha, rough, metal))]).clip(0, 1)


def plain(*rgb: float, rough: float = 0.7, metal: float = 0.0) -> Paint:
    """One colour."""
    return lambda p, n: _rows(np.tile(rgb, (len(p), 1)), 1.0, rough, metal)


def marbled(a: Sequence[float], b: Sequence[float], seed: int, scale: float = 2.5) -> Paint:
    """Two colours mixed by a random field."""

    def paint(p: Points, n: Points) -> Points:
        t = (noise(p, seed, scale) / 2 + 0.5)[:, None]
        return _rows(np.array(a) * (1 - t) + np.array(b) * t, 1.0, 0.4 + 0.4 * t[:, 0])

    return paint


def banded(a: Sequence[float], b: Sequence[float], axis: int = 1, width: float = 0.3) -> Paint:
    """Stripes across an axis."""
    return lambda p, n: _rows(np.where((np.floor(p[:, axis] / width) % 2 == 0)[:, None], a, b))


def checked(a: Sequence[float], b: Sequence[float], width: float = 0.25) -> Paint:
    """A checkerboard in space."""
    return lambda p, n: _rows(np.where((np.floor(p / width + 0.01).sum(1) % 2 == 0)[:, None], a, b))


def by_direction(seed: int) -> Paint:
    """Six colours by the main direction of a face, with a random tint."""
    random = np.random.default_rng(seed)
    palette = random.uniform(0.15, 0.95, (6, 3))

    def paint(p: Points, n: Points) -> Points:
        axis = np.abs(n).argmax(1)
        side = 2 * axis + (np.take_along_axis(n, axis[:, None], 1)[:, 0] < 0)
        return _rows(palette[side] * (0.9 + 0.1 * noise(p, seed)[:, None]), 1.0, 0.6)

    return paint


def graded(low: Sequence[float], high: Sequence[float], axis: int = 1, metal: float = 0.0) -> Paint:
    """A gradient along an axis."""

    def paint(p: Points, n: Points) -> Points:
        t = ((p[:, axis] - p[:, axis].min()) / max(np.ptp(p[:, axis]), 1e-9))[:, None]
        return _rows(np.array(low) * (1 - t) + np.array(high) * t, 1.0, 0.5, metal)

    return paint


def rainbow(seed: int) -> Paint:
    """Every colour somewhere."""
    return lambda p, n: _rows(np.stack([noise(p, seed + k, 2.0) / 2 + 0.5 for k in range(3)], 1))


def speckled(rgb: Sequence[float], seed: int) -> Paint:
    """Fine random grain, as rust or granite has: a different value at each face."""

    def paint(p: Points, n: Points) -> Points:
        grain = np.random.default_rng(seed).uniform(0.45, 1.0, len(p))
        return _rows(np.array(rgb) * grain[:, None], 1.0, grain)

    return paint


def cut_out(paint: Paint, seed: int) -> Paint:
    """Holes by alpha, as leaves and fences have."""

    def cut(p: Points, n: Points) -> Points:
        rows = paint(p, n)
        rows[:, 3] = (noise(p, seed, 4.0, 1) > -0.35).astype(float)
        return rows

    return cut


def glass(paint: Paint, alpha: float, above: float) -> Paint:
    """Half-transparent above a height."""

    def see_through(p: Points, n: Points) -> Points:
        rows = paint(p, n)
        rows[:, 3] = np.where(p[:, 1] > above, alpha, 1.0)
        return rows

    return see_through


def fading(paint: Paint) -> Paint:
    """Alpha falls smoothly from bottom to top, as a ghost's does."""

    def fade(p: Points, n: Points) -> Points:
        rows = paint(p, n)
        rows[:, 3] = 0.95 - 0.8 * (p[:, 1] - p[:, 1].min()) / np.ptp(p[:, 1])
        return rows

    return fade


def painted(shape: Mesh, paint: Paint, *, faces: int = 6000) -> bytes:
    """A GLB of the shape, its faces halved until there are about `faces`, each in its own colour."""
    while len(shape.faces) < faces / 2:
        shape = shape.subdivide()
    rows = paint(np.asarray(shape.triangles_center), np.asarray(shape.face_normals))
    count = len(shape.faces)
    side = int(np.ceil(np.sqrt(count)))

    def atlas(values: Points) -> Image.Image:
        cells = np.zeros((side * side, values.shape[1]), np.uint8)
        cells[:count] = (values * 255).round()
        return Image.fromarray(cells.reshape(side, side, -1).repeat(2, 0).repeat(2, 1))

    row, column = np.divmod(np.arange(count), side)
    centre = np.stack([(column + 0.5) / side, 1 - (row + 0.5) / side], 1)
    vertices: npt.NDArray[np.float64] = np.asarray(shape.vertices)[shape.faces.reshape(-1)]
    soup = trimesh.Trimesh(vertices, np.arange(3 * count).reshape(-1, 3), process=False)
    see_through = bool((rows[:, 3] < 1).any())
    half = bool(((rows[:, 3] > 0.05) & (rows[:, 3] < 0.95)).any())
    material = trimesh.visual.material.PBRMaterial(
        baseColorTexture=atlas(rows[:, :4] if see_through else rows[:, :3]),
        metallicRoughnessTexture=atlas(np.stack([np.ones(count), rows[:, 4], rows[:, 5]], 1)),
        metallicFactor=1.0, roughnessFactor=1.0, alphaMode=("BLEND" if half else "MASK") if see_through else "OPAQUE",
    )  # fmt: skip
    soup.visual = trimesh.visual.TextureVisuals(uv=np.repeat(centre, 3, 0), material=material)
    return bytes(cast("bytes", soup.export(file_type="glb")))
