"""A GLB as the gates look at it: every triangle of the scene in one mesh, welded, sampled and searchable.

Everything is computed on demand and once, by torch on the asset's device. All random choices come from fixed seeds, and
sums of many numbers are taken in a fixed order, so a profile repeats bit for bit on its device.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import trellis_mesh as mesh

from . import opening
from .glb import Glb, GlbError, parse_glb
from .once import once
from .scene import Frame, Part, Texture, frame_of

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]

SAMPLES = 8192
SEED = 20
_LATTICE = 1 << 20  # welding: vertices in the same cell of extent / 2^20 are one


@dataclass(frozen=True)
class Samples:
    """Points spread evenly over the surface: positions and normals float32 [N, 3] in unit space, their faces int64 [N]
    and barycentric weights float32 [N, 3], on the asset's device."""

    points: torch.Tensor
    normals: torch.Tensor
    faces: torch.Tensor
    barycentric: torch.Tensor


class Asset:
    """One GLB, read and checked.

    Args:
        glb: the checked container.
        name: for messages.
        device: where it is measured; all tensors are there.
        opened: what `opening` has made of it already.

    Attributes:
        parts: its primitives in world space, as arrays; empty when the scene has no triangles.

    Raises:
        GlbError: it cannot be used at all. A scene without triangles is no error here; the gate `empty` judges it.
    """

    def __init__(
        self, glb: Glb, name: str = "", device: torch.device | str = "cpu", opened: opening.Opened | None = None
    ) -> None:
        self.glb, self.name, self.device = glb, name, torch.device(device)
        self._textures: dict[int, torch.Tensor] = {}
        self._lock = Lock()
        self._opened = opened
        self.parts: list[Part] = opening.surfaces(glb) if opened is None else opened.parts
        if self.parts and not self.extent < 1e18:
            raise GlbError(f"its extent is {self.extent:g}; positions of that size cannot be measured")

    @classmethod
    def read(cls, path: str | Path, device: torch.device | str = "cpu") -> Asset:
        """Reads a file, or takes what `opening` has begun to read.

        Raises:
            GlbError: with the path in its text.
        """
        try:
            opened = opening.take(path)
            return cls(opened.glb, Path(path).name, device, opened)
        except GlbError as error:
            text = str(error) if str(error).startswith(str(path)) else f"{path}: {error}"
            raise GlbError(text) from error.__cause__

    @classmethod
    def parse(cls, data: bytes, name: str = "", device: torch.device | str = "cpu") -> Asset:
        """`read` for bytes in memory."""
        return cls(parse_glb(data), name, device)

    @property
    def has_surface(self) -> bool:
        """Whether any triangle has an area."""
        return bool(self.parts) and self.area > 0

    @once
    def positions(self) -> torch.Tensor:
        """float32 [V, 3], world space, vertices of all parts."""
        joined = np.concatenate([p.positions for p in self.parts] or [np.zeros((0, 3), np.float32)])
        return torch.from_numpy(joined).to(self.device)

    @once
    def offsets(self) -> list[int]:
        """Where each part's vertices begin in `positions`."""
        return [0, *np.cumsum([len(p.positions) for p in self.parts]).tolist()]

    @once
    def faces(self) -> torch.Tensor:
        """int64 [F, 3] into `positions`."""
        faces = [
            torch.from_numpy(p.faces).to(self.device).long() + o
            for p, o in zip(self.parts, self.offsets[:-1], strict=True)
        ]
        return torch.cat(faces or [torch.zeros(0, 3, dtype=torch.int64, device=self.device)])

    @once
    def part_of_face(self) -> torch.Tensor:
        """int64 [F]: index into `parts`."""
        counts = torch.tensor([len(p.faces) for p in self.parts], dtype=torch.int64)
        return torch.repeat_interleave(torch.arange(len(counts)), counts).to(self.device)

    @once
    def double_sided(self) -> torch.Tensor:
        """bool [S]: whether the material of each solid face shows its back too."""
        sided = torch.tensor([p.material.double_sided for p in self.parts], dtype=torch.bool, device=self.device)
        return sided[self.part_of_face[self.solid_faces]]

    @once
    def bounds(self) -> npt.NDArray[np.float64]:
        """[2, 3], of the vertices that faces use."""
        if self._opened is not None and self._opened.bounds is not None:
            return self._opened.bounds
        used = rows(self.positions, members(self.faces, len(self.positions)))
        return torch.stack([used.amin(0), used.amax(0)]).double().cpu().numpy()

    @property
    def extent(self) -> float:
        """The longest side of the bounding box."""
        return float((self.bounds[1] - self.bounds[0]).max()) if self.parts else 0.0

    @once
    def frame(self) -> Frame:
        """What a camera frames, in world space."""
        return (self._opened and self._opened.frame) or frame_of(self.parts)

    @once
    def digest(self) -> str:
        """SHA-256 of the file, in hexadecimal digits."""
        return (self._opened and self._opened.digest) or hashlib.sha256(self.glb.data).hexdigest()

    @once
    def unit(self) -> torch.Tensor:
        """`positions` with the bounding box's centre at 0 and its longest side 1."""
        if not len(self.positions):
            return self.positions
        centred = self.positions.double() - torch.from_numpy(self.bounds.mean(0)).to(self.device)
        return (centred / max(self.extent, 1e-30)).clamp(-1e3, 1e3).float()

    @once
    def _welding(self) -> tuple[torch.Tensor, torch.Tensor]:
        cell = ((self.unit.double() + 1e3) * _LATTICE).round().long() & 0x1FFFFF
        # Three 21-bit numbers in one; vertices that no face uses may lie far out and collide, which is harmless.
        key, order = ((cell[:, 0] << 42) | (cell[:, 1] << 21) | cell[:, 2]).sort(stable=True)
        fresh = starts(key)
        number = torch.empty_like(order)
        number[order] = fresh.cumsum(0) - 1
        return number, rows(self.unit, order[fresh])

    @property
    def weld(self) -> torch.Tensor:
        """int64 [V]: the welded vertex of each vertex."""
        return self._welding[0]

    @property
    def welded_vertices(self) -> torch.Tensor:
        """float32 [W, 3], unit space."""
        return self._welding[1]

    @once
    def solid_faces(self) -> torch.Tensor:
        """int64 [S]: the faces that keep three distinct vertices after welding."""
        a, b, c = rows(self.weld, self.faces).unbind(1)
        return ((a != b) & (b != c) & (c != a)).nonzero()[:, 0]

    @once
    def welded_faces(self) -> torch.Tensor:
        """int64 [S, 3]: `solid_faces` over the welded vertices."""
        return rows(self.weld, rows(self.faces, self.solid_faces))

    @once
    def cross(self) -> torch.Tensor:
        """float64 [S, 3]: area-weighted normals of the solid faces (length = area), unit space."""
        p, q, r = rows(self.welded_vertices.double(), self.welded_faces).unbind(1)
        cross: torch.Tensor = torch.linalg.cross(q - p, r - p) / 2
        return cross

    @once
    def areas(self) -> torch.Tensor:
        """float64 [S], unit space."""
        areas: torch.Tensor = self.cross.square().sum(1).sqrt()
        return areas

    @once
    def area(self) -> float:
        """Total, unit space."""
        return float(self.areas.sum())

    @once
    def normals(self) -> torch.Tensor:
        """float64 [S, 3], unit length; zero where a face has no area."""
        return self.cross / self.areas.clamp_min(1e-30)[:, None]

    @once
    def components(self) -> tuple[int, torch.Tensor]:
        """Number of edge-connected components of the welded mesh, and the label of each solid face, int64 [S]."""
        if not len(self.welded_faces):
            return 0, self.welded_faces[:, 0]
        count, labels = mesh.connected_components(self.welded_faces.int(), len(self.welded_vertices))
        return count, labels.long()

    @once
    def bvh(self) -> mesh.Bvh:
        """Search structure over the solid faces in unit space."""
        return mesh.Bvh(self.welded_vertices, self.welded_faces.int())

    @once
    def samples(self) -> Samples:
        """`SAMPLES` points, uniform by area, from a fixed seed. They are chosen on the CPU, the same for every device."""
        random = np.random.default_rng(SEED)
        cumulative = np.cumsum(self.areas.cpu().numpy())
        # Stratified along the list of faces, so that no region is missed by chance.
        where = (np.arange(SAMPLES) + random.random(SAMPLES)) / SAMPLES * cumulative[-1]
        face = np.searchsorted(cumulative, where).clip(0, len(cumulative) - 1)
        r1, r2 = np.sqrt(random.random(SAMPLES)), random.random(SAMPLES)
        weights = np.stack([1 - r1, r1 * (1 - r2), r1 * r2], 1)
        chosen, barycentric = (torch.from_numpy(x).to(self.device) for x in (face, weights))
        corners = self.welded_vertices[self.welded_faces[chosen]].double()
        points = (corners * barycentric[..., None]).sum(1)
        return Samples(points.float(), self.normals[chosen].float(), chosen, barycentric.float())

    def pixels(self, texture: Texture) -> torch.Tensor:
        """A texture's image, uint8 [H, W, 4], on the device; sent there once."""
        with self._lock:
            key = id(texture.image)
            if key not in self._textures:
                image = np.ascontiguousarray(texture.image)
                with warnings.catch_warnings():  # decoded images are read-only, and nothing here writes to one
                    warnings.simplefilter("ignore")
                    self._textures[key] = torch.from_numpy(image).to(self.device)
            return self._textures[key]

    def colors_at(self, face: torch.Tensor, barycentric: torch.Tensor) -> torch.Tensor:
        """Display colour float32 [N, 3] in [0, 1] of points given by solid face and barycentric weights."""
        original = self.solid_faces[face]
        corners, part_of = self.faces[original], self.part_of_face[original]
        out = torch.ones(len(face), 3, device=self.device)
        for i, part in enumerate(self.parts):
            mine = (part_of == i).nonzero()[:, 0]
            if not len(mine):
                continue
            local = corners[mine] - self.offsets[i]
            factor = linear_to_display(np.array(part.material.base_color[:3], np.float64))
            colour = torch.from_numpy(factor).to(self.device)[None]
            texture = part.material.textures.get("baseColorTexture")
            if texture is not None and texture.uv_set in part.uvs and part.uvs[texture.uv_set].shape[1] == 2:
                uvs = torch.from_numpy(part.uvs[texture.uv_set]).to(self.device)
                uv = (uvs[local] * barycentric[mine][..., None]).sum(1)
                colour = colour * nearest_texels(self.pixels(texture), moved(texture, uv))[:, :3]
            out[mine] = colour.float().expand(len(mine), 3)
        return out


def starts(ordered: torch.Tensor) -> torch.Tensor:
    """Where a run of equal values begins, bool [N], in an ordered tensor."""
    fresh = torch.ones(len(ordered), dtype=torch.bool, device=ordered.device)
    fresh[1:] = ordered[1:] != ordered[:-1]
    return fresh


def rows(values: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """`values[index]` of an index without negative numbers; whole rows are copied, which is several times faster on a CPU."""
    return values.index_select(0, index.reshape(-1)).view(*index.shape, *values.shape[1:])


def members(faces: torch.Tensor, count: int) -> torch.Tensor:
    """The vertices, of `count`, that faces use, in ascending order."""
    used = torch.zeros(count, dtype=torch.bool, device=faces.device)
    used[faces.reshape(-1)] = True
    return used.nonzero()[:, 0]


def moved(texture: Texture, uv: torch.Tensor) -> torch.Tensor:
    """float64 [N, 2]: uv with the texture's transform applied. Written out, so that every device rounds alike."""
    (a, b, c), (d, e, f) = texture.transform.tolist()
    u, v = uv.double().unbind(1)
    return torch.stack([(u * a + v * b) + c, (u * d + v * e) + f], 1)


def look_up(image: npt.NDArray[np.uint8], uv: npt.NDArray[Any]) -> Floats:
    """`nearest_texels` of arrays."""
    texels: Floats = nearest_texels(torch.from_numpy(np.array(image)), torch.from_numpy(uv)).numpy()
    return texels


def nearest_texels(image: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Nearest texels float32 [N, 4] in [0, 1] at uv [N, 2], repeating."""
    height, width = image.shape[:2]
    folded = (uv - uv.floor()).nan_to_num(0.0, 0.0, 0.0)
    column = (folded[:, 0] * width).long().clamp(0, width - 1)
    row = (folded[:, 1] * height).long().clamp(0, height - 1)
    return image[row, column].float() / 255


def linear_to_display(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The sRGB transfer function (IEC 61966-2-1); used as a factor, so 1 stays 1."""
    x = np.clip(x, 0, 1)
    return np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 1e-9) ** (1 / 2.4) - 0.055)
