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
from ..stages import Grid
from .surface import into

_POINTS, _FEWEST = 2048, 64
_BLACK = 0.02
_MET = 0.1  # weight of the voxels that a place meets, of 1
_SAME_BOX = 1e-3  # of the longest side


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
    away, nearest = cKDTree(voxel_points).query(_permuted(points).cpu().numpy(), workers=torch.get_num_threads())
    distance = away.reshape(len(permutations_), -1).mean(1).tolist()
    theirs = torch.from_numpy(voxel_colours[nearest].reshape(len(permutations_), -1, 3)).to(asset.device)
    return _verdict([name for name, _ in permutations_], distance, _difference(colours, theirs))


def measure_grid(asset: Asset, grid: Grid) -> dict[str, Any]:
    """The same against the grid that the texture was sampled from, at the very places and with the sampler's weights.

    A sampler that mixes up coordinates does so in the grid, about its middle. Where that meets no voxel, texels take
    the colour of others; so each permutation is only held against the identity where both meet some.
    """
    there = _box(grid)
    colours = asset.colors_at(asset.samples.faces, asset.samples.barycentric)
    unit = asset.samples.points.double() * float(there.max())  # about the middle of the box, the longest side 1
    middle = torch.from_numpy((grid.low + grid.high) / 2).to(unit)
    at = torch.stack([unit[:, 0], -unit[:, 2], unit[:, 1]], 1) + middle - grid.size / 2
    lookup = _Lookup(grid, asset.device)
    read, met = lookup(at + grid.size / 2)
    met &= colours.amax(1) > _BLACK
    error = (colours - read).abs().mean(1).double()
    best, gain = "xyz", 0.0
    for name, matrix in signed_permutations():
        other, also = lookup(at @ torch.from_numpy(matrix.T).to(at) + grid.size / 2)
        both = met & also
        if int(both.sum()) >= _FEWEST:
            found = float((error[both] - (colours[both] - other[both]).abs().mean(1).double()).mean())
            best, gain = (name, found) if found > gain else (best, gain)
    return {"grid_colour_best": best, "grid_colour_gain": gain}


def lies_in(asset: Asset, grid: Grid) -> bool:
    """Whether the asset's box is that of the mesh that was exported; what lies otherwise, as beside floating pieces, cannot
    be held against the voxels of its stages."""
    own, there = asset.bounds[1] - asset.bounds[0], _box(grid)
    return bool(np.abs(own / max(own.max(), 1e-30) - there / max(there.max(), 1e-30)).max() <= _SAME_BOX)


def _box(grid: Grid) -> npt.NDArray[np.float64]:
    return (grid.high - grid.low)[[0, 2, 1]]  # y up


class _Lookup:
    """Colours of a sparse grid by trilinear weights over the voxels that exist, as the road samples them."""

    def __init__(self, grid: Grid, device: torch.device) -> None:
        self.side = grid.size + 2
        self.keys, order = self._key(torch.from_numpy(grid.coords).to(device) + 1).sort()
        self.colours = torch.from_numpy(grid.colours).to(device)[order]

    def _key(self, coords: torch.Tensor) -> torch.Tensor:
        return (coords[..., 0] * self.side + coords[..., 1]) * self.side + coords[..., 2]

    def __call__(self, at: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Colours [N, 3] at places [N, 3] in voxels, and where there are any [N]."""
        low = (at - 0.5).floor()
        part = (at - 0.5 - low).float()
        total, colours = torch.zeros_like(part[:, :1]), torch.zeros_like(part)
        for corner in range(8):
            offset = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2], device=at.device)
            cell = low.long() + offset + 1
            inside = ((cell >= 0) & (cell < self.side)).all(1)
            key = self._key(cell)
            index = torch.searchsorted(self.keys, key).clamp_max(len(self.keys) - 1)
            weight = torch.where(offset.bool(), part, 1 - part).prod(1) * (inside & (self.keys[index] == key))
            total += weight[:, None]
            colours += weight[:, None] * self.colours[index]
        return colours / total.clamp_min(1e-6), total[:, 0] > _MET


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
