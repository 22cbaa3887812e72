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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_MAGIC, _JSON_CHUNK, _BIN_CHUNK = 0x46546C67, 0x4E4F534A, 0x004E4942
_COMPONENT = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_TRIANGLES = (4, 5, 6)
# Extensions that change how the data is decoded, and that this reader does not decode.
_REFUSED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_texture_basisu")

MAX_JSON_BYTES = 64 << 20
MAX_TRIANGLES = 100_000_000
"""Of all nodes together: a small file can place one mesh a million times."""
MAX_VERTICES = 4 * MAX_TRIANGLES
"""Of all nodes together, for the same reason: a mesh of many vertices may have one face."""


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
        return self.binary if uri is None else decode_data_uri(uri, f"buffers[{index}]")

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
        data = path.read_bytes()
    except OSError as error:
        raise GlbError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        return parse_glb(data)
    except GlbError as error:
        raise GlbError(f"{path}: {error}") from error.__cause__


def parse_glb(data: bytes) -> Glb:
    """`read_glb` for bytes in memory."""
    if len(data) < 12:
        raise GlbError(f"not a GLB: {len(data)} bytes, the header alone has 12")
    magic, version, length = struct.unpack_from("<III", data)
    if magic != _MAGIC:
        raise GlbError("not a GLB: it does not begin with 'glTF'")
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
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
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
    for name in glb.document.get("extensionsRequired", []):
        if name in _REFUSED:
            raise GlbError(f"it needs the extension {name}, which is not supported; export it without compression")
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
        pbr = material.get("pbrMetallicRoughness", {})
        for holder, name in (
            (pbr, "baseColorTexture"), (pbr, "metallicRoughnessTexture"), (material, "normalTexture"),
            (material, "occlusionTexture"), (material, "emissiveTexture"),
        ):  # fmt: skip
            if name in holder:
                _index(glb, "textures", holder[name].get("index"), f"materials[{i}].{name}")


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
    uses = Counter(node["mesh"] for node in glb.items("nodes") if "mesh" in node)
    triangles = vertices = 0
    for m, mesh in enumerate(glb.items("meshes")):
        for p, primitive in enumerate(mesh["primitives"]):
            if primitive.get("mode", 4) not in _TRIANGLES or "POSITION" not in primitive["attributes"]:
                continue
            where = f"meshes[{m}].primitives[{p}]"
            vertices += uses[m] * int(glb.items("accessors")[primitive["attributes"]["POSITION"]]["count"])
            if vertices > max_vertices:
                raise GlbError(f"the scene has {vertices} vertices or more; at most {max_vertices} are read")
            positions = glb.accessor(primitive["attributes"]["POSITION"])
            if not np.isfinite(positions).all():
                bad = int(np.argmin(np.isfinite(positions).all(axis=1)))
                raise GlbError(f"{where}: vertex {bad} is not finite ({', '.join(str(x) for x in positions[bad])})")
            corners = len(positions)
            if "indices" in primitive:
                indices = glb.accessor(primitive["indices"])
                corners = len(indices)
                if corners and int(indices.max()) >= len(positions):
                    raise GlbError(f"{where}: index {int(indices.max())} of {len(positions)} vertices")
            triangles += uses[m] * (corners // 3 if primitive.get("mode", 4) == 4 else max(0, corners - 2))
    if not glb.items("meshes"):
        raise EmptySceneError("the scene is empty: it has no mesh")
    if triangles == 0:
        raise EmptySceneError("the scene has no faces")
    if triangles > max_triangles:
        raise GlbError(f"the scene has {triangles} faces; at most {max_triangles} are read")
    return triangles
