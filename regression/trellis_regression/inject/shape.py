"""Faults of the geometry. Each function takes a sound model, a strength and a random generator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
import trellis_mesh as mesh
import trimesh

from ..asset import Floats, Ints
from .model import Model

Random = np.random.Generator


def nothing_left(model: Model, strength: float, random: Random) -> Model:
    """The mesh is gone; 1 leaves textures only, 0 leaves faces that have collapsed to points."""
    if strength >= 1:
        return replace(model, faces=np.zeros((0, 3), np.int64))
    return replace(model, positions=np.repeat(model.positions[:1], len(model.positions), 0))


def primitive(model: Model, strength: float, random: Random) -> Model:
    """A textured placeholder of the asset's size: a cube of `strength` faces, or a ball when there is none such."""
    low, high = model.positions.min(0), model.positions.max(0)
    if strength in (12, 48, 192):
        made = trimesh.creation.box((1, 1, 1))
        while len(made.faces) < strength:
            made = made.subdivide()
    else:
        made = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    vertices = made.vertices * np.maximum(high - low, 1e-6) + (low + high) / 2
    return model.rebaked(vertices.astype(np.float32), made.faces.astype(np.int64))


def floating_triangles(model: Model, strength: float, random: Random) -> Model:
    """`strength` triangles, 2 % of the asset's size, away from the surface and inside its bounding box."""
    low, high = model.positions.min(0), model.positions.max(0)
    bvh = mesh.Bvh(torch.from_numpy(model.positions), torch.from_numpy(model.faces.astype(np.int32)))
    centres: Floats = np.zeros((0, 3), np.float32)
    while len(centres) < strength:
        tried = (low + (high - low) * random.uniform(-0.05, 1.05, (2000, 3))).astype(np.float32)
        distance, _, _ = bvh.closest_point(torch.from_numpy(tried))
        centres = np.concatenate([centres, tried[distance.numpy() > 0.035 * model.extent]])
    n = int(strength)
    corners = centres[:n, None] + random.normal(0, 0.012 * model.extent, (n, 3, 3))
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    # They are textured like some faces of the asset.
    like = random.integers(0, len(model.faces), n)
    return model.appended(
        corners.reshape(-1, 3), np.repeat(normals, 3, 0), model.uv[model.faces[like]].reshape(-1, 2),
        np.arange(3 * n).reshape(-1, 3), np.repeat(model.sheer_faces[like], 3),
    )  # fmt: skip


def voxel_stairs(model: Model, strength: float, random: Random) -> Model:
    """The surface of the occupied cells of a grid with `strength` cells along the longest side."""
    n = int(strength)
    low = model.positions.min(0)
    cell = model.extent / n
    sampled, _ = trimesh.sample.sample_surface(
        trimesh.Trimesh(model.positions, model.faces, process=False), 60 * n * n, seed=int(random.integers(1 << 30))
    )
    index = np.unique(np.clip(np.floor((sampled - low) / cell), 0, n - 1).astype(np.int64), axis=0)
    grid = np.zeros((n + 2,) * 3, bool)
    grid[tuple(index.T + 1)] = True
    grid = _filled_inside(grid)
    corners, quads = [], []
    for axis in range(3):
        for side in (0, 1):
            shown = grid & ~np.roll(grid, -1 if side else 1, axis)
            cells = np.argwhere(shown)
            u, v = [k for k in range(3) if k != axis]
            square = np.zeros((4, 3))
            square[:, axis] = side
            square[[1, 2], u] = 1
            square[[2, 3], v] = 1
            turn = (side == 1) != (axis == 1)
            corners.append((cells[:, None] + (square if turn else square[::-1])[None]).reshape(-1, 3))
            quads.append(len(cells))
    points = np.concatenate(corners)
    count = sum(quads)
    flat = np.arange(4 * count).reshape(-1, 4)
    faces = np.concatenate([flat[:, [0, 1, 2]], flat[:, [0, 2, 3]]])
    unique, inverse = np.unique(points, axis=0, return_inverse=True)
    vertices = (unique - 1) * cell + low
    return model.rebaked(vertices.astype(np.float32), inverse.reshape(-1)[faces].astype(np.int64))


def _filled_inside(grid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    from scipy.ndimage import binary_fill_holes

    filled: npt.NDArray[np.bool_] = binary_fill_holes(grid)
    return filled


def parts_removed(model: Model, strength: float, random: Random) -> Model:
    """A share `strength` of the area is deleted from one side; at 1 all of it."""
    if strength >= 1:
        return replace(model, faces=np.zeros((0, 3), np.int64))
    corners = model.positions[model.faces].astype(np.float64)
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    direction = random.normal(size=3)
    order = np.argsort(corners.mean(1) @ direction)
    kept = order[np.cumsum(area[order]) <= (1 - strength) * area.sum()]
    return model.compact(model.faces[np.sort(kept)])


def confetti(model: Model, strength: float, random: Random) -> Model:
    """A share of the faces come loose: each becomes a piece of its own, moved by about its own size."""
    loose = random.random(len(model.faces)) < strength
    corners = model.faces[loose]
    positions = model.positions[corners].astype(np.float64)
    size = np.linalg.norm(positions - positions.mean(1, keepdims=True), axis=2).mean(1)
    moved = positions + (random.normal(size=(len(corners), 1, 3)) * size[:, None, None]) * 1.5
    kept = model.compact(model.faces[~loose]) if (~loose).any() else replace(model, faces=np.zeros((0, 3), np.int64))
    if not len(kept.faces):
        kept = replace(kept, positions=model.positions[:0], normals=model.normals[:0], uv=model.uv[:0], sheer=None)
    return kept.appended(
        moved.reshape(-1, 3), model.normals[corners].reshape(-1, 3), model.uv[corners].reshape(-1, 2),
        np.arange(3 * len(corners)).reshape(-1, 3), np.repeat(model.sheer_faces[loose], 3),
    )  # fmt: skip


def stray_quads(model: Model, strength: float, random: Random) -> Model:
    """Quads that stick out of the surface from one of its edges, as many as `strength` times the faces."""
    n = max(1, int(strength * len(model.faces)))
    chosen = random.choice(len(model.faces), n, replace=False)
    face = model.faces[chosen]
    a, b = face[:, 0], face[:, 1]
    pa, pb = model.positions[a].astype(np.float64), model.positions[b].astype(np.float64)
    out = (model.normals[a] + model.normals[b]).astype(np.float64)
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)
    out *= np.linalg.norm(pb - pa, axis=1, keepdims=True)
    positions = np.stack([pa, pb, pb + out, pa + out], 1)
    side = np.cross(pb - pa, out)
    side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-20)
    uv = model.uv[face][:, [0, 1, 2, 0]]
    base = np.arange(n)[:, None] * 4
    faces = np.concatenate([base + [0, 1, 2], base + [0, 2, 3]])
    sheer = np.repeat(model.sheer_faces[chosen], 4)
    return model.appended(positions.reshape(-1, 3), np.repeat(side, 4, 0), uv.reshape(-1, 2), faces, sheer)


def inner_shell(model: Model, strength: float, random: Random) -> Model:
    """An inner layer, 2 % of the size behind a share `strength` of the surface, turned to the cavity."""
    vertices, faces = model.weld()
    normals = mesh.vertex_normals(
        torch.from_numpy(vertices), torch.from_numpy(faces.astype(np.int32)), weighting="angle"
    ).numpy()
    inner = vertices - 0.02 * model.extent * normals
    welded = np.unique(model.positions, axis=0, return_inverse=True)[1].reshape(-1)
    corners = model.positions[model.faces].astype(np.float64)
    order = np.argsort(corners.mean(1) @ random.normal(size=3))
    chosen = model.faces[order[: int(strength * len(order))]][:, ::-1]
    return model.appended(inner[welded], -normals[welded], model.uv, chosen.astype(np.int64), model.sheer)


def few_faces(model: Model, strength: float, random: Random) -> Model:
    """Simplified to one face in `strength`."""
    vertices, faces = model.weld()
    target = max(8, int(len(faces) / strength))
    v, f = mesh.simplify(
        torch.from_numpy(vertices), torch.from_numpy(faces.astype(np.int32)), target_faces=target, min_quality=0.0
    )
    return model.rebaked(v.numpy(), f.numpy().astype(np.int64))


def turned_faces(model: Model, strength: float, random: Random) -> Model:
    """A share of the faces, at random, wound the other way."""
    turned: Ints = model.faces.copy()
    chosen = random.random(len(turned)) < strength
    turned[chosen] = turned[chosen][:, ::-1]
    return replace(model, faces=turned)
