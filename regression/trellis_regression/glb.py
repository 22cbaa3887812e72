"""Reading GLB files that may be broken or hostile: structure is checked before anything is decoded.

Format: Khronos glTF 2.0 specification, section 4 (binary container) and 3 (buffers, accessors, textures).
Nothing is allocated from a number in the file before that number was compared with the bytes that are there.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_JSON_CHUNK, _BIN_CHUNK = 0x4E4F534A, 0x004E4942
_COMPONENT = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_TRIANGLES = (4, 5, 6)
# Required extensions that this reader decodes, or that leave triangles and base colour as they are without them.
_KNOWN = frozenset(
    {
        "EXT_texture_webp", "KHR_texture_transform", "KHR_mesh_quantization", "KHR_materials_emissive_strength",
        "KHR_lights_punctual", "KHR_materials_anisotropy", "KHR_materials_clearcoat", "KHR_materials_dispersion",
        "KHR_materials_ior", "KHR_materials_iridescence", "KHR_materials_pbrSpecularGlossiness", "KHR_materials_sheen",
        "KHR_materials_specular", "KHR_materials_transmission", "KHR_materials_unlit", "KHR_materials_variants", "KHR_materials_volume",
        "KHR_xmp_json_ld",
    }
)  # fmt: skip
# What to do about those that are met most.
_REMEDIES = {
    "KHR_draco_mesh_compression": "its meshes are compressed with Draco, which is not read: export it without compression",
    "EXT_meshopt_compression": "its data is compressed with meshopt, which is not read: export it without compression",
    "KHR_meshopt_compression": "its data is compressed with meshopt, which is not read: export it without compression",
    "KHR_texture_basisu": "its textures are KTX2 (Basis Universal), which is not read: export it with PNG, JPEG or WebP",
    "EXT_texture_avif": "its textures are AVIF, which is not read: export it with PNG, JPEG or WebP",
}
SPECULAR = "KHR_materials_pbrSpecularGlossiness"
_KTX2 = b"\xabKTX 20\xbb"
# First bytes of what is often given in place of a GLB.
_OTHER = (
    (b"\x89PNG", "a PNG picture"), (b"\xff\xd8\xff", "a JPEG picture"), (b"RIFF", "a WebP picture or a sound"),
    (_KTX2, "a KTX2 texture"), (b"PK\x03\x04", "a ZIP archive"), (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"), (b"Kaydara FBX", "an FBX file"), (b"ply", "a PLY file"),
    (b"solid ", "an STL file"), (b"version https://git-lfs", "a Git LFS pointer; run `git lfs pull`"),
    (b"<", "a web page or XML"),
)  # fmt: skip

MAX_BYTES = (1 << 32) - 1
"""The header gives the length in 32 bits. A larger file would be read whole only to be refused."""
MAX_JSON_BYTES = 64 << 20
MAX_TRIANGLES = 100_000_000
"""Of all nodes together: a small file can place one mesh a million times."""
MAX_VERTICES = 4 * MAX_TRIANGLES
"""Of all nodes together, for the same reason: a mesh of many vertices may have one face."""
MAX_PLACED = 100_000
"""Of nodes, and of primitives on them: each costs some tens of microseconds, however small it is."""


class GlbError(ValueError):
    """A file that is not a usable GLB; the text says what is wrong with it in one line."""


@dataclass(frozen=True)
class Glb:
    """A GLB whose references and sizes were checked.

    Attributes:
        document: the JSON chunk.
        binary: the BIN chunk (empty when there is none).
        data: the whole file, for readers that want it.
    """

    document: dict[str, Any]
    binary: bytes
    data: bytes
    _decoded: dict[int, bytes] = field(default_factory=dict, repr=False, compare=False)

    def items(self, kind: str) -> list[dict[str, Any]]:
        """The document's list of `kind` ("meshes", "accessors", ...); empty when absent."""
        value: list[dict[str, Any]] = self.document.get(kind, [])
        return value

    def view(self, index: int) -> memoryview:
        """The bytes of bufferView `index`."""
        view = self.items("bufferViews")[index]
        start = view.get("byteOffset", 0)
        return memoryview(self._buffer(view["buffer"]))[start : start + view["byteLength"]]

    def _buffer(self, index: int) -> bytes:
        uri = self.items("buffers")[index].get("uri")
        if uri is None:
            return self.binary
        if index not in self._decoded:  # once: thousands of accessors may share it
            self._decoded[index] = decode_data_uri(uri, f"buffers[{index}]")
        return self._decoded[index]

    def accessor(self, index: int) -> npt.NDArray[Any]:
        """The values of accessor `index`, shape [count] or [count, components]; sparse accessors are resolved."""
        accessor = self.items("accessors")[index]
        kind, width = np.dtype(_COMPONENT[accessor["componentType"]]), _WIDTH[accessor["type"]]
        count = accessor["count"]
        if "bufferView" in accessor:
            view = self.items("bufferViews")[accessor["bufferView"]]
            stride = view.get("byteStride") or kind.itemsize * width
            values = np.ndarray(
                (count, width),
                kind,
                self.view(accessor["bufferView"]),
                accessor.get("byteOffset", 0),
                (stride, kind.itemsize),
            ).copy()
        else:
            values = np.zeros((count, width), kind)
        if sparse := accessor.get("sparse"):
            n, where, what = sparse["count"], sparse["indices"], sparse["values"]
            at = np.frombuffer(
                self.view(where["bufferView"]), _COMPONENT[where["componentType"]], n, where.get("byteOffset", 0)
            )
            if n and int(at.max()) >= count:
                raise GlbError(
                    f"accessors[{index}]: a sparse index is {int(at.max())}, past the last element {count - 1}"
                )
            new = np.frombuffer(self.view(what["bufferView"]), kind, n * width, what.get("byteOffset", 0))
            values[at] = new.reshape(n, width)
        return values[:, 0] if width == 1 else values


def read_glb(path: str | Path) -> Glb:
    """Reads and checks a GLB file.

    Raises:
        GlbError: the file is missing, not a GLB, truncated, or names data that is not in it.
    """
    path = Path(path)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise GlbError(f"{path}: not a GLB: it has {size} bytes, and the format's own limit is {MAX_BYTES}")
        data = path.read_bytes()
    except IsADirectoryError as error:
        held = sorted(p.name for p in path.glob("*.glb"))
        raise GlbError(
            f"{path}: it is a folder; name a GLB file" + (f" in it, such as {held[0]}" if held else "")
        ) from error
    except GlbError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name with a null byte
        raise GlbError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        return parse_glb(data)
    except GlbError as error:
        raise GlbError(f"{path}: {error}") from error.__cause__


def parse_glb(data: bytes) -> Glb:
    """`read_glb` for bytes in memory."""
    if not data:
        raise GlbError("not a GLB: 0 bytes; whatever wrote it did not finish")
    if data[:4] != b"glTF":
        raise GlbError(f"not a GLB: {_what(data)}")
    if len(data) < 12:
        raise GlbError(f"not a GLB: {len(data)} bytes, the header alone has 12")
    _, version, length = struct.unpack_from("<III", data)
    if version != 2:
        raise GlbError(f"GLB version {version}; only version 2 is known")
    if length > len(data):
        raise GlbError(f"truncated: the header says {length} bytes, the file has {len(data)}")
    chunks: dict[int, bytes] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        at += 8
        if at + size > length:
            raise GlbError(f"truncated: a chunk of {size} bytes starts at {at} in a file of {length}")
        if kind == _JSON_CHUNK and size > MAX_JSON_BYTES:
            raise GlbError(f"its JSON chunk has {size} bytes; at most {MAX_JSON_BYTES} are read")
        chunks.setdefault(kind, data[at : at + size])
        at += size
    if _JSON_CHUNK not in chunks:
        raise GlbError("it has no JSON chunk")
    try:
        document = json.loads(chunks[_JSON_CHUNK].decode("utf-8"))
    except (ValueError, RecursionError) as error:  # ValueError: also a number of more digits than Python takes
        raise GlbError(f"its JSON chunk cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise GlbError("its JSON chunk is not an object")
    glb = Glb(document, chunks.get(_BIN_CHUNK, b""), data)
    try:
        _check(glb)
    except (KeyError, TypeError, AttributeError) as error:
        what = f"missing {error}" if isinstance(error, KeyError) else str(error)
        raise GlbError(f"its JSON is not valid glTF: {what}") from error
    return glb


def _what(data: bytes) -> str:
    """What a file that does not begin with 'glTF' seems to be."""
    for start, kind in _OTHER:
        if data.startswith(start):
            return f"it seems to be {kind}"
    if data.lstrip()[:1] == b"{":
        return "it is text, as a .gltf with files beside it is; export it as one binary file (.glb)"
    return "it does not begin with 'glTF'"


def decode_data_uri(uri: str, where: str) -> bytes:
    if not uri.startswith("data:"):
        raise GlbError(f"{where} refers to the external file {uri[:80]!r}; a GLB must hold everything it needs")
    head, _, body = uri.partition(",")
    try:
        return base64.b64decode(body, validate=True) if head.endswith(";base64") else body.encode()
    except (binascii.Error, ValueError) as error:
        raise GlbError(f"{where}: its data URI cannot be decoded: {error}") from error


def _index(glb: Glb, kind: str, value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(glb.items(kind)):
        raise GlbError(f"{where} refers to {kind}[{value}], but there are {len(glb.items(kind))}")
    return value


def _size(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise GlbError(f"{where}: expected a size of 0 or more, got {value!r}")
    return value


def _check(glb: Glb) -> None:
    for kind in (
        "scenes",
        "nodes",
        "meshes",
        "accessors",
        "bufferViews",
        "buffers",
        "materials",
        "textures",
        "images",
        "samplers",
    ):
        items = glb.items(kind)
        if not isinstance(items, list) or not all(isinstance(i, dict) for i in items):
            raise GlbError(f"{kind} is not a list of objects")
    _check_extensions(glb)
    lengths = []
    for i, buffer in enumerate(glb.items("buffers")):
        have = len(glb._buffer(i)) if "uri" in buffer or i == 0 else 0
        if (claimed := _size(buffer["byteLength"], f"buffers[{i}].byteLength")) > have:
            raise GlbError(f"buffers[{i}] claims {claimed} bytes, {have} are there")
        lengths.append(claimed)
    for i, view in enumerate(glb.items("bufferViews")):
        where = f"bufferViews[{i}]"
        buffer_size = lengths[_index(glb, "buffers", view["buffer"], where)]
        end = _size(view.get("byteOffset", 0), where) + _size(view["byteLength"], where)
        if end > buffer_size:
            raise GlbError(f"{where} ends at byte {end}, its buffer has {buffer_size}")
        if not 0 <= _size(view.get("byteStride", 0), where) <= 252:
            raise GlbError(f"{where}.byteStride is {view['byteStride']}; at most 252 is allowed")
    for i, accessor in enumerate(glb.items("accessors")):
        _check_accessor(glb, accessor, f"accessors[{i}]")
    _check_textures(glb)
    _check_meshes(glb)
    _check_nodes(glb)


def _check_extensions(glb: Glb) -> None:
    """Refuses what cannot be read rightly: every required extension that is unknown, and compressed data without a
    plain copy beside it, whether the file says that it is required or not."""
    required = glb.document.get("extensionsRequired", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise GlbError("extensionsRequired is not a list of names")
    used = set(required)
    for mesh in glb.items("meshes"):
        for primitive in mesh["primitives"]:
            packed = primitive.get("extensions", {})
            position = primitive["attributes"].get("POSITION")
            plain = isinstance(position, int) and 0 <= position < len(glb.items("accessors"))
            if "KHR_draco_mesh_compression" in packed and not (
                plain and "bufferView" in glb.items("accessors")[position]
            ):
                used.add("KHR_draco_mesh_compression")
    for name in ("EXT_meshopt_compression", "KHR_meshopt_compression"):
        if any(
            name in view.get("extensions", {}) and _only_named(glb, view.get("buffer"))
            for view in glb.items("bufferViews")
        ):
            used.add(name)
    for texture in glb.items("textures"):
        inner = texture.get("extensions", {})
        if "source" not in texture and "EXT_texture_webp" not in inner:
            used |= {"KHR_texture_basisu", "EXT_texture_avif"} & set(inner)
    for name in sorted(used - _KNOWN):
        if name in _REMEDIES:
            raise GlbError(f"{_REMEDIES[name]} ({name})")
        raise GlbError(f"it requires the extension {name[:60]!r}, which is not known here")


def _only_named(glb: Glb, buffer: Any) -> bool:
    """Whether a buffer has a size and no bytes, as the fallback of compressed data may."""
    held = isinstance(buffer, int) and 0 <= buffer < len(glb.items("buffers"))
    return held and "uri" not in glb.items("buffers")[buffer] and (buffer != 0 or not glb.binary)


def is_ktx2(data: bytes) -> bool:
    """Whether these are the bytes of a KTX2 texture."""
    return data.startswith(_KTX2)


def _check_accessor(glb: Glb, accessor: dict[str, Any], where: str) -> None:
    if accessor["componentType"] not in _COMPONENT:
        raise GlbError(f"{where}.componentType is {accessor['componentType']!r}, which glTF does not define")
    if accessor["type"] not in _WIDTH:
        raise GlbError(f"{where}.type is {accessor['type']!r}, which glTF does not define")
    element = np.dtype(_COMPONENT[accessor["componentType"]]).itemsize * _WIDTH[accessor["type"]]
    count = _size(accessor["count"], f"{where}.count")

    def fits(view_index: Any, offset: Any, size: int, n: int, stride: int | None = None) -> None:
        view = glb.items("bufferViews")[_index(glb, "bufferViews", view_index, where)]
        step = stride or view.get("byteStride") or size
        need = _size(offset, where) + (step * (n - 1) + size if n else 0)
        if need > view["byteLength"]:
            raise GlbError(f"{where} claims {n} elements ({need} bytes), its bufferView has {view['byteLength']}")

    if "bufferView" in accessor:
        fits(accessor["bufferView"], accessor.get("byteOffset", 0), element, count)
    elif count * element > 1 << 28:
        raise GlbError(f"{where} claims {count} elements of zeros without data")
    if sparse := accessor.get("sparse"):
        n, where_at = _size(sparse["count"], where), sparse["indices"]
        if n > count or where_at["componentType"] not in (5121, 5123, 5125):
            raise GlbError(f"{where}.sparse is not valid: {n} of {count} elements")
        size = np.dtype(_COMPONENT[where_at["componentType"]]).itemsize
        fits(where_at["bufferView"], where_at.get("byteOffset", 0), size, n, size)
        fits(sparse["values"]["bufferView"], sparse["values"].get("byteOffset", 0), element, n, element)


def _check_textures(glb: Glb) -> None:
    for i, image in enumerate(glb.items("images")):
        if "uri" in image:
            decode_data_uri(image["uri"], f"images[{i}]")
        else:
            _index(glb, "bufferViews", image.get("bufferView"), f"images[{i}]")
    for i, texture in enumerate(glb.items("textures")):
        source = texture.get("extensions", {}).get("EXT_texture_webp", texture).get("source", texture.get("source"))
        _index(glb, "images", source, f"textures[{i}]")
    for i, material in enumerate(glb.items("materials")):
        for name, info in named_textures(material).items():
            _index(glb, "textures", info.get("index"), f"materials[{i}].{name}")


def named_textures(material: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The textures that a material is read by, as it refers to them, by name."""
    extra = material.get("extensions", {})
    if SPECULAR in extra:
        surface, names = extra[SPECULAR], ("diffuseTexture", "specularGlossinessTexture")
    else:
        surface, names = material.get("pbrMetallicRoughness", {}), ("baseColorTexture", "metallicRoughnessTexture")
    named = {k: surface[k] for k in names if k in surface}
    return named | {k: material[k] for k in ("normalTexture", "occlusionTexture", "emissiveTexture") if k in material}


def _check_meshes(glb: Glb) -> None:
    for m, mesh in enumerate(glb.items("meshes")):
        for p, primitive in enumerate(mesh["primitives"]):
            where = f"meshes[{m}].primitives[{p}]"
            for semantic, index in primitive["attributes"].items():
                _index(glb, "accessors", index, f"{where}.{semantic}")
            if "indices" in primitive:
                indices = glb.items("accessors")[_index(glb, "accessors", primitive["indices"], where)]
                if indices["componentType"] not in (5121, 5123, 5125) or indices["type"] != "SCALAR":
                    raise GlbError(f"{where}: indices must be unsigned integers")
            if "material" in primitive:
                _index(glb, "materials", primitive["material"], where)
            if "POSITION" in primitive["attributes"]:
                position = glb.items("accessors")[primitive["attributes"]["POSITION"]]
                if position["type"] != "VEC3":
                    raise GlbError(f"{where}.POSITION is {position['type']}, expected VEC3")


def _check_nodes(glb: Glb) -> None:
    nodes = glb.items("nodes")
    parents = [0] * len(nodes)
    for i, node in enumerate(nodes):
        if "mesh" in node:
            _index(glb, "meshes", node["mesh"], f"nodes[{i}]")
        for child in node.get("children", []):
            parents[_index(glb, "nodes", child, f"nodes[{i}].children")] += 1
    for i, scene in enumerate(glb.items("scenes")):
        for root in scene.get("nodes", []):
            _index(glb, "nodes", root, f"scenes[{i}]")
    if any(count > 1 for count in parents):
        raise GlbError(f"nodes[{parents.index(max(parents))}] has {max(parents)} parents; nodes must form a tree")
    # With one parent each, a node is on a cycle exactly when no walk from a root reaches it.
    reached, stack = 0, [i for i, count in enumerate(parents) if count == 0]
    while stack:
        reached += 1
        stack.extend(nodes[stack.pop()].get("children", []))
    if reached != len(nodes):
        raise GlbError("its nodes form a cycle")


class EmptySceneError(GlbError):
    """A well-formed GLB without a single triangle."""


def check_geometry(glb: Glb, *, max_triangles: int = MAX_TRIANGLES, max_vertices: int = MAX_VERTICES) -> int:
    """Checks that the scene has drawable triangles with finite positions and indices in range.

    Args:
        max_triangles, max_vertices: more than that, each placing of a mesh counted, is refused.

    Returns:
        The number of triangles, each placing of a mesh counted.

    Raises:
        EmptySceneError: no mesh, or no triangles.
        GlbError: an index past the vertices, a position that is not finite, or too much of either.
    """
    uses = _placings(glb)
    triangles = vertices = shown = looked_at = 0
    for m, mesh in enumerate(glb.items("meshes")):
        placed = max(1, uses[m])  # what no node shows is read here as well
        shown += placed * len(mesh["primitives"])
        if shown > MAX_PLACED:
            raise GlbError(f"the scene has {shown} primitives or more; at most {MAX_PLACED} are read")
        for p, primitive in enumerate(mesh["primitives"]):
            if primitive.get("mode", 4) not in _TRIANGLES or "POSITION" not in primitive["attributes"]:
                continue
            where = f"meshes[{m}].primitives[{p}]"
            vertices += placed * int(glb.items("accessors")[primitive["attributes"]["POSITION"]]["count"])
            if vertices > max_vertices:
                raise GlbError(f"the scene has {vertices} vertices or more; at most {max_vertices} are read")
            corners = int(
                glb.items("accessors")[primitive.get("indices", primitive["attributes"]["POSITION"])]["count"]
            )
            faces = corners // 3 if primitive.get("mode", 4) == 4 else max(0, corners - 2)
            looked_at += placed * faces
            triangles += uses[m] * faces
            if looked_at > max_triangles:
                raise GlbError(f"the scene has {looked_at} faces or more; at most {max_triangles} are read")
            positions = glb.accessor(primitive["attributes"]["POSITION"])
            if not np.isfinite(positions).all():
                bad = int(np.argmin(np.isfinite(positions).all(axis=1)))
                raise GlbError(f"{where}: vertex {bad} is not finite ({', '.join(str(x) for x in positions[bad])})")
            if "indices" in primitive:
                indices = glb.accessor(primitive["indices"])
                if len(indices) and int(indices.max()) >= len(positions):
                    raise GlbError(f"{where}: index {int(indices.max())} of {len(positions)} vertices")
    if not glb.items("meshes"):
        raise EmptySceneError("the scene is empty: it has no mesh")
    if triangles == 0:
        raise EmptySceneError("the scene has no faces")
    return triangles


def _placings(glb: Glb) -> Counter[int]:
    """How often each mesh is placed. A scene may name a node more than once, or one below another that it names.

    Raises:
        GlbError: more nodes are placed than are read.
    """
    nodes, scenes = glb.items("nodes"), glb.items("scenes")
    chosen = glb.document.get("scene", 0)
    shown = scenes[chosen].get("nodes", []) if isinstance(chosen, int) and 0 <= chosen < len(scenes) else []
    named = Counter(shown)
    children = {child for node in nodes for child in node.get("children", [])}
    uses: Counter[int] = Counter()
    stack, total = [(i, 0) for i in range(len(nodes)) if i not in children], 0
    while stack:
        index, above = stack.pop()
        times = above + named[index]
        total += max(1, times)
        if total > MAX_PLACED:
            raise GlbError(f"the scene places {total} nodes or more; at most {MAX_PLACED} are read")
        if "mesh" in nodes[index]:
            uses[nodes[index]["mesh"]] += max(1, times)
        stack += [(child, times) for child in nodes[index].get("children", [])]
    return uses
