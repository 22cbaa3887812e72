"""Writing GLB files (glTF 2.0) and reading back what was written."""

from __future__ import annotations

import io
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pygltflib as gltf
import torch
from PIL import Image
from trellis_regression.glb import check_geometry, read_glb
from trellis_regression.scene import open_image
from trellis_regression.whole import write_whole

from ..errors import require_finite
from .alpha import choose_alpha_mode, part_of_mesh, see_through_faces
from .load import Y_UP_TO_Z_UP
from .png import encode_png
from .stages import Placement, Textures, UnwrappedMesh

IMAGE_FORMATS = ("png", "webp")
ALPHA_MODES = ("auto", "opaque", "mask", "blend")
# What follows the asset's name in those of its images: editors list them without saying what they are for.
_IMAGE_NAMES = {
    "baseColorTexture": "baseColor",
    "metallicRoughnessTexture": "metallicRoughness",
    "emissiveTexture": "emissive",
}


def write_glb(
    path: str | Path, mesh: UnwrappedMesh, textures: Textures, *,
    placement: Placement | None = None, double_sided: bool = True, blended_double_sided: bool = True,
    image_format: str = "png", alpha_mode: str = "auto", name: str = "asset",
) -> dict[str, Any]:  # fmt: skip
    """Writes one textured mesh as a GLB, y up, and reads it back. Returns facts about the file for the manifest.

    The file appears under its name only when it is whole: it is written beside it and renamed. Where faces are to be
    blended and others are opaque, the mesh has a primitive of each kind, with materials that share the textures.

    Args:
        placement: puts the asset back where its source stood; None leaves it in the unit cube.
        double_sided: whether the material shows from behind too.
        blended_double_sided: the same of what is blended: from both sides glass is twice as dense.
        image_format: "png", which every reader knows, or "webp" (EXT_texture_webp), a quarter of the size.
        alpha_mode: "auto" decides from the texture; "opaque" drops alpha.
        name: of the node, the mesh, the material and the textures, as editors show it.

    Raises:
        ValueError: an empty mesh, or an unknown format or mode.
        StageError: a value that is not finite.
        RuntimeError: what was read back is not what was written.
    """
    if image_format not in IMAGE_FORMATS:
        raise ValueError(f"image_format: expected one of {', '.join(IMAGE_FORMATS)}, got {image_format!r}")
    if alpha_mode not in ALPHA_MODES:
        raise ValueError(f"alpha_mode: expected one of {', '.join(ALPHA_MODES)}, got {alpha_mode!r}")
    if len(mesh.faces) == 0:
        raise ValueError("mesh: it has no faces; an empty GLB is never written")
    placement = placement or Placement()
    mode = choose_alpha_mode(textures.alpha[textures.covered]) if alpha_mode == "auto" else alpha_mode.upper()
    path = Path(path)
    out = _Builder()
    with ThreadPoolExecutor(1) as background:
        maps = _maps(textures, mode)
        encoded = background.submit(_encode, list(maps.values()), image_format)
        primitives = [
            _primitive(out, part, placement, material)
            for material, part in enumerate(_by_material(mesh, textures, mode))
        ]
        index = {
            kind: out.texture(data, image_format, f"{name}_{_IMAGE_NAMES[kind]}")
            for kind, data in zip(maps, encoded.result(), strict=True)
        }
    if len(primitives) > 1:
        out.model.materials = [_material(index, "OPAQUE", double_sided, name)]
    last = f"{name}_blended" if len(primitives) > 1 else name
    sides = blended_double_sided if mode == "BLEND" else double_sided
    out.model.materials.append(_material(index, mode, sides, last))
    out.model.meshes = [gltf.Mesh(name=name, primitives=primitives)]
    out.model.nodes = [gltf.Node(name=name, mesh=0)]
    out.model.scenes = [gltf.Scene(name=name, nodes=[0])]
    out.model.scene = 0
    vertices = sum(out.model.accessors[p.attributes.POSITION].count for p in primitives)
    pieces = out.finish()

    def write(file: Path) -> None:
        with file.open("wb") as handle:
            handle.writelines(pieces)
        _read_back(file, vertices, len(mesh.faces))  # before it stands under its name

    write_whole(path, write, sync=True)
    return {
        "bytes": sum(map(len, pieces)),
        "alpha_mode": mode,
        "vertices": vertices,
        "faces": len(mesh.faces),
    }


def _by_material(mesh: UnwrappedMesh, textures: Textures, mode: str) -> list[UnwrappedMesh]:
    """The mesh, or its opaque and its blended faces where it has both."""
    if mode == "BLEND":
        blended = see_through_faces(mesh, textures)
        if bool(blended.any()) and not bool(blended.all()):
            return [part_of_mesh(mesh, ~blended), part_of_mesh(mesh, blended)]
    return [mesh]


def _primitive(out: _Builder, mesh: UnwrappedMesh, placement: Placement, material: int) -> gltf.Primitive:
    positions, normals = _geometry(mesh, placement)
    for kind, values in (("positions", positions), ("normals", normals), ("texture coordinates", mesh.uv)):
        require_finite("write", kind, values)
    return gltf.Primitive(
        attributes=gltf.Attributes(
            POSITION=out.accessor(positions, gltf.ARRAY_BUFFER, bounds=True),
            NORMAL=out.accessor(normals, gltf.ARRAY_BUFFER),
            TEXCOORD_0=out.accessor(mesh.uv, gltf.ARRAY_BUFFER),
        ),
        indices=out.accessor(mesh.faces.reshape(-1), gltf.ELEMENT_ARRAY_BUFFER),
        material=material,
    )


def _geometry(mesh: UnwrappedMesh, placement: Placement) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and unit normals in the file's axes, float32 [V, 3]."""
    to_gltf = torch.from_numpy(Y_UP_TO_Z_UP[:3, :3].copy()).to(mesh.vertices.device)  # rows times a rotation undo it
    offset = torch.tensor(placement.offset, dtype=torch.float64, device=to_gltf.device)

    def turned(rows: torch.Tensor) -> torch.Tensor:
        # Not a matrix product, for which a process first has to start cuBLAS: 0.2 s.
        return (rows.double()[:, :, None] * to_gltf).sum(1)

    positions = turned(mesh.vertices) * placement.scale + offset
    # Products and sums are in use anyway; torch.norm loads a kernel of its own, for 40 ms in the first export.
    normals = turned(mesh.normals)
    length = (normals * normals).sum(1, keepdim=True).sqrt()
    # A vertex of degenerate faces only has none.
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64, device=to_gltf.device)
    normals = torch.where(length > 1e-20, normals / length.clamp(min=1e-20), up)
    return positions.float(), normals.float()


def _maps(textures: Textures, mode: str) -> dict[str, torch.Tensor]:
    """The images of a material by the glTF name of their texture, uint8 [H, W, 3 or 4]."""
    colour = [textures.base_color] if mode == "OPAQUE" else [textures.base_color, textures.alpha]
    # glTF reads roughness from green and metallic from blue; red is free and stays white (no occlusion).
    surface = [torch.full_like(textures.roughness, 255), textures.roughness, textures.metallic]
    maps = {"baseColorTexture": torch.cat(colour, 2), "metallicRoughnessTexture": torch.cat(surface, 2)}
    if bool(textures.emissive.any()):
        maps["emissiveTexture"] = textures.emissive
    return maps


def _encode(images: list[torch.Tensor], image_format: str) -> list[bytes]:
    if image_format == "png":
        return encode_png(images)
    with ThreadPoolExecutor(len(images)) as pool:
        return list(pool.map(_encode_webp, [image.cpu().numpy() for image in images]))


def _encode_webp(pixels: npt.NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "WEBP", quality=92, method=4)
    return data.getvalue()


def _material(index: dict[str, int], mode: str, double_sided: bool, name: str) -> gltf.Material:
    texture = {kind: gltf.TextureInfo(index=i) for kind, i in index.items()}
    material = gltf.Material(
        name=name,
        pbrMetallicRoughness=gltf.PbrMetallicRoughness(
            baseColorTexture=texture["baseColorTexture"],
            metallicRoughnessTexture=texture["metallicRoughnessTexture"],
            metallicFactor=1.0,
            roughnessFactor=1.0,
        ),
        alphaMode=mode,
        alphaCutoff=0.5 if mode == "MASK" else None,
        doubleSided=double_sided,
    )
    if "emissiveTexture" in texture:
        material.emissiveTexture = texture["emissiveTexture"]
        material.emissiveFactor = [1.0, 1.0, 1.0]
    return material


class _Builder:
    """Collects a GLB's binary chunk, piece by piece, and the JSON that describes it."""

    def __init__(self) -> None:
        self.model = gltf.GLTF2(asset=gltf.Asset(version="2.0", generator="Trellis Forge"))
        self._pieces: list[bytes | memoryview] = []
        self._size = 0

    def _view(self, data: bytes | memoryview, target: int | None) -> int:
        self.model.bufferViews.append(
            gltf.BufferView(buffer=0, byteOffset=self._size, byteLength=len(data), target=target)
        )
        padding = b"\0" * (-len(data) % 4)
        self._pieces += [data, padding]
        self._size += len(data) + len(padding)
        return len(self.model.bufferViews) - 1

    def accessor(self, values: torch.Tensor, target: int, *, bounds: bool = False) -> int:
        kind = {torch.float32: gltf.FLOAT, torch.int32: gltf.UNSIGNED_INT}[values.dtype]
        low, high = (x.tolist() for x in torch.aminmax(values, dim=0)) if bounds else (None, None)
        data = values.contiguous().cpu().numpy().data.cast("B")
        self.model.accessors.append(
            gltf.Accessor(
                bufferView=self._view(data, target), componentType=kind, count=len(values),
                type="SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}", min=low, max=high,
            )
        )  # fmt: skip
        return len(self.model.accessors) - 1

    def texture(self, data: bytes, image_format: str, name: str) -> int:
        model = self.model
        model.images.append(gltf.Image(name=name, bufferView=self._view(data, None), mimeType=f"image/{image_format}"))
        if not model.samplers:
            model.samplers = [
                gltf.Sampler(
                    magFilter=gltf.LINEAR, minFilter=gltf.LINEAR_MIPMAP_LINEAR,
                    wrapS=gltf.CLAMP_TO_EDGE, wrapT=gltf.CLAMP_TO_EDGE,
                )
            ]  # fmt: skip
        source = len(model.images) - 1
        if image_format == "webp":
            # No PNG beside it, so a reader must know the extension: it is required, not merely used.
            model.extensionsUsed = model.extensionsRequired = ["EXT_texture_webp"]
            model.textures.append(
                gltf.Texture(name=name, sampler=0, extensions={"EXT_texture_webp": {"source": source}})
            )
        else:
            model.textures.append(gltf.Texture(name=name, sampler=0, source=source))
        return len(model.textures) - 1

    def finish(self) -> list[bytes | memoryview]:
        """The pieces of the file (glTF 2.0 specification, section 4.4)."""
        self.model.buffers = [gltf.Buffer(byteLength=self._size)]
        document = self.model.to_json(separators=(",", ":")).encode()
        document += b" " * (-len(document) % 4)
        whole = 12 + 8 + len(document) + 8 + self._size
        head = struct.pack("<4sII", b"glTF", 2, whole) + struct.pack("<I4s", len(document), b"JSON")
        return [head, document, struct.pack("<I4s", self._size, b"BIN\0"), *self._pieces]


def _read_back(path: Path, vertices: int, faces: int) -> None:
    """Structure, indices and the checksums of the images; decoding them again would take longer than writing did."""
    glb = read_glb(path)
    triangles = check_geometry(glb)
    primitives = [p for m in glb.items("meshes") for p in m["primitives"]]
    positions = [glb.items("accessors")[p["attributes"]["POSITION"]]["count"] for p in primitives]
    if triangles != faces or sum(positions) != vertices:
        raise RuntimeError(
            f"{path} reads back as {triangles} faces on {sum(positions)} vertices, {faces} on {vertices} were written"
        )
    for image in glb.items("images"):
        open_image(glb.view(image["bufferView"])).verify()
