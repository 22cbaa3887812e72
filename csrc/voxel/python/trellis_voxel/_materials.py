"""Textured meshes in memory, and how they are taken from trimesh: glTF's metallic-roughness materials.

Texels, factors and vertex colours are used as stored, with no transfer function applied: base colour and emission
stay in whatever encoding the asset has (sRGB in glTF), which is what the models of this family are trained on. glTF's
factors are linear: who wants what a viewer shows encodes them first, as `trellis remake` does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from trellis_native import check

ALPHA_MODES = ("OPAQUE", "MASK", "BLEND")
WRAP_MODES = ("repeat", "clamp", "mirror")
FILTERS = ("nearest", "linear")


@dataclass(frozen=True, eq=False)
class PbrMaterial:
    """A metallic-roughness material of glTF 2.0 (section 3.9), with its defaults.

    Textures are uint8 tensors [H, W, C], row 0 at the top of the image (v = 1). A factor multiplies its texture.
    """

    base_color_factor: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    metallic_factor: float = 1.0
    roughness_factor: float = 1.0
    emissive_factor: tuple[float, float, float] = (0.0, 0.0, 0.0)
    base_color_texture: torch.Tensor | None = None
    """RGB or RGBA."""
    metallic_roughness_texture: torch.Tensor | None = None
    """RGB: roughness in green, metallic in blue."""
    emissive_texture: torch.Tensor | None = None
    normal_texture: torch.Tensor | None = None
    """Tangent space, green along +v."""
    normal_scale: float = 1.0
    alpha_mode: str = "OPAQUE"
    alpha_cutoff: float = 0.5
    wrap: tuple[str, str] = ("repeat", "repeat")
    """How u and v outside [0, 1] read the textures: "repeat", "clamp" or "mirror"."""
    filter: str = "linear"
    """ "linear" (trilinear over mip levels) or "nearest"."""


@dataclass(frozen=True, eq=False)
class TexturedMesh:
    """Triangles with materials: the plain form that `voxelize_attributes` reads.

    vertices float32 [V, 3]; faces int32 or int64 [F, 3]; uvs float32 [V, 2] with v upwards (needed by textures);
    normals float32 [V, 3] (else those of the faces); colors float32 [V, 4], RGBA in [0, 1], multiplied into base
    colour and alpha; face_materials int32 or int64 [F] into materials (else every face has the first).
    """

    vertices: torch.Tensor
    faces: torch.Tensor
    materials: Sequence[PbrMaterial] = (PbrMaterial(),)
    uvs: torch.Tensor | None = None
    normals: torch.Tensor | None = None
    colors: torch.Tensor | None = None
    face_materials: torch.Tensor | None = None


def from_trimesh(source: Any) -> list[TexturedMesh]:
    """The meshes of a trimesh Scene, each instance in its place, or of one Trimesh.

    Anything in a scene that is not a surface (paths, point clouds) has no voxels and is left out. Materials that are
    not metallic-roughness become dielectrics (metallic 0) with their diffuse colour and image.

    Raises:
        TypeError: neither a Scene nor a Trimesh.
        ValueError: a material's image cannot be decoded, or a mesh's attributes do not fit it.
    """
    import trimesh

    images: dict[tuple[int, str], torch.Tensor] = {}
    if isinstance(source, trimesh.Trimesh):
        return [_mesh(source, np.eye(4), images)]
    if not isinstance(source, trimesh.Scene):
        raise TypeError(
            f"scene_or_mesh: expected a trimesh Scene or Trimesh, a TexturedMesh or a sequence of those, got {type(source).__name__}"
        )
    meshes = []
    for node in source.graph.nodes_geometry:
        transform, name = source.graph[node]
        geometry = source.geometry[name]
        if isinstance(geometry, trimesh.Trimesh):
            meshes.append(_mesh(geometry, np.asarray(transform, dtype=np.float64), images))
    return meshes


def _mesh(mesh: Any, transform: npt.NDArray[np.float64], images: dict[tuple[int, str], torch.Tensor]) -> TexturedMesh:
    vertices = np.asarray(mesh.vertices, dtype=np.float64)
    faces = np.asarray(mesh.faces, dtype=np.int64).reshape(-1, 3)
    normals = np.asarray(mesh.vertex_normals, dtype=np.float64) if len(faces) else np.zeros_like(vertices)
    uvs = colors = face_materials = None
    visual = mesh.visual
    if visual.kind == "texture":
        materials = [_material(m, images) for m in getattr(visual.material, "materials", None) or [visual.material]]
        uvs = visual.uv
        colors = visual.vertex_attributes.get("color")
        if len(materials) > 1 and visual.face_materials is not None:
            face_materials = torch.from_numpy(np.asarray(visual.face_materials, dtype=np.int64).reshape(-1))
    else:
        materials = [PbrMaterial(metallic_factor=0.0)]
        if visual.kind == "vertex":
            colors = visual.vertex_colors
        elif visual.kind == "face":
            colors = np.repeat(np.asarray(visual.face_colors), 3, axis=0)
            vertices, normals = vertices[faces.reshape(-1)], normals[faces.reshape(-1)]
            faces = np.arange(3 * len(faces), dtype=np.int64).reshape(-1, 3)
        if colors is not None and len(colors) and np.asarray(colors)[:, 3:].min(initial=255) < 255:
            materials = [PbrMaterial(metallic_factor=0.0, alpha_mode="BLEND")]
    if not np.array_equal(transform, np.eye(4)):
        linear = transform[:3, :3]
        vertices = vertices @ linear.T + transform[:3, 3]
        # The cofactor matrix carries normals, and exists where the inverse transpose does not.
        normals = (
            normals
            @ np.stack(
                [np.cross(linear[1], linear[2]), np.cross(linear[2], linear[0]), np.cross(linear[0], linear[1])]
            ).T
        )
        if np.linalg.det(linear) < 0:
            faces, normals = faces[:, ::-1], -normals
    return TexturedMesh(
        vertices=_float_tensor(vertices),
        faces=torch.from_numpy(np.ascontiguousarray(faces)),
        materials=materials,
        uvs=None if uvs is None else _float_tensor(uvs),
        normals=_float_tensor(np.nan_to_num(normals)),
        colors=None if colors is None else _colors(np.asarray(colors)),
        face_materials=face_materials,
    )


def _float_tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def _colors(colors: npt.NDArray[Any]) -> torch.Tensor:
    """RGBA in [0, 1] from RGB or RGBA of 8 or 16 bits or floating point."""
    if colors.ndim != 2 or colors.shape[1] not in (3, 4):
        raise ValueError(f"vertex colours: expected 3 or 4 channels, got shape {list(colors.shape)}")
    scale = float(np.iinfo(colors.dtype).max) if colors.dtype.kind in "iu" else 1.0
    rgba = torch.ones(len(colors), 4)
    rgba[:, : colors.shape[1]] = _float_tensor(colors) / scale
    return rgba


def _material(material: Any, images: dict[tuple[int, str], torch.Tensor]) -> PbrMaterial:
    from trimesh.visual.material import PBRMaterial

    if material is None:
        return PbrMaterial(metallic_factor=0.0)
    if not isinstance(material, PBRMaterial):
        return _simple_material(material, images)

    def texture(name: str, mode: str) -> torch.Tensor | None:
        return _image(getattr(material, name), mode, f"material {material.name!r}: {name}", images)

    factor, emissive = material.baseColorFactor, material.emissiveFactor
    return PbrMaterial(
        base_color_factor=_rgba(factor),
        metallic_factor=1.0 if material.metallicFactor is None else float(material.metallicFactor),
        roughness_factor=1.0 if material.roughnessFactor is None else float(material.roughnessFactor),
        emissive_factor=(0.0, 0.0, 0.0) if emissive is None else tuple(float(x) for x in emissive),  # type: ignore[arg-type]
        base_color_texture=texture("baseColorTexture", "RGBA"),
        metallic_roughness_texture=texture("metallicRoughnessTexture", "RGB"),
        emissive_texture=texture("emissiveTexture", "RGB"),
        normal_texture=texture("normalTexture", "RGB"),
        alpha_mode=material.alphaMode or "OPAQUE",
        alpha_cutoff=0.5 if material.alphaCutoff is None else float(material.alphaCutoff),
    )


def _simple_material(material: Any, images: dict[tuple[int, str], torch.Tensor]) -> PbrMaterial:
    """A Phong material as a dielectric; roughness from the specular exponent, as trimesh converts it."""
    from trimesh.visual.color import DEFAULT_COLOR

    image = _image(
        getattr(material, "image", None), "RGBA", f"material {getattr(material, 'name', None)!r}: image", images
    )
    diffuse = getattr(material, "diffuse", None)
    # trimesh fills in its grey where the file names no colour; it must not darken the image.
    unnamed = diffuse is None or (image is not None and np.array_equal(diffuse, DEFAULT_COLOR))
    glossiness = max(0.0, float(getattr(material, "glossiness", 0.0) or 0.0))
    return PbrMaterial(
        base_color_factor=_rgba(None if unnamed else diffuse),
        metallic_factor=0.0,
        roughness_factor=float((2.0 / (glossiness + 2.0)) ** 0.25),
        base_color_texture=image,
    )


def _rgba(factor: Any) -> tuple[float, float, float, float]:
    if factor is None:
        return (1.0, 1.0, 1.0, 1.0)
    r, g, b, a = (float(x) / 255.0 for x in factor)
    return r, g, b, a


def _image(image: Any, mode: str, what: str, images: dict[tuple[int, str], torch.Tensor]) -> torch.Tensor | None:
    """The texels of a PIL image, decoded once however many meshes share it."""
    if image is None:
        return None
    key = (id(image), mode)
    if key not in images:
        try:
            # Pillow clips 16-bit grey when it converts, instead of scaling it.
            if image.mode.startswith("I;16"):
                from PIL import Image

                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            images[key] = torch.from_numpy(np.array(image.convert(mode), dtype=np.uint8))
        except (OSError, SyntaxError, ValueError, AttributeError, Warning) as error:
            raise ValueError(f"{what}: the image cannot be decoded: {error}") from error
    return images[key]


@dataclass(frozen=True)
class PackedScene:
    """What the native voxeliser reads; see tk_voxel_attributes_begin in trellis_voxel.h. The tables of materials and
    textures (material_factors, material_indices, textures) are on the CPU, the rest on one device."""

    vertices: torch.Tensor
    faces: torch.Tensor
    normals: torch.Tensor
    uvs: torch.Tensor
    colors: torch.Tensor
    face_materials: torch.Tensor
    material_factors: torch.Tensor
    material_indices: torch.Tensor
    texels: torch.Tensor
    textures: torch.Tensor


def pack(meshes: Sequence[TexturedMesh], device: torch.device | None = None) -> PackedScene:
    """Joins meshes into one, and their textures into one table, each texture once; on `device`, or that of the meshes.

    Raises:
        TypeError, ValueError: an argument of a mesh or a material has another dtype, shape or device, is not finite,
            or an index is out of range.
    """
    materials, textures = _MaterialTable(), _TextureTable()
    parts: list[TexturedMesh] = []
    for mesh in meshes:
        parts.append(_checked(mesh, parts[0].vertices if parts else None))
    offset = 0
    joined: dict[str, list[torch.Tensor]] = {
        k: [] for k in ("vertices", "faces", "normals", "uvs", "colors", "face_materials")
    }
    for mesh in parts:
        count, here = len(mesh.vertices), mesh.vertices.device
        first = materials.add(mesh.materials, textures)
        joined["vertices"].append(mesh.vertices)
        joined["faces"].append(mesh.faces + offset)
        joined["normals"].append(torch.zeros(count, 3, device=here) if mesh.normals is None else mesh.normals)
        joined["uvs"].append(torch.zeros(count, 2, device=here) if mesh.uvs is None else mesh.uvs)
        joined["colors"].append(torch.ones(count, 4, device=here) if mesh.colors is None else mesh.colors)
        ids = (
            torch.zeros(len(mesh.faces), dtype=torch.int32, device=here)
            if mesh.face_materials is None
            else mesh.face_materials
        )
        joined["face_materials"].append(ids + first)
        offset += count
        if offset > torch.iinfo(torch.int32).max:
            raise ValueError(f"scene_or_mesh: expected fewer than 2^31 vertices, got at least {offset}")
    device = device or parts[0].vertices.device
    return PackedScene(
        **{k: torch.cat(v).to(device) for k, v in joined.items()},
        material_factors=torch.tensor(materials.factors, dtype=torch.float32),
        material_indices=torch.tensor(materials.indices, dtype=torch.int32),
        texels=torch.cat([torch.empty(0, dtype=torch.uint8, device=device), *(t.to(device) for t in textures.texels)]),
        textures=torch.tensor(textures.rows, dtype=torch.int64).reshape(-1, 7),
    )


def _checked(mesh: object, like: torch.Tensor | None) -> TexturedMesh:
    if not isinstance(mesh, TexturedMesh):
        raise TypeError(f"scene_or_mesh: expected TexturedMesh, got {type(mesh).__name__}")
    check.tensor("vertices", mesh.vertices, dtype=torch.float32, shape=["V", 3], like=like)
    vertices, faces = check.mesh(mesh.vertices, mesh.faces)

    def rows(name: str, value: torch.Tensor | None, width: int) -> torch.Tensor | None:
        if value is None:
            return None
        return _finite(
            name, check.tensor(name, value, dtype=torch.float32, shape=[len(vertices), width], like=vertices)
        )

    uvs = rows("uvs", mesh.uvs, 2)
    materials = list(mesh.materials)
    if not materials or not all(isinstance(m, PbrMaterial) for m in materials):
        raise TypeError(f"materials: expected at least one PbrMaterial, got {[type(m).__name__ for m in materials]}")
    ids = mesh.face_materials
    if ids is not None:
        ids = check.tensor("face_materials", ids, dtype=[torch.int32, torch.int64], shape=[len(faces)], like=vertices)
        if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < len(materials):
            raise ValueError(
                f"face_materials: expected indices in [0, {len(materials)}), got {int(ids.min())} to {int(ids.max())}"
            )
        ids = ids.to(torch.int32)
    if uvs is None:
        # Without texture coordinates no texture can be read: the factors alone count.
        materials = [
            PbrMaterial(
                m.base_color_factor,
                m.metallic_factor,
                m.roughness_factor,
                m.emissive_factor,
                alpha_mode=m.alpha_mode,
                alpha_cutoff=m.alpha_cutoff,
            )
            for m in materials
        ]
    return TexturedMesh(
        _finite("vertices", vertices),
        faces,
        materials,
        uvs,
        rows("normals", mesh.normals, 3),
        rows("colors", mesh.colors, 4),
        ids,
    )


def _finite(name: str, values: torch.Tensor) -> torch.Tensor:
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).any(1).nonzero()[0, 0])
        raise ValueError(f"{name}: expected finite numbers, got {values[bad].tolist()} in row {bad}")
    return values


class _TextureTable:
    """Textures by the order they are first named in; rows as tk_voxel_attributes_begin reads them."""

    def __init__(self) -> None:
        self.texels: list[torch.Tensor] = []
        self.rows: list[list[int]] = []
        self._size = 0
        self._known: dict[tuple[int, Any], tuple[torch.Tensor, int]] = {}

    def add(self, name: str, texture: torch.Tensor | None, channels: Sequence[int], material: PbrMaterial) -> int:
        """Row of a texture, of whose channels those numbered `channels` are read; -1 for None."""
        if texture is None:
            return -1
        key = (id(texture), (tuple(channels), material.wrap, material.filter))
        if key not in self._known:
            image = check.tensor(name, texture, dtype=torch.uint8, shape=["H", "W", "C"])
            height, width, have = image.shape
            if not (1 <= height <= 65536 and 1 <= width <= 65536):
                raise ValueError(f"{name}: expected sizes in [1, 65536], got {height} x {width}")
            if have == 3 and len(channels) == 4:
                image = torch.cat([image, torch.full_like(image[..., :1], 255)], dim=2)
            elif have <= max(channels):
                raise ValueError(
                    f"{name}: expected {3 if len(channels) == 4 else max(channels) + 1} or more channels, got {have}"
                )
            elif list(channels) != list(range(have)):
                image = image[..., list(channels)]
            wrap = [WRAP_MODES.index(check.choice("wrap", w, WRAP_MODES)) for w in material.wrap]
            linear = FILTERS.index(check.choice("filter", material.filter, FILTERS))
            self.rows.append([self._size, height, width, len(channels), *wrap, linear])
            self.texels.append(image.reshape(-1))
            self._size += image.numel()
            self._known[key] = (texture, len(self.rows) - 1)  # keeps the tensor, so that its id stays its own
        return self._known[key][1]


class _MaterialTable:
    """Factors and indices of materials, as tk_voxel_attributes_begin reads them."""

    def __init__(self) -> None:
        self.factors: list[list[float]] = []
        self.indices: list[list[int]] = []

    def add(self, materials: Sequence[PbrMaterial], textures: _TextureTable) -> int:
        """Appends materials and returns the number of the first."""
        first = len(self.factors)
        for m in materials:
            if len(m.wrap) != 2:
                raise ValueError(f"wrap: expected two modes, got {m.wrap!r}")
            self.factors.append(
                [
                    *_factors("base_color_factor", m.base_color_factor, 4),
                    check.number("metallic_factor", m.metallic_factor),
                    check.number("roughness_factor", m.roughness_factor),
                    *_factors("emissive_factor", m.emissive_factor, 3),
                    check.number("alpha_cutoff", m.alpha_cutoff),
                    check.number("normal_scale", m.normal_scale),
                ]
            )
            self.indices.append(
                [
                    textures.add("base_color_texture", m.base_color_texture, (0, 1, 2, 3), m),
                    textures.add("metallic_roughness_texture", m.metallic_roughness_texture, (1, 2), m),
                    textures.add("emissive_texture", m.emissive_texture, (0, 1, 2), m),
                    textures.add("normal_texture", m.normal_texture, (0, 1, 2), m),
                    ALPHA_MODES.index(check.choice("alpha_mode", m.alpha_mode, ALPHA_MODES)),
                ]
            )
        return first


def _factors(name: str, values: Sequence[float], count: int) -> Iterator[float]:
    if len(values) != count:
        raise ValueError(f"{name}: expected {count} numbers, got {len(values)}")
    return (check.number(name, v) for v in values)
