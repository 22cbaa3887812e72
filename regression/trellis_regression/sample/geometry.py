"""Shapes made by formula, as triangle soups' vertices and faces; each about 2 units large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import trimesh

Mesh = Any
"""A trimesh.Trimesh; the library's own annotations are too loose to be of use here."""

Points = npt.NDArray[np.float64]


def box(*size: float, at: Sequence[float] = (0, 0, 0), detail: int = 0) -> Mesh:
    """A box; `detail` halves its edges that many times."""
    made = trimesh.creation.box(size)
    for _ in range(detail):
        made = made.subdivide()
    return made.apply_translation(at)


def ball(radius: float = 1.0, at: Sequence[float] = (0, 0, 0), detail: int = 3) -> Mesh:
    """A sphere."""
    return trimesh.creation.icosphere(subdivisions=detail, radius=radius).apply_translation(at)


def rod(radius: float, height: float, at: Sequence[float] = (0, 0, 0), axis: int = 1) -> Mesh:
    """A cylinder along an axis."""
    made = trimesh.creation.cylinder(radius=radius, height=height, sections=32)
    if axis != 2:
        made.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], np.eye(3)[axis]))
    return made.apply_translation(at)


def ring(major: float, minor: float, at: Sequence[float] = (0, 0, 0), axis: int = 1) -> Mesh:
    """A torus."""
    made = trimesh.creation.torus(major, minor, major_sections=48, minor_sections=20)
    if axis != 2:
        made.apply_transform(trimesh.geometry.align_vectors([0, 0, 1], np.eye(3)[axis]))
    return made.apply_translation(at)


def together(*parts: Mesh) -> Mesh:
    """Several shapes as one mesh."""
    return trimesh.util.concatenate(list(parts))


def lathe(profile: Sequence[tuple[float, float]], sections: int = 48) -> Mesh:
    """A curve of (radius, height) turned around y."""
    return trimesh.creation.revolve(np.array(profile, np.float64), sections=sections).apply_transform(
        trimesh.geometry.align_vectors([0, 0, 1], [0, 1, 0])
    )


def bent(mesh: Mesh, move: Callable[[Points], Points]) -> Mesh:
    """The same faces with moved vertices."""
    return trimesh.Trimesh(move(np.asarray(mesh.vertices)), mesh.faces, process=False)


def tube(curve: Points, radius: float, sides: int = 12, closed: bool = False) -> Mesh:
    """A tube around a curve [N, 3], its frame carried along without twist; open ends are capped."""
    n = len(curve)
    ahead = np.roll(curve, -1, 0) - np.roll(curve, 1, 0)
    if not closed:
        ahead[0], ahead[-1] = curve[1] - curve[0], curve[-1] - curve[-2]
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    normal = np.cross(ahead[0], [0.3, 0.8, 0.52])
    rings = []
    for i in range(n):
        normal = normal - ahead[i] * (normal @ ahead[i])
        normal /= np.linalg.norm(normal)
        across = np.cross(ahead[i], normal)
        a = np.linspace(0, 2 * np.pi, sides, endpoint=False)[:, None]
        rings.append(curve[i] + radius * (np.cos(a) * normal + np.sin(a) * across))
    vertices = np.concatenate(rings)
    row, k = np.meshgrid(np.arange(n if closed else n - 1), np.arange(sides), indexing="ij")
    p, q = row * sides + k, row * sides + (k + 1) % sides
    r, s = (row + 1) % n * sides + k, (row + 1) % n * sides + (k + 1) % sides
    faces = np.concatenate([np.stack([p, q, s], -1).reshape(-1, 3), np.stack([p, s, r], -1).reshape(-1, 3)])
    if not closed:
        k1 = np.arange(1, sides - 1)
        first = np.stack([np.zeros_like(k1), k1 + 1, k1], 1)
        last = np.stack([np.zeros_like(k1), k1, k1 + 1], 1) + (n - 1) * sides
        faces = np.concatenate([faces, first, last])
    return trimesh.Trimesh(vertices, faces, process=False)


def sheet(height: Callable[[Points, Points], Points], n: int = 40, thickness: float = 0.0) -> Mesh:
    """A height field over [-1, 1]^2, y up; open, or closed with a thickness."""
    x, z = np.meshgrid(np.linspace(-1, 1, n), np.linspace(-1, 1, n), indexing="ij")
    y = height(x, z)
    top = np.stack([x, y, z], -1).reshape(-1, 3)
    i, k = np.meshgrid(np.arange(n - 1), np.arange(n - 1), indexing="ij")
    a = (i * n + k).reshape(-1)
    faces = np.concatenate([np.stack([a, a + 1, a + n + 1], 1), np.stack([a, a + n + 1, a + n], 1)])
    if not thickness:
        return trimesh.Trimesh(top, faces, process=False)
    bottom = top - [0, thickness, 0]
    border = np.concatenate(
        [np.arange(n) * n, (n - 1) * n + np.arange(1, n), np.arange(n - 2, -1, -1) * n + n - 1, np.arange(n - 2, 0, -1)]
    )
    after = np.roll(border, -1)
    m = n * n
    wall = np.concatenate([np.stack([border, after, after + m], 1), np.stack([border, after + m, border + m], 1)])
    made = trimesh.Trimesh(
        np.concatenate([top, bottom]), np.concatenate([faces, faces[:, ::-1] + m, wall]), process=False
    )
    made.fix_normals()
    return made


def noise(points: Points, seed: int, scale: float = 2.0, octaves: int = 3) -> Points:
    """A smooth random field in about [-1, 1]: sums of plane waves."""
    random = np.random.default_rng(seed)
    total, weight = np.zeros(len(points)), 0.0
    for octave in range(octaves):
        for _ in range(6):
            direction = random.normal(size=3)
            direction *= scale * 2**octave / np.linalg.norm(direction)
            total += 0.5**octave * np.sin(points @ direction + random.uniform(0, 2 * np.pi))
        weight += 0.5**octave * 2.4
    return (total / weight).clip(-1, 1)


def with_dust(mesh: Mesh, count: int, seed: int) -> Mesh:
    """A shape and `count` specks around it, 2 % of its size, as a decoder sheds them and cleaning rightly removes them.

    The generated asset of the fixed set sheds 0.17 % of its area; one or two specks are 0.1 to 0.3 %.
    """
    from scipy.spatial import cKDTree

    low, high = mesh.bounds
    size = float((high - low).max())
    surface, _ = trimesh.sample.sample_surface(mesh, 20_000, seed=seed)
    tried = np.random.default_rng(seed).uniform(low, high, (4000, 3))
    away, _ = cKDTree(surface).query(tried)
    clear = tried[away > 0.1 * size]
    # Far from each other, so that none joins another into something that is no speck.
    chosen = clear[:1]
    for at in clear[1:]:
        if len(chosen) < count and np.linalg.norm(chosen - at, axis=1).min() > 0.1 * size:
            chosen = np.concatenate([chosen, at[None]])
    return together(mesh, *(box(*[0.02 * size] * 3, at=at) for at in chosen))


def random_balls(count: int, seed: int) -> Mesh:
    """Separate balls of different sizes: an asset that is meant to be in pieces."""
    random = np.random.default_rng(seed)
    return together(*(ball(random.uniform(0.1, 0.22), random.uniform(-0.9, 0.9, 3).tolist(), 2) for _ in range(count)))


def gear(teeth: int = 12, depth: float = 0.4) -> Mesh:
    """A spur gear around y."""
    steps = 4 * teeth
    angle = np.arange(steps) * 2 * np.pi / steps
    radius = np.where(np.arange(steps) % 4 < 2, 1.0, 0.78)
    outer = np.stack([radius * np.cos(angle), np.zeros(steps), radius * np.sin(angle)], 1)
    vertices = np.concatenate(
        [outer + [0, depth / 2, 0], outer - [0, depth / 2, 0], [[0, depth / 2, 0], [0, -depth / 2, 0]]]
    )
    k = np.arange(steps)
    after = (k + 1) % steps
    wall = np.concatenate([np.stack([k, after, after + steps], 1), np.stack([k, after + steps, k + steps], 1)])
    caps = np.concatenate(
        [
            np.stack([np.full(steps, 2 * steps), after, k], 1),
            np.stack([np.full(steps, 2 * steps + 1), k + steps, after + steps], 1),
        ]
    )
    made = trimesh.Trimesh(vertices, np.concatenate([wall, caps]), process=False)
    made.fix_normals()
    return made
