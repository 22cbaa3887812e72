"""Writing GLB files (glTF 2.0) and reading back what was written."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pygltflib as gltf
from PIL import Image
from trellis_regression.glb import check_geometry, read_glb
from trellis_regression.scene import load_parts

from .load import Y_UP_TO_Z_UP
from .stages import Placement, Textures, UnwrappedMesh

IMAGE_FORMATS = ("png", "webp")
ALPHA_MODES = ("auto", "opaque", "mask", "blend")

# 8-bit alpha at or above this is opaque for the eye; voxel averaging leaves such values on opaque assets.
_OPAQUE = 250
# An asset is called transparent when more than this share of its texels is not opaque.
_TRANSPARENT_SHARE = 1e-3
# Of those, when fewer than this share is half-transparent the asset is cut out rather than see-through.
_SOFT_SHARE = 0.2


def choose_alpha_mode(alpha: npt.NDArray[np.uint8]) -> str:
    """OPAQUE, MASK or BLEND, from the alpha of the covered texels."""
    below = alpha[alpha < _OPAQUE]
    if len(below) <= _TRANSPARENT_SHARE * max(1, alpha.size):
        return "OPAQUE"
    soft = np.count_nonzero((below > 32) & (below < 224))
    return "MASK" if soft < _SOFT_SHARE * len(below) else "BLEND"


def write_glb(
    path: str | Path, mesh: UnwrappedMesh, textures: Textures, *,
    placement: Placement | None = None, double_sided: bool = True, image_format: str = "png", alpha_mode: str = "auto",
) -> dict[str, Any]:  # fmt: skip
    """Writes one textured mesh as a GLB, y up, and reads it back. Returns facts about the file for the manifest.

    The file appears under its name only when it is whole: it is written beside it and renamed.

    Args:
        placement: puts the asset back where its source stood; None leaves it in the unit cube.
        image_format: "png", which every reader knows, or "webp" (EXT_texture_webp), a quarter of the size.
        alpha_mode: "auto" decides from the texture; "opaque" drops alpha.

    Raises:
        ValueError: an empty mesh, or an unknown format or mode.
        RuntimeError: what was read back is not what was written.
    """
    if image_format not in IMAGE_FORMATS:
        raise ValueError(f"image_format: expected one of {', '.join(IMAGE_FORMATS)}, got {image_format!r}")
    if alpha_mode not in ALPHA_MODES:
        raise ValueError(f"alpha_mode: expected one of {', '.join(ALPHA_MODES)}, got {alpha_mode!r}")
    if len(mesh.faces) == 0:
        raise ValueError("mesh: it has no faces; an empty GLB is never written")
    placement = placement or Placement()
    to_gltf = Y_UP_TO_Z_UP[:3, :3].T  # a rotation: its transpose undoes it
    positions = mesh.vertices.cpu().numpy().astype(np.float64) @ to_gltf.T * placement.scale + placement.offset
    normals = mesh.normals.cpu().numpy().astype(np.float64) @ to_gltf.T
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    normals[np.linalg.norm(normals, axis=1) < 0.5] = (0, 1, 0)  # a vertex of degenerate faces only

    covered = textures.covered.cpu().numpy()
    alpha = textures.alpha.cpu().numpy()[..., 0]
    mode = choose_alpha_mode(alpha[covered]) if alpha_mode == "auto" else alpha_mode.upper()

    out = _Builder()
    primitive = gltf.Primitive(
        attributes=gltf.Attributes(
            POSITION=out.accessor(positions.astype(np.float32), gltf.ARRAY_BUFFER, bounds=True),
            NORMAL=out.accessor(normals.astype(np.float32), gltf.ARRAY_BUFFER),
            TEXCOORD_0=out.accessor(mesh.uv.cpu().numpy().astype(np.float32), gltf.ARRAY_BUFFER),
        ),
        indices=out.accessor(mesh.faces.cpu().numpy().reshape(-1).astype(np.uint32), gltf.ELEMENT_ARRAY_BUFFER),
        material=0,
    )
    out.model.materials = [_material(out, textures, alpha, mode, double_sided, image_format)]
    out.model.meshes = [gltf.Mesh(primitives=[primitive])]
    out.model.nodes = [gltf.Node(mesh=0)]
    out.model.scenes = [gltf.Scene(nodes=[0])]
    out.model.scene = 0
    _write_whole(Path(path), out.finish())
    _read_back(Path(path), len(mesh.vertices), len(mesh.faces))
    return {
        "bytes": Path(path).stat().st_size,
        "alpha_mode": mode,
        "vertices": len(mesh.vertices),
        "faces": len(mesh.faces),
    }


def _material(
    out: _Builder, textures: Textures, alpha: npt.NDArray[np.uint8], mode: str, double_sided: bool, image_format: str
) -> gltf.Material:
    colour = textures.base_color.cpu().numpy()
    if mode != "OPAQUE":
        colour = np.concatenate([colour, alpha[..., None]], 2)
    rough, metal = textures.roughness.cpu().numpy(), textures.metallic.cpu().numpy()
    # glTF reads roughness from green and metallic from blue; red is free and stays white (no occlusion).
    surface = np.concatenate([np.full_like(rough, 255), rough, metal], 2)
    material = gltf.Material(
        pbrMetallicRoughness=gltf.PbrMetallicRoughness(
            baseColorTexture=gltf.TextureInfo(index=out.texture(colour, image_format)),
            metallicRoughnessTexture=gltf.TextureInfo(index=out.texture(surface, image_format)),
            metallicFactor=1.0,
            roughnessFactor=1.0,
        ),
        alphaMode=mode,
        alphaCutoff=0.5 if mode == "MASK" else None,
        doubleSided=double_sided,
    )
    emissive = textures.emissive.cpu().numpy()
    if emissive.any():
        material.emissiveTexture = gltf.TextureInfo(index=out.texture(emissive, image_format))
        material.emissiveFactor = [1.0, 1.0, 1.0]
    return material


class _Builder:
    """Collects a GLB's binary chunk and the JSON that describes it."""

    def __init__(self) -> None:
        self.model = gltf.GLTF2(asset=gltf.Asset(version="2.0", generator="Trellis Forge"))
        self._binary = bytearray()

    def _view(self, data: bytes, target: int | None) -> int:
        self._binary += b"\0" * (-len(self._binary) % 4)
        self.model.bufferViews.append(
            gltf.BufferView(buffer=0, byteOffset=len(self._binary), byteLength=len(data), target=target)
        )
        self._binary += data
        return len(self.model.bufferViews) - 1

    def accessor(self, values: npt.NDArray[Any], target: int, *, bounds: bool = False) -> int:
        kind = {np.dtype("f4"): gltf.FLOAT, np.dtype("u4"): gltf.UNSIGNED_INT}[values.dtype]
        self.model.accessors.append(
            gltf.Accessor(
                bufferView=self._view(np.ascontiguousarray(values).tobytes(), target), componentType=kind, count=len(values),
                type="SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}",
                min=values.min(0).tolist() if bounds else None, max=values.max(0).tolist() if bounds else None,
            )
        )  # fmt: skip
        return len(self.model.accessors) - 1

    def texture(self, pixels: npt.NDArray[np.uint8], image_format: str) -> int:
        data = io.BytesIO()
        if image_format == "webp":
            Image.fromarray(pixels).save(data, "WEBP", quality=92, method=4)
        else:
            Image.fromarray(pixels).save(data, "PNG", compress_level=6)
        model = self.model
        model.images.append(gltf.Image(bufferView=self._view(data.getvalue(), None), mimeType=f"image/{image_format}"))
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
            model.textures.append(gltf.Texture(sampler=0, extensions={"EXT_texture_webp": {"source": source}}))
        else:
            model.textures.append(gltf.Texture(sampler=0, source=source))
        return len(model.textures) - 1

    def finish(self) -> bytes:
        self._binary += b"\0" * (-len(self._binary) % 4)
        self.model.buffers = [gltf.Buffer(byteLength=len(self._binary))]
        self.model.set_binary_blob(bytes(self._binary))
        return b"".join(self.model.save_to_bytes())


def _write_whole(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _read_back(path: Path, vertices: int, faces: int) -> None:
    glb = read_glb(path)
    triangles = check_geometry(glb)
    parts = load_parts(glb)
    if triangles != faces or len(parts) != 1 or len(parts[0].positions) != vertices:
        raise RuntimeError(f"{path} reads back as {triangles} faces in {len(parts)} parts, {faces} in 1 were written")
