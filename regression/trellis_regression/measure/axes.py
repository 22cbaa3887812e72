"""Of all 48 signed permutations of the axes, which one explains the candidate best? It should be the identity.

The devlog's black texture was a sampler that was fed x, y, z where z, y, x was expected. On an asset that survives such a
swap the texture is merely wrong; this test names the permutation.
"""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..asset import Asset, Floats
from .surface import into

_POINTS = 2048


def signed_permutations() -> list[tuple[str, npt.NDArray[np.float64]]]:
    """Name and matrix of all 48, the identity first: "-zyx" sends a point to (-z, y, x)."""
    found = []
    for order in permutations(range(3)):
        for signs in product((1, -1), repeat=3):
            matrix = np.zeros((3, 3))
            matrix[range(3), order] = signs
            name = "".join(("-" if s < 0 else "") + "xyz"[k] for s, k in zip(signs, order, strict=True))
            found.append((name, matrix))
    return found


def measure(asset: Asset, golden: Asset) -> dict[str, Any]:
    """How much better the best permutation explains the colours, and the shape, than the identity does."""
    step = len(asset.samples.points) // _POINTS
    points = into(asset, asset.samples.points[::step], golden)
    colours = asset.colors_at(asset.samples.faces[::step], asset.samples.barycentric[::step])
    distance, colour = [], []
    names = [name for name, _ in signed_permutations()]
    for _, matrix in signed_permutations():
        moved = np.ascontiguousarray(points @ matrix.T.astype(np.float32))
        away, face, weights = golden.bvh.closest_point(torch.from_numpy(moved))
        distance.append(float(away.mean()))
        colour.append(_difference(colours, golden.colors_at(face.numpy(), weights.numpy())))
    return _verdict(names, distance, colour)


def measure_voxels(asset: Asset, voxel_points: Floats, voxel_colours: Floats) -> dict[str, Any]:
    """The same against a stage's attribute voxels: centres [M, 3] in the asset's unit space, colours [M, 3] in [0, 1]."""
    from scipy.spatial import cKDTree

    step = len(asset.samples.points) // _POINTS
    points = asset.samples.points[::step]
    colours = asset.colors_at(asset.samples.faces[::step], asset.samples.barycentric[::step])
    tree = cKDTree(voxel_points)
    distance, colour = [], []
    names = [name for name, _ in signed_permutations()]
    for _, matrix in signed_permutations():
        away, nearest = tree.query(points @ matrix.T)
        distance.append(float(np.mean(away)))
        colour.append(_difference(colours, voxel_colours[nearest]))
    return _verdict(names, distance, colour)


def _difference(a: Floats, b: Floats) -> float:
    return float(np.abs(a - b).mean())


def _verdict(names: list[str], distance: list[float], colour: list[float]) -> dict[str, Any]:
    by_colour, by_shape = int(np.argmin(colour)), int(np.argmin(distance))
    # A permutation counts for colours only where it maps the shape onto itself as well as it can.
    return {
        "axis_colour_error": colour[0],
        "axis_colour_best": names[by_colour],
        "axis_colour_gain": colour[0] - colour[by_colour],
        "axis_shape_error": distance[0],
        "axis_shape_best": names[by_shape],
        "axis_shape_gain": distance[0] - distance[by_shape],
    }
