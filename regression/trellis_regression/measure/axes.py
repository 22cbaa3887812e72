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

_POINTS, _FEWEST = 2048, 64
_BLACK = 0.02


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
    points, colours = _chosen(asset)
    permutations_ = signed_permutations()
    moved = _permuted(into(asset, points, golden))
    away, face, weights = golden.bvh.closest_point(moved)
    distance = away.double().view(len(permutations_), -1).mean(1).tolist()
    theirs = golden.colors_at(face.long(), weights).view(len(permutations_), -1, 3)
    return _verdict([name for name, _ in permutations_], distance, _difference(colours, theirs))


def measure_voxels(asset: Asset, voxel_points: Floats, voxel_colours: Floats) -> dict[str, Any]:
    """The same against a stage's attribute voxels: centres [M, 3] in the asset's unit space, colours [M, 3] in [0, 1]."""
    from scipy.spatial import cKDTree

    points, colours = _chosen(asset)
    permutations_ = signed_permutations()
    away, nearest = cKDTree(voxel_points).query(_permuted(points).cpu().numpy(), workers=-1)
    distance = away.reshape(len(permutations_), -1).mean(1).tolist()
    theirs = torch.from_numpy(voxel_colours[nearest].reshape(len(permutations_), -1, 3)).to(asset.device)
    return _verdict([name for name, _ in permutations_], distance, _difference(colours, theirs))


def _chosen(asset: Asset) -> tuple[torch.Tensor, torch.Tensor]:
    """Some of the asset's samples: points [N, 3] in its unit space, and colours [N, 3]."""
    step = len(asset.samples.points) // _POINTS
    colours = asset.colors_at(asset.samples.faces[::step], asset.samples.barycentric[::step])
    return asset.samples.points[::step], colours


def _permuted(points: torch.Tensor) -> torch.Tensor:
    """The points [N, 3] under every permutation, one after the other, [48 N, 3]."""
    moved = []
    for _, matrix in signed_permutations():
        signs = torch.tensor(matrix.sum(1), dtype=points.dtype, device=points.device)
        moved.append(points[:, np.abs(matrix).argmax(1).tolist()] * signs)
    return torch.cat(moved)


def _difference(ours: torch.Tensor, theirs: torch.Tensor) -> list[float]:
    """Mean difference of colours [N, 3] to each of [48, N, 3] where ours are not black.

    A texture that was not read says nothing of the order of the axes.
    """
    lit = ours.amax(1) > _BLACK
    if int(lit.sum()) < _FEWEST:
        return [0.0] * len(theirs)
    found: list[float] = (ours[None, lit].double() - theirs[:, lit].double()).abs().mean((1, 2)).tolist()
    return found


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
