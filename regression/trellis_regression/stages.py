"""Profiles of a road's kept stages (`trellis remake --keep-stages`), so that a failure names the first that differs.

A stage is a .safetensors file. Nothing is assumed of its content beyond names and numbers: each tensor is described by
its shape, mean, deviation, range and a digest. Stages with `vertices` and `faces` also have an area; `voxels` gives the
colours that a finished texture can be held against.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from .glb import GlbError
from .measure import welded

ORDER = (
    "conditioning", "structure", "shape_low", "shape", "texture",
    "voxels", "raw", "cleaned", "fine", "coarse", "unwrapped", "textures",
)  # fmt: skip
"""The way of the data, from a picture's features to the maps; stages of other names come after, by name."""
MAX_GRID = 1 << 16
"""Voxels along a side; what says it has more is not a grid of this road."""
TOLERANCE = 0.05
"""Stages whose tensors' statistics agree within this share are the same stage of another device or build."""


def profile(folder: Path) -> dict[str, Any]:
    """The profile of every stage in a folder, in the order of the road.

    Raises:
        GlbError: a stage that cannot be read.
    """
    files = {f.stem: f for f in sorted(folder.glob("*.safetensors"))}
    if not files:
        raise GlbError(f"{folder}: it holds no stages (.safetensors)")
    return {name: _stage(files[name]) for name in in_order(files)}


def in_order(names: Iterable[str]) -> list[str]:
    """Names of stages in the order of the road. A stored profile has them by the alphabet."""
    known = sorted(names)
    return [n for n in ORDER if n in known] + [n for n in known if n not in ORDER]


def _stage(path: Path) -> dict[str, Any]:
    tensors = _load(path)
    found: dict[str, Any] = {"tensors": {name: _statistics(values) for name, values in sorted(tensors.items())}}
    if {"vertices", "faces"} <= tensors.keys():
        corners = tensors["vertices"].astype(np.float64)[tensors["faces"].astype(np.int64)]
        cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(cross, axis=1) / 2
        found |= {"faces": len(corners), "area": float(area.sum())}
        if path.stem == "raw":
            found["shattered_share"] = _shattered(tensors["faces"].astype(np.int64), area)
    return found


def _shattered(faces: npt.NDArray[np.int64], area: npt.NDArray[np.float64]) -> float:
    """Share of the area in small components; a stage's mesh is welded."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if not len(faces) or not area.sum():
        return 0.0
    n = int(faces.max()) + 1
    ends = faces[:, [0, 1, 0, 2]].reshape(-1, 2).T
    label = connected_components(coo_matrix((np.ones(ends.shape[1], np.int8), ends), shape=(n, n)), directed=False)[1]
    of_face = label[faces[:, 0]]
    pieces = (np.bincount(of_face), np.bincount(of_face, area))
    small = welded.small_components(*(torch.from_numpy(x) for x in pieces)).numpy()
    return float(area[small[of_face]].sum() / area.sum())


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        return load_file(path)
    except Exception as error:  # safetensors raises its own types and ValueErrors
        raise GlbError(f"{path}: not a stage: {error}") from error


def _statistics(values: npt.NDArray[Any]) -> dict[str, Any]:
    numbers = values.astype(np.float64)
    some = numbers.size > 0
    return {
        "shape": list(values.shape),
        "mean": float(numbers.mean()) if some else 0.0,
        "std": float(numbers.std()) if some else 0.0,
        "min": float(numbers.min()) if some else 0.0,
        "max": float(numbers.max()) if some else 0.0,
        "digest": hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16],
    }


def first_difference(ours: dict[str, Any], theirs: dict[str, Any], *, tolerance: float = TOLERANCE) -> str | None:
    """A sentence about the first stage, in the order of the road, that is not what it was; None when none is.

    Args:
        tolerance: statistics within this share agree; 0 asks for equal bits.
    """
    for name in in_order(theirs):
        was, now = theirs[name], ours.get(name)
        if now is None:
            return f"stage '{name}' is missing"
        for tensor, before in was["tensors"].items():
            after = now["tensors"].get(tensor)
            if after is None:
                return f"stage '{name}' lacks {tensor}"
            if after["digest"] == before["digest"]:
                continue
            if tolerance == 0:
                return f"stage '{name}' is the first whose bits differ ({tensor})"
            if what := _differs(before, after, tolerance):
                return f"stage '{name}' is the first that differs: {tensor} {what}"
    return None


def _differs(before: dict[str, Any], after: dict[str, Any], tolerance: float) -> str | None:
    a, b = before["shape"], after["shape"]
    if len(a) != len(b) or (a and not abs(b[0] - a[0]) <= tolerance * max(a[0], 1)):
        return f"has shape {b}, was {a}"
    spread = max(before["std"], after["std"], 1e-9)
    for key in ("mean", "std"):
        if abs(after[key] - before[key]) > tolerance * max(spread, abs(before[key])) * 2:
            return f"has {key} {after[key]:.4g}, was {before[key]:.4g}"
    return None


def voxel_colours(folder: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]] | None:
    """Centres [M, 3] in unit space (y up, as in a GLB) and colours [M, 3] in [0, 1] of a kept `voxels` stage."""
    if (found := _coloured(folder)) is None:
        return None
    coords, colours = found[0] + 0.5, found[1]
    low, high = coords.min(0), coords.max(0)
    road = (coords - (low + high) / 2) / max(float((high - low).max()), 1.0)
    return np.stack([road[:, 0], road[:, 2], -road[:, 1]], 1).astype(np.float32), colours  # the road is z-up


@dataclass(frozen=True)
class Grid:
    """A kept `voxels` stage as a sampler sees it, and where the mesh that was exported lies in it.

    Attributes:
        coords: int64 [M, 3] of the voxels that have a colour, in the road's axes (z up).
        colours: float32 [M, 3] in [0, 1].
        size: voxels along a side.
        low, high: the box [3] of the exported mesh, in voxels.
    """

    coords: npt.NDArray[np.int64]
    colours: npt.NDArray[np.float32]
    size: int
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]


def grid(folder: Path) -> Grid | None:
    """The grid that textures were sampled from; None where its stage, or that of the mesh, was not kept."""
    found, exported = _coloured(folder), folder / "coarse.safetensors"
    if found is None or not exported.is_file():
        return None
    fields = _fields(folder / "voxels.safetensors")
    size: Any = fields.get("grid_size")
    aabb: Any = fields.get("aabb")
    vertices = _load(exported).get("vertices", np.zeros((0, 3))).astype(np.float64)
    if not isinstance(size, int) or not 0 < size <= MAX_GRID or np.shape(aabb) != (2, 3):
        return None
    box = np.array(aabb, np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not len(vertices) or not (box[1] > box[0]).all():
        return None
    low, high = ((v - box[0]) / (box[1] - box[0]) * size for v in (vertices.min(0), vertices.max(0)))
    if not np.isfinite([low, high]).all():
        return None
    return Grid(found[0], found[1], size, low, high)


def _coloured(folder: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None:
    path = folder / "voxels.safetensors"
    if not path.is_file():
        return None
    tensors = _load(path)
    coords, colours = tensors.get("attr_coords"), tensors.get("attrs.base_color")
    if coords is None or colours is None or not len(coords):
        return None
    if coords.shape != (len(coords), 3) or colours.shape != coords.shape:
        raise GlbError(f"{path}: coordinates {coords.shape} and colours {colours.shape}: both should be [M, 3]")
    return coords.astype(np.int64), (colours / 255).astype(np.float32)


def _fields(path: Path) -> dict[str, Any]:
    """What a stage says of itself beside its tensors."""
    try:
        with safe_open(path, "numpy") as file:
            found = json.loads((file.metadata() or {}).get("fields", "{}"))
    except ValueError as error:
        raise GlbError(f"{path}: not a stage: {error}") from error
    return found if isinstance(found, dict) else {}
