"""A GLB as the gates look at it: every triangle of the scene in one mesh, welded, sampled and searchable.

Everything is computed on demand and once. All random choices come from fixed seeds, so a profile repeats bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import trellis_mesh as mesh

from .glb import EmptySceneError, Glb, GlbError, check_geometry, parse_glb, read_glb
from .scene import Part, load_parts

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

MAX_TRIANGLES, MAX_VERTICES = 20_000_000, 60_000_000
"""What a gate will look at; a larger scene is refused rather than allowed to fill the memory."""
SAMPLES = 8192
SEED = 20
_LATTICE = 1 << 20  # welding: vertices in the same cell of extent / 2^20 are one


@dataclass(frozen=True)
class Samples:
    """Points spread evenly over the surface: positions and normals [N, 3] in unit space, and their faces [N]."""

    points: Floats
    normals: Floats
    faces: Ints
    barycentric: Floats


class Asset:
    """One GLB, read and checked.

    Args:
        glb: the checked container.
        name: for messages.

    Attributes:
        parts: its primitives in world space; empty when the scene has no triangles.

    Raises:
        GlbError: it cannot be used at all. A scene without triangles is no error here; the gate `empty` judges it.
    """

    def __init__(self, glb: Glb, name: str = "") -> None:
        self.glb, self.name = glb, name
        try:
            check_geometry(glb, max_triangles=MAX_TRIANGLES, max_vertices=MAX_VERTICES)
            self.parts: list[Part] = [p for p in load_parts(glb) if len(p.faces)]
        except EmptySceneError:
            self.parts = []
        if self.parts and not self.extent < 1e18:
            raise GlbError(f"its extent is {self.extent:g}; positions of that size cannot be measured")

    @classmethod
    def read(cls, path: str | Path) -> Asset:
        """Reads a file.

        Raises:
            GlbError: with the path in its text.
        """
        try:
            return cls(read_glb(path), Path(path).name)
        except GlbError as error:
            text = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
            raise GlbError(text) from error.__cause__

    @classmethod
    def parse(cls, data: bytes, name: str = "") -> Asset:
        """`read` for bytes in memory."""
        return cls(parse_glb(data), name)

    @property
    def has_surface(self) -> bool:
        """Whether any triangle has an area."""
        return bool(self.parts) and self.area > 0

    @cached_property
    def positions(self) -> Floats:
        """float32 [V, 3], world space, vertices of all parts."""
        return np.concatenate([p.positions for p in self.parts] or [np.zeros((0, 3), np.float32)])

    @cached_property
    def faces(self) -> Ints:
        """int64 [F, 3] into `positions`."""
        offsets = np.cumsum([0] + [len(p.positions) for p in self.parts])
        faces = [p.faces.astype(np.int64) + o for p, o in zip(self.parts, offsets[:-1], strict=True)]
        return np.concatenate(faces or [np.zeros((0, 3), np.int64)])

    @cached_property
    def part_of_face(self) -> Ints:
        """int64 [F]: index into `parts`."""
        return np.repeat(np.arange(len(self.parts)), [len(p.faces) for p in self.parts])

    @cached_property
    def bounds(self) -> npt.NDArray[np.float64]:
        """[2, 3], of the vertices that faces use."""
        used = self.positions[members(self.faces, len(self.positions))]
        return np.stack([used.min(0), used.max(0)]).astype(np.float64)

    @property
    def extent(self) -> float:
        """The longest side of the bounding box."""
        return float((self.bounds[1] - self.bounds[0]).max()) if self.parts else 0.0

    @cached_property
    def unit(self) -> Floats:
        """`positions` with the bounding box's centre at 0 and its longest side 1."""
        if not len(self.positions):
            return self.positions
        centred = self.positions.astype(np.float64) - self.bounds.mean(0)
        unit: Floats = (centred / max(self.extent, 1e-30)).clip(-1e3, 1e3).astype(np.float32)
        return unit

    @cached_property
    def _welding(self) -> tuple[Ints, Floats]:
        cell = np.round((self.unit.astype(np.float64) + 1e3) * _LATTICE).astype(np.int64)
        # Three 21-bit numbers in one; vertices that no face uses may lie far out and collide, which is harmless.
        key = ((cell[:, 0] & 0x1FFFFF) << 42) | ((cell[:, 1] & 0x1FFFFF) << 21) | (cell[:, 2] & 0x1FFFFF)
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        return inverse.astype(np.int64), self.unit[first]

    @property
    def weld(self) -> Ints:
        """int64 [V]: the welded vertex of each vertex."""
        return self._welding[0]

    @property
    def welded_vertices(self) -> Floats:
        """float32 [W, 3], unit space."""
        return self._welding[1]

    @cached_property
    def _solid(self) -> npt.NDArray[np.bool_]:
        f = self.weld[self.faces]
        distinct: npt.NDArray[np.bool_] = (f[:, 0] != f[:, 1]) & (f[:, 1] != f[:, 2]) & (f[:, 2] != f[:, 0])
        return distinct

    @cached_property
    def solid_faces(self) -> Ints:
        """int64 [S]: the faces that keep three distinct vertices after welding."""
        return np.flatnonzero(self._solid)

    @cached_property
    def welded_faces(self) -> Ints:
        """int64 [S, 3]: `solid_faces` over the welded vertices."""
        return self.weld[self.faces[self.solid_faces]]

    @cached_property
    def cross(self) -> npt.NDArray[np.float64]:
        """[S, 3]: area-weighted normals of the solid faces (length = area), unit space."""
        p = self.welded_vertices[self.welded_faces].astype(np.float64)
        cross: npt.NDArray[np.float64] = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]) / 2
        return cross

    @cached_property
    def areas(self) -> npt.NDArray[np.float64]:
        """[S], unit space."""
        areas: npt.NDArray[np.float64] = np.linalg.norm(self.cross, axis=1)
        return areas

    @cached_property
    def area(self) -> float:
        """Total, unit space."""
        return float(self.areas.sum())

    @cached_property
    def normals(self) -> npt.NDArray[np.float64]:
        """[S, 3], unit length; zero where a face has no area."""
        unit: npt.NDArray[np.float64] = self.cross / np.maximum(self.areas, 1e-30)[:, None]
        return unit

    @cached_property
    def components(self) -> tuple[int, Ints]:
        """Number of edge-connected components of the welded mesh, and the label of each solid face [S]."""
        if not len(self.welded_faces):
            return 0, np.zeros(0, np.int64)
        count, labels = mesh.connected_components(
            torch.from_numpy(self.welded_faces.astype(np.int32)), len(self.welded_vertices)
        )
        return count, labels.numpy().astype(np.int64)

    @cached_property
    def bvh(self) -> mesh.Bvh:
        """Search structure over the solid faces in unit space."""
        return mesh.Bvh(torch.from_numpy(self.welded_vertices), torch.from_numpy(self.welded_faces.astype(np.int32)))

    @cached_property
    def samples(self) -> Samples:
        """`SAMPLES` points, uniform by area, from a fixed seed."""
        random = np.random.default_rng(SEED)
        cumulative = np.cumsum(self.areas)
        # Stratified along the list of faces, so that no region is missed by chance.
        where = (np.arange(SAMPLES) + random.random(SAMPLES)) / SAMPLES * cumulative[-1]
        face = np.searchsorted(cumulative, where).clip(0, len(cumulative) - 1)
        r1, r2 = np.sqrt(random.random(SAMPLES)), random.random(SAMPLES)
        weights = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], 1)
        corners = self.welded_vertices[self.welded_faces[face]].astype(np.float64)
        points = (corners * weights[..., None]).sum(1)
        return Samples(
            points.astype(np.float32), self.normals[face].astype(np.float32), face, weights.astype(np.float32)
        )

    def colors_at(self, face: Ints, barycentric: Floats) -> Floats:
        """Display colour [N, 3] in [0, 1] of points given by solid face and barycentric weights."""
        original = self.solid_faces[face]
        corners = self.faces[original]
        out = np.ones((len(face), 3), np.float32)
        offsets = np.cumsum([0] + [len(p.positions) for p in self.parts])
        for i, part in enumerate(self.parts):
            mine = self.part_of_face[original] == i
            if not mine.any():
                continue
            local = corners[mine] - offsets[i]
            colour = linear_to_display(np.array(part.material.base_color[:3], np.float64))[None]
            texture = part.material.textures.get("baseColorTexture")
            if texture is not None and texture.uv_set in part.uvs:
                uv = (part.uvs[texture.uv_set][local] * barycentric[mine][..., None]).sum(1)
                colour = (
                    colour * look_up(texture.image, uv @ texture.transform[:, :2].T + texture.transform[:, 2])[:, :3]
                )
            out[mine] = colour
        return out


def members(faces: Ints, count: int) -> Ints:
    """The vertices, of `count`, that faces use, in ascending order."""
    used = np.zeros(count, bool)
    used[faces] = True
    return np.flatnonzero(used)


def look_up(image: npt.NDArray[np.uint8], uv: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Nearest texels [N, 4] in [0, 1] at uv [N, 2], repeating."""
    height, width = image.shape[:2]
    folded = np.nan_to_num(uv - np.floor(uv))
    column = (folded[:, 0] * width).astype(np.int64).clip(0, width - 1)
    row = (folded[:, 1] * height).astype(np.int64).clip(0, height - 1)
    texels: npt.NDArray[np.float32] = image[row, column].astype(np.float32) / 255
    return texels


def linear_to_display(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The sRGB transfer function (IEC 61966-2-1); used as a factor, so 1 stays 1."""
    x = np.clip(x, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)
