"""A GLB as the triangles and materials that a renderer or a gate looks at, in world space.

Semantics are those of the glTF 2.0 specification, sections 3.5 (nodes), 3.7 (meshes) and 3.9 (materials), with
KHR_texture_transform, KHR_materials_emissive_strength, KHR_materials_pbrSpecularGlossiness (by its conversion) and
EXT_texture_webp.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from .glb import SPECULAR, Glb, GlbError, decode_data_uri, is_ktx2, named_textures
from .specular import Factors, converted, metallic_roughness

Array = npt.NDArray[np.float32]

MAX_TEXTURE_PIXELS = 16384 * 16384
"""Of all images of a file together; a compressed image of a few kilobytes can claim any size."""
_SHARED = 1 << 26
"""Bytes of images that may be there twice: several may lie in the same bytes, and each is read for itself."""
_STRIP = 128  # rows
_FORMATS = ("PNG", "JPEG", "WEBP", "MPO", "GIF", "BMP", "TGA", "TIFF")
"""glTF has the first three; the others are met. Of all that Pillow knows one is a program: it has Ghostscript run an EPS."""
_pillow = Lock()
_WRAP = {10497: "repeat", 33071: "clamp", 33648: "mirror"}


@dataclass(frozen=True)
class Texture:
    """A decoded image [H, W, 4] uint8 (or a `Coming` one, which has its shape and becomes one) and how it is looked up."""

    image: npt.NDArray[np.uint8]
    wrap: tuple[str, str]
    uv_set: int
    transform: npt.NDArray[np.float64]  # [2, 3]: uv' = M [u, v, 1]

    def looked_up_like(self, other: Texture) -> bool:
        """Whether one place of the surface reads the same place of both."""
        same = (self.wrap, self.uv_set) == (other.wrap, other.uv_set)
        return same and bool((self.transform == other.transform).all())


@dataclass(frozen=True)
class Material:
    """Metallic-roughness parameters; textures by glTF name ("baseColorTexture", ...)."""

    name: str = ""
    base_color: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)
    metallic: float = 1.0
    roughness: float = 1.0
    emissive: tuple[float, ...] = (0.0, 0.0, 0.0)
    alpha_mode: str = "OPAQUE"
    alpha_cutoff: float = 0.5
    double_sided: bool = False
    textures: dict[str, Texture] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One primitive of one node: positions and normals [V, 3] in world space, faces int32 [F, 3]."""

    positions: Array
    normals: Array
    faces: npt.NDArray[np.int32]
    uvs: dict[int, Array]
    colors: Array | None
    material: Material


@dataclass(frozen=True)
class Frame:
    """The sphere that a camera frames."""

    centre: tuple[float, float, float]
    radius: float


def frame_of(parts: Sequence[Part]) -> Frame:
    """The sphere around the middle of the bounding box that reaches to the farthest vertex."""
    return extents_of(parts)[1]


def extents_of(parts: Sequence[Part]) -> tuple[npt.NDArray[np.float64], Frame]:
    """The bounding box [2, 3] of the vertices that faces use, and what a camera frames."""
    points = np.concatenate([p.positions[_used(p)] for p in parts]).astype(np.float64)
    bounds = np.stack([points.min(0), points.max(0)])
    centre = (bounds[0] + bounds[1]) / 2
    x, y, z = centre.tolist()
    return bounds, Frame((x, y, z), max(float(np.linalg.norm(points - centre, axis=1).max()), 1e-9))


def _used(part: Part) -> npt.NDArray[np.bool_]:
    used = np.zeros(len(part.positions), np.bool_)
    used[part.faces.reshape(-1)] = True
    return used


def load_parts(glb: Glb, images: Images | None = None) -> list[Part]:
    """Every triangle primitive that the default scene shows.

    Args:
        images: the file's pictures, if some are decoded already.

    Raises:
        GlbError: an image that cannot be decoded or is too large, a value of the wrong kind, or a position that is not
            finite once it is placed.
    """
    try:
        with np.errstate(
            all="ignore"
        ):  # what is not finite is found and said; NumPy would say it on standard error first
            return _load_parts(glb, images or Images(glb))
    except GlbError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise GlbError(f"its JSON is not valid glTF: {type(error).__name__}: {error}") from error


def _load_parts(glb: Glb, images: Images) -> list[Part]:
    images.decode(_shown(glb))
    materials = [_material(glb, m, images) for m in glb.items("materials")]
    parts, shared, plain = [], dict[tuple[int, int], Part](), Material()
    for node, world in _placed(glb):
        if "mesh" not in node:
            continue
        for p, primitive in enumerate(glb.items("meshes")[node["mesh"]]["primitives"]):
            if primitive.get("mode", 4) in (4, 5, 6) and "POSITION" in primitive["attributes"]:
                key = node["mesh"], p
                if key not in shared:
                    material = materials[primitive["material"]] if "material" in primitive else plain
                    shared[key] = _primitive(glb, primitive, material)
                parts.append(_part(shared[key], world, "NORMAL" in primitive["attributes"]))
    return parts


def _placed(glb: Glb) -> list[tuple[dict[str, Any], npt.NDArray[np.float64]]]:
    nodes = glb.items("nodes")
    scenes = glb.items("scenes")
    if scenes:
        chosen = glb.document.get("scene", 0)
        if not isinstance(chosen, int) or not 0 <= chosen < len(scenes):
            raise GlbError(f"the default scene is scenes[{chosen}], but there are {len(scenes)}")
        roots = scenes[chosen].get("nodes", [])
    else:
        children = {c for n in nodes for c in n.get("children", [])}
        roots = [i for i in range(len(nodes)) if i not in children]
    placed, stack = [], [(r, np.eye(4)) for r in reversed(roots)]
    while stack:
        index, parent = stack.pop()
        world = parent @ _local(nodes[index])
        placed.append((nodes[index], world))
        stack += [(c, world) for c in reversed(nodes[index].get("children", []))]
    return placed


def _local(node: dict[str, Any]) -> npt.NDArray[np.float64]:
    if "matrix" in node:
        return np.array(node["matrix"], np.float64).reshape(4, 4).T
    x, y, z, w = node.get("rotation", (0, 0, 0, 1))
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    local = np.eye(4)
    local[:3, :3] = rotation * np.array(node.get("scale", (1, 1, 1)), np.float64)
    local[:3, 3] = node.get("translation", (0, 0, 0))
    return local


def _values(glb: Glb, index: int) -> Array:
    """An attribute as float32; normalised integers become fractions (specification, 3.6.2.2)."""
    values = glb.accessor(index)
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if not glb.items("accessors")[index].get("normalized", False):
        return values.astype(np.float32)
    fractions: Array = np.maximum(values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max), -1.0)
    return fractions


def _primitive(glb: Glb, primitive: dict[str, Any], material: Material) -> Part:
    """A primitive as the file has it, before a node places it; without normals of its own those it has are empty."""
    attributes = primitive["attributes"]
    positions = _values(glb, attributes["POSITION"])
    corners = glb.accessor(primitive["indices"]) if "indices" in primitive else np.arange(len(positions))
    faces = np.ascontiguousarray(_triangles(corners.astype(np.int64), primitive.get("mode", 4))).astype(np.int32)
    normals = _values(glb, attributes["NORMAL"]) if "NORMAL" in attributes else positions[:0]
    # A file may hold any number of sets; those that nothing looks up stay where they are.
    wanted = {0} | {texture.uv_set for texture in material.textures.values()}
    uvs = {k: _values(glb, attributes[f"TEXCOORD_{k}"]) for k in sorted(wanted) if f"TEXCOORD_{k}" in attributes}
    colors = None
    if "COLOR_0" in attributes:
        colors = _values(glb, attributes["COLOR_0"])
        if colors.shape[1] == 3:
            colors = np.concatenate([colors, np.ones_like(colors[:, :1])], 1)
    # An attribute has an element for each vertex (specification, 3.7.2.1); a file may say otherwise.
    own = {"NORMAL": normals} if "NORMAL" in attributes else {}
    for name, values in {**own, "COLOR_0": colors, **{f"TEXCOORD_{k}": v for k, v in uvs.items()}}.items():
        if values is not None and len(values) != len(positions):
            raise GlbError(f"a primitive has {len(positions)} positions and {len(values)} elements of {name}")
    return Part(positions, normals, faces, uvs, colors, material)


def _part(local: Part, world: npt.NDArray[np.float64], own_normals: bool) -> Part:
    """A primitive where a node places it."""
    positions = (local.positions @ world[:3, :3].T + world[:3, 3]).astype(np.float32)
    if not np.isfinite(positions).all():
        raise GlbError("a node's transform makes positions that are not finite")
    faces = local.faces
    if np.linalg.det(world[:3, :3]) < 0:  # a mirrored node turns its triangles around
        faces = np.ascontiguousarray(faces[:, ::-1])
    normals = local.normals @ np.linalg.pinv(world[:3, :3]) if own_normals else _vertex_normals(positions, faces)
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    return replace(local, positions=positions, normals=normals.astype(np.float32), faces=faces)


def _triangles(corners: npt.NDArray[np.int64], mode: int) -> npt.NDArray[np.int64]:
    if mode == 4:
        return corners[: len(corners) // 3 * 3].reshape(-1, 3)
    n = max(0, len(corners) - 2)
    i = np.arange(n)
    if mode == 6:
        return np.stack([corners[i + 1], corners[i + 2], np.broadcast_to(corners[:1], n)], 1)
    odd = i % 2
    return np.stack([corners[i], corners[i + 1 + odd], corners[i + 2 - odd]], 1)


def _vertex_normals(positions: Array, faces: npt.NDArray[np.int32]) -> Array:
    p = positions[faces].astype(np.float64)
    face = np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0])
    normals = np.zeros(positions.shape)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], face)
    return normals.astype(np.float32)


class Images:
    """Decodes each image of a file once, however many materials name it, and no more pixels than are allowed.

    Several are decoded side by side, and decoding may begin before anybody asks.
    """

    def __init__(self, glb: Glb) -> None:
        self._glb = glb
        self._begun: dict[int, Future[npt.NDArray[np.uint8]]] = {}
        self._pixels = self._bytes = 0
        self._sizes: dict[int, tuple[int, int]] = {}
        self._converted: dict[Any, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]] = {}

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        return self.pixels(index)

    def pixels(self, index: int) -> npt.NDArray[np.uint8]:
        """An image itself, also where it is otherwise given before it is decoded."""
        self.decode([index])
        return self._begun[index].result()

    def converted(
        self, sources: tuple[int, ...], factors: Factors, together: bool
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Base colour and metallic-roughness of the images of diffuse and of specular colour with glossiness, -1 for none.

        Args:
            together: whether they are looked up alike. Else no texel of one belongs to one of the other, and its mean counts.
        """
        key = (sources, factors, together)
        if key not in self._converted:
            first, second = (None if i < 0 else self.pixels(i) for i in sources)
            if together:
                self._converted[key] = converted(first, second, factors)
            else:
                means = [
                    None if x is None else x.mean((0, 1), keepdims=True).round().astype(np.uint8)
                    for x in (first, second)
                ]
                base, surface = converted(first, means[1], factors)[0], converted(means[0], second, factors)[1]
                self._converted[key] = base, surface
        return self._converted[key]

    def decode(self, indices: Sequence[int], pool: Executor | None = None) -> None:
        """Begins to decode those that are not yet, in `pool` if one is given, and else is done with them on return.

        Raises:
            GlbError: they are too large together.
        """
        waiting = [i for i in dict.fromkeys(indices) if i not in self._begun]
        opened = {i: self._open(i) for i in waiting}
        if pool is not None:
            self._begun |= {i: pool.submit(self._finish, i, opened[i]) for i in waiting}
        elif len(waiting) > 1:
            with ThreadPoolExecutor(min(len(waiting), 8, cores())) as own:
                self._begun |= {i: own.submit(self._finish, i, opened[i]) for i in waiting}
        else:
            for i in waiting:
                done: Future[npt.NDArray[np.uint8]] = Future()
                done.set_result(self._finish(i, opened[i]))
                self._begun[i] = done

    def _open(self, index: int) -> Image.Image:
        """The image's header is read, its pixels are not."""
        item = self._glb.items("images")[index]
        where = f"images[{index}]"
        data = decode_data_uri(item["uri"], where) if "uri" in item else self._glb.view(item["bufferView"])
        self._bytes += len(data)
        if self._bytes > len(self._glb.data) + _SHARED:
            raise GlbError(
                f"{where}: its images share their bytes, {self._bytes} and more of a file of {len(self._glb.data)}"
            )
        if is_ktx2(bytes(data[:12])):
            raise GlbError(f"{where} is KTX2 (Basis Universal), which is not read: export it with PNG, JPEG or WebP")
        try:
            image = open_image(data)
        except Exception as error:  # PIL raises many types for broken files
            raise GlbError(f"{where} cannot be decoded: {error}") from error
        self._sizes[index] = image.height, image.width
        self._pixels += image.width * image.height
        if self._pixels > MAX_TEXTURE_PIXELS:
            raise GlbError(
                f"{where} is {image.width} x {image.height}; at most {MAX_TEXTURE_PIXELS} pixels are read in all"
            )
        return image

    @staticmethod
    def _finish(index: int, image: Image.Image) -> npt.NDArray[np.uint8]:
        try:
            if image.mode.startswith(("I;16", "I")):  # PIL clips 16-bit grey instead of scaling it
                image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
            return _rgba(image)
        except Exception as error:
            raise GlbError(f"images[{index}] cannot be decoded: {error}") from error


def open_image(data: memoryview | bytes) -> Image.Image:
    """A picture, of which the header is read.

    Pillow's own limit, which is below `MAX_TEXTURE_PIXELS`, is lifted meanwhile: it has one for all.
    """
    with _pillow:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _rgba(image: Image.Image) -> npt.NDArray[np.uint8]:
    """Its pixels [H, W, 4]. PIL copies a picture whole several times on the way; strips of it stay in the cache."""
    if image.mode not in ("RGB", "RGBA"):
        return np.asarray(image.convert("RGBA"))
    image.load()
    pixels = np.empty((image.height, image.width, 4), np.uint8)
    for top in range(0, image.height, _STRIP):
        bottom = min(image.height, top + _STRIP)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)).convert("RGBA"))
    return pixels


class Coming:
    """An image that is still being decoded elsewhere: its shape at once, its pixels to whoever makes an array of it."""

    def __init__(self, index: int, height: int, width: int) -> None:
        self.index, self.shape = index, (height, width, 4)
        self.source: Callable[[int], npt.NDArray[np.uint8]] | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        assert self.source is not None  # who sends it says whence it comes
        return np.array(self.source(self.index), dtype) if copy else np.asarray(self.source(self.index), dtype)


class Promised(Images):
    """Images of which each is given as `Coming`, and decoded meanwhile."""

    def __init__(self, glb: Glb) -> None:
        super().__init__(glb)
        self._pool = ThreadPoolExecutor(min(8, cores()))
        self._given: dict[int, Coming] = {}

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:
        self.decode([index])
        return cast("npt.NDArray[np.uint8]", self._given.setdefault(index, Coming(index, *self._sizes[index])))

    def decode(self, indices: Sequence[int], pool: Executor | None = None) -> None:
        super().decode(indices, pool or self._pool)

    def decoded(self) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Those that were given, by number, in the order in which they were begun.

        Raises:
            GlbError: one cannot be decoded.
        """
        for index, image in self._begun.items():
            if index in self._given:
                yield index, image.result()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shown_images(glb: Glb) -> list[int]:
    """The images that materials name, as `load_parts` reads them; [] where the file's JSON is not as it should be."""
    try:
        return _shown(glb)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return []


def _shown(glb: Glb) -> list[int]:
    found = []
    for item in glb.items("materials"):
        for info in named_textures(item).values():
            found.append(_source(glb.items("textures")[info["index"]]))
    return list(dict.fromkeys(found))


def _source(texture: dict[str, Any]) -> int:
    source: int = texture.get("extensions", {}).get("EXT_texture_webp", texture).get("source", texture.get("source"))
    return source


def _texture(glb: Glb, info: dict[str, Any], images: Images) -> Texture:
    texture = glb.items("textures")[info["index"]]
    sampler = glb.items("samplers")[texture["sampler"]] if "sampler" in texture else {}
    wrap = (_WRAP.get(sampler.get("wrapS", 10497), "repeat"), _WRAP.get(sampler.get("wrapT", 10497), "repeat"))
    change = info.get("extensions", {}).get("KHR_texture_transform", {})
    (sx, sy), (ox, oy), angle = change.get("scale", (1, 1)), change.get("offset", (0, 0)), change.get("rotation", 0.0)
    c, s = np.cos(angle), np.sin(angle)
    transform = np.array([[c * sx, s * sy, ox], [-s * sx, c * sy, oy]], np.float64)
    return Texture(images[_source(texture)], wrap, change.get("texCoord", info.get("texCoord", 0)), transform)


def _numbers(values: Any, count: int) -> tuple[float, ...]:
    numbers = tuple(float(x) for x in values)
    if len(numbers) != count:
        raise GlbError(f"a material's factor has {len(numbers)} numbers, expected {count}")
    return numbers


def _material(glb: Glb, item: dict[str, Any], images: Images) -> Material:
    strength = item.get("extensions", {}).get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0)
    mode = item.get("alphaMode", "OPAQUE")
    if mode not in ("OPAQUE", "MASK", "BLEND"):
        raise GlbError(f"a material's alphaMode is {mode!r}, which glTF does not define")
    surface = _specular if SPECULAR in item.get("extensions", {}) else _metallic
    base_color, metallic, roughness, textures = surface(glb, item, images)
    return Material(
        name=str(item.get("name", "")),
        base_color=base_color,
        metallic=metallic,
        roughness=roughness,
        emissive=tuple(strength * e for e in _numbers(item.get("emissiveFactor", (0.0, 0.0, 0.0)), 3)),
        alpha_mode=mode,
        alpha_cutoff=float(item.get("alphaCutoff", 0.5)),
        double_sided=bool(item.get("doubleSided", False)),
        textures=textures,
    )


# Base colour, metallic, roughness and textures.
_Surface = tuple[tuple[float, ...], float, float, dict[str, Texture]]


def _metallic(glb: Glb, item: dict[str, Any], images: Images) -> _Surface:
    pbr = item.get("pbrMetallicRoughness", {})
    return (
        _numbers(pbr.get("baseColorFactor", (1.0, 1.0, 1.0, 1.0)), 4),
        float(pbr.get("metallicFactor", 1.0)),
        float(pbr.get("roughnessFactor", 1.0)),
        {k: _texture(glb, v, images) for k, v in named_textures(item).items()},
    )


def _specular(glb: Glb, item: dict[str, Any], images: Images) -> _Surface:
    """By KHR_materials_pbrSpecularGlossiness, which goes before the metallic-roughness that a file may hold beside it."""
    given = item["extensions"][SPECULAR]
    diffuse = _numbers(given.get("diffuseFactor", (1.0, 1.0, 1.0, 1.0)), 4)
    specular = _numbers(given.get("specularFactor", (1.0, 1.0, 1.0)), 3)
    gloss = float(given.get("glossinessFactor", 1.0))
    named = named_textures(item)
    infos = [named.pop(k, None) for k in ("diffuseTexture", "specularGlossinessTexture")]
    textures = {k: _texture(glb, v, images) for k, v in named.items()}
    shown = [i for i in infos if i is not None]
    if not shown:
        base, metallic = metallic_roughness(np.array(diffuse[:3], np.float32), np.array(specular, np.float32))
        r, g, b = base.tolist()
        return (r, g, b, diffuse[3]), float(metallic), 1 - gloss, textures
    diffuse_way, specular_way = (None if i is None else _texture(glb, i, images) for i in infos)
    # One of them is there; what there is no image of is looked up as the other.
    base_way, surface_way = diffuse_way or specular_way, specular_way or diffuse_way
    assert base_way is not None and surface_way is not None
    sources = tuple(-1 if i is None else _source(glb.items("textures")[i["index"]]) for i in infos)
    together = base_way.looked_up_like(surface_way)
    base_image, surface_image = images.converted(sources, (diffuse, specular, gloss), together)
    textures["baseColorTexture"] = replace(base_way, image=base_image)
    textures["metallicRoughnessTexture"] = replace(surface_way, image=surface_image)
    return (1.0, 1.0, 1.0, 1.0), 1.0, 1.0, textures
