"""A GLB of one textured part, or of an opaque and a blended one with the same textures, taken apart so that a fault can be
put in, and written again."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import trellis_mesh as mesh
import trellis_raster as raster
from PIL import Image

from ..asset import Asset, Floats, Ints, look_up
from ..glb import GlbError
from ..scene import Part

Bytes = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Model:
    """One textured mesh.

    Attributes:
        positions, normals: float32 [V, 3]; uv: float32 [V, 2]; faces: int64 [F, 3].
        base: uint8 [H, W, 4]; surface: uint8 [H, W, 4], roughness in green and metallic in blue.
        keep_alpha: write base colour as RGBA.
        sheer: bool [V], of which vertices the faces are a blended part beside the opaque one; None for none.
    """

    positions: Floats
    normals: Floats
    uv: Floats
    faces: Ints
    base: Bytes
    surface: Bytes
    alpha_mode: str = "OPAQUE"
    alpha_cutoff: float = 0.5
    keep_alpha: bool = False
    sheer: npt.NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, asset: Asset) -> Model:
        """Takes an asset apart.

        Raises:
            GlbError: it has other parts, or no base colour texture.
        """
        ordered = sorted(asset.parts, key=lambda p: p.material.alpha_mode == "BLEND")
        first = [p.material.textures.get("baseColorTexture") for p in ordered]
        modes = [p.material.alpha_mode == "BLEND" for p in ordered]
        if not first or first[0] is None or (len(first) > 1 and modes != [False, True]) or not _same_look(ordered):
            raise GlbError(
                "faults are injected into assets of one part with a base colour texture, or of an opaque and a blended part "
                "with the same textures"
            )
        part, m, base = ordered[0], ordered[0].material, first[0].image
        surface = m.textures["metallicRoughnessTexture"].image if "metallicRoughnessTexture" in m.textures else None
        if surface is None:
            surface = np.full((4, 4, 4), (255, round(255 * m.roughness), round(255 * m.metallic), 255), np.uint8)
        made = cls(
            part.positions, part.normals, part.uvs[first[0].uv_set], part.faces.astype(np.int64),
            base, surface, m.alpha_mode, m.alpha_cutoff, m.alpha_mode != "OPAQUE" or bool((base[..., 3] < 255).any()),
        )  # fmt: skip
        for other, texture in zip(ordered[1:], first[1:], strict=True):
            assert texture is not None  # that of the first
            made = made.appended(
                other.positions, other.normals, other.uvs[texture.uv_set], other.faces.astype(np.int64),
                np.ones(len(other.positions), bool),
            )  # fmt: skip
        return made

    @property
    def sheer_faces(self) -> npt.NDArray[np.bool_]:
        """bool [F]: which faces are the blended part."""
        if self.sheer is None:
            return np.zeros(len(self.faces), bool)
        found: npt.NDArray[np.bool_] = np.asarray(self.sheer[self.faces].all(1))
        return found

    @property
    def opaque(self) -> bool:
        """Whether nothing of it is cut out or blended."""
        return self.alpha_mode == "OPAQUE" and not self.sheer_faces.any()

    @property
    def extent(self) -> float:
        """Longest side of the bounding box."""
        used = self.positions[self.faces.reshape(-1)]
        return float((used.max(0) - used.min(0)).max())

    def write(self) -> bytes:
        """The GLB."""
        views: list[bytes] = []
        accessors: list[dict[str, Any]] = []

        def accessor(values: npt.NDArray[Any], kind: int, **more: Any) -> int:
            shape = "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}"
            views.append(np.ascontiguousarray(values).tobytes())
            accessors.append(
                {"bufferView": len(views) - 1, "componentType": kind, "count": len(values), "type": shape, **more}
            )
            return len(accessors) - 1

        def image(pixels: Bytes) -> int:
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG", compress_level=3)
            views.append(data.getvalue())
            return len(views) - 1

        images = [image(self.base if self.keep_alpha else self.base[..., :3]), image(self.surface[..., :3])]
        sheer = self.sheer_faces
        by_mode = [(self.alpha_mode, self.faces[~sheer]), ("BLEND", self.faces[sheer])]
        by_mode = [(mode, faces) for mode, faces in by_mode if len(faces)]
        materials: list[dict[str, Any]] = [
            {
                "pbrMetallicRoughness": {
                    "baseColorTexture": {"index": 0}, "metallicRoughnessTexture": {"index": 1},
                },
                "doubleSided": True, "alphaMode": mode,
                **({"alphaCutoff": self.alpha_cutoff} if mode == "MASK" else {}),
            }
            for mode, _ in by_mode or [(self.alpha_mode, self.faces)]
        ]  # fmt: skip
        document: dict[str, Any] = {
            "asset": {"version": "2.0"}, "materials": materials, "scene": 0,
            "textures": [{"source": 0, "sampler": 0}, {"source": 1, "sampler": 0}],
            "samplers": [{"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}],
            "images": [{"bufferView": i, "mimeType": "image/png"} for i in images],
        }  # fmt: skip
        if len(self.faces):
            attributes = {
                "POSITION": accessor(
                    self.positions.astype("<f4"), 5126,
                    min=self.positions.min(0).tolist(), max=self.positions.max(0).tolist(),
                ),
                "NORMAL": accessor(self.normals.astype("<f4"), 5126),
                "TEXCOORD_0": accessor(self.uv.astype("<f4"), 5126),
            }  # fmt: skip
            primitives = [
                {"attributes": attributes, "indices": accessor(faces.reshape(-1).astype("<u4"), 5125), "material": i}
                for i, (_, faces) in enumerate(by_mode)
            ]
            document |= {
                "accessors": accessors, "meshes": [{"primitives": primitives}], "nodes": [{"mesh": 0}],
                "scenes": [{"nodes": [0]}],
            }  # fmt: skip
        else:
            document |= {"nodes": [{}], "scenes": [{"nodes": [0]}]}
        binary, placed = bytearray(), []
        for data in views:
            placed.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
            binary += data + b"\0" * (-len(data) % 4)
        document |= {"bufferViews": placed, "buffers": [{"byteLength": len(binary)}]}
        text = json.dumps(document).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
        chunks += struct.pack("<II", len(binary), 0x004E4942) + bytes(binary)
        return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks

    def compact(self, faces: Ints) -> Model:
        """The same with these faces only, vertices that none uses removed."""
        used, inverse = np.unique(faces, return_inverse=True)
        return replace(
            self, positions=self.positions[used], normals=self.normals[used], uv=self.uv[used],
            faces=inverse.reshape(-1, 3).astype(np.int64), sheer=None if self.sheer is None else self.sheer[used],
        )  # fmt: skip

    def weld(self) -> tuple[Floats, Ints]:
        """Distinct positions [W, 3] and faces over them [F, 3]."""
        found, inverse = np.unique(self.positions, axis=0, return_inverse=True)
        return found, inverse.reshape(-1)[self.faces].astype(np.int64)

    def appended(
        self, positions: Array, normals: Array, uv: Array, faces: Ints, sheer: npt.NDArray[np.bool_] | None = None
    ) -> Model:
        """The same with more triangles, whose vertices are of the blended part where `sheer` says so."""
        flags = [
            np.zeros(n, bool) if known is None else known
            for known, n in ((self.sheer, len(self.positions)), (sheer, len(positions)))
        ]
        return replace(
            self,
            positions=np.concatenate([self.positions, positions]).astype(np.float32),
            normals=np.concatenate([self.normals, normals]).astype(np.float32),
            uv=np.concatenate([self.uv, uv]).astype(np.float32),
            faces=np.concatenate([self.faces, faces + len(self.positions)]),
            sheer=None if self.sheer is None and sheer is None else np.concatenate(flags),
        )

    def coverage(self) -> tuple[npt.NDArray[np.bool_], Floats]:
        """Texels that a triangle covers, bool [H, W], and the points there, float32 [H, W, 3]."""
        rast = self._raster()
        points = raster.interpolate(
            torch.from_numpy(np.ascontiguousarray(self.positions))[None], rast,
            torch.from_numpy(self.faces.astype(np.int32)),
        )  # fmt: skip
        return rast[0, ..., 3].numpy() > 0, points[0].numpy()

    def _raster(self) -> torch.Tensor:
        clip = np.concatenate([self.uv * 2 - 1, np.zeros_like(self.uv[:, :1]), np.ones_like(self.uv[:, :1])], 1).astype(
            np.float32
        )
        return raster.rasterize(
            torch.from_numpy(clip)[None], torch.from_numpy(self.faces.astype(np.int32)), self.base.shape[:2]
        )

    def _nearest(self, points: Floats) -> tuple[Ints, Floats]:
        """Face and barycentric weights of the closest points of this model."""
        bvh = mesh.Bvh(
            torch.from_numpy(np.ascontiguousarray(self.positions)), torch.from_numpy(self.faces.astype(np.int32))
        )
        _, face, weights = bvh.closest_point(torch.from_numpy(np.ascontiguousarray(points, np.float32)))
        return face.numpy(), weights.numpy()

    def sampled(self, points: Floats) -> tuple[Bytes, Bytes]:
        """Base colour and surface texels [N, 4] at the closest points of this model."""
        face, weights = self._nearest(points)
        uv = (self.uv[self.faces[face]] * weights[..., None]).sum(1)
        found = [(look_up(image, uv) * 255).round().astype(np.uint8) for image in (self.base, self.surface)]
        return found[0], found[1]

    def rebaked(self, vertices: Floats, faces: Ints) -> Model:
        """Another mesh with this model's look: new charts, and textures from the closest points of this one."""
        size = self.base.shape[0]
        v, f, uv, _ = mesh.unwrap_uv(
            torch.from_numpy(np.ascontiguousarray(vertices, np.float32)), torch.from_numpy(faces.astype(np.int32)),
            resolution=size,
        )[:4]  # fmt: skip
        normals = mesh.vertex_normals(v, f, weighting="angle")
        normals[normals.norm(dim=1) < 0.5] = torch.tensor([0.0, 1.0, 0.0])
        made = replace(
            self, positions=v.numpy(), normals=normals.numpy(), uv=uv.numpy(), faces=f.numpy().astype(np.int64),
            base=np.zeros((size, size, 4), np.uint8), surface=np.zeros((size, size, 4), np.uint8),
            sheer=None if self.sheer is None else self.sheer_faces[self._nearest(v.numpy())[0]],
        )  # fmt: skip
        covered, points = made.coverage()
        colour, surface = self.sampled(points[covered])
        made.base[covered], made.surface[covered] = colour, surface
        return made.filled(covered)

    def filled(self, covered: npt.NDArray[np.bool_]) -> Model:
        """Gaps between charts filled, as a sound exporter leaves them."""
        mask = torch.from_numpy(covered)
        return replace(
            self,
            base=raster.fill_gaps(torch.from_numpy(self.base.copy()), mask).numpy(),
            surface=raster.fill_gaps(torch.from_numpy(self.surface.copy()), mask).numpy(),
        )


def _same_look(parts: Sequence[Part]) -> bool:
    """Whether parts have the same textures."""
    a = parts[0].material
    return all(
        a.textures.keys() == b.textures.keys()
        and all(np.array_equal(t.image, b.textures[name].image) for name, t in a.textures.items())
        for b in (p.material for p in parts[1:])
    )
