"""An independent reader and writer of .vxz files, which trust what they are given, and voxels to write."""

from __future__ import annotations

import io
import itertools
import json
import lzma
import struct
import zlib
from typing import Any

import numpy as np
import torch
import trellis_voxel as tv
import zstandard

Voxel = tuple[int, int, int]


def octree_of(voxels: list[Voxel], side: int) -> list[int]:
    """Child masks in pre-order: child number 4x + 2y + z of the halves."""
    if side == 1:
        return []
    half, children = side // 2, {}
    for x, y, z in voxels:
        number = 4 * (x >= half) + 2 * (y >= half) + (z >= half)
        children.setdefault(number, []).append((x % half, y % half, z % half))
    below = [octree_of(children[k], half) for k in sorted(children)]
    return [sum(1 << k for k in children), *itertools.chain(*below)]


def voxels_of(octree: list[int], side: int) -> list[Voxel]:
    """Voxels of an octree, in its order; consumes it."""
    if side == 1:
        return [(0, 0, 0)]
    mask, half, found = octree.pop(0), side // 2, []
    for k in range(8):
        if mask >> k & 1:
            for x, y, z in voxels_of(octree, half):
                found.append((x + half * (k >> 2), y + half * (k >> 1 & 1), z + half * (k & 1)))
    return found


def neighbor_references(voxels: list[Voxel]) -> list[int | None]:
    """Row of the voxel each is stored relative to: below along xyz, else yz, xz, xy, z, y, x."""
    row = {v: i for i, v in enumerate(voxels)}
    steps = [(1, 1, 1), (0, 1, 1), (1, 0, 1), (1, 1, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    return [next((row[p] for s in steps if (p := (x - s[0], y - s[1], z - s[2])) in row), None) for x, y, z in voxels]


def parent_order(octree: list[int], side: int, first: int = 0) -> tuple[list[tuple[int, int]], int]:
    """Pairs (row, row it is stored relative to) in the order in which they are stored, and the number of voxels.

    The pairs of a node (each child's first voxel and that of the child before it) come before those below it; consumes
    the octree.
    """
    if side == 1:
        return [], 1
    mask, starts, below, at = octree.pop(0), [], [], first
    for _ in range(mask.bit_count()):
        starts.append(at)
        pairs, count = parent_order(octree, side // 2, at)
        below.append(pairs)
        at += count
    return [*zip(starts[1:], starts[:-1], strict=True), *itertools.chain(*below)], at - first


def decompress(data: bytes, kind: str) -> bytes:
    if kind == "deflate":
        return zlib.decompress(data, wbits=-15)
    if kind == "lzma":
        return lzma.decompress(data, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9}])
    return zstandard.ZstdDecompressor().decompress(data) if kind == "zstd" else data


def simple_read(data: bytes) -> dict[Voxel, list[int]]:
    """A reader that follows the format's description and trusts the file; all channels of each voxel side by side."""
    assert data[:4] == b"VXZ\0"
    start = struct.unpack(">I", data[4:8])[0]
    info, body = json.loads(data[8:start]), data[start:]
    side, result = info["chunk_size"], {}
    for chunk in info["chunks"]:
        at, size = chunk["ptr"]
        blob = body[at : at + size]

        def stream(name: str, blob: bytes = blob, chunk: Any = chunk) -> bytes:
            at, size = chunk[name]
            return decompress(blob[at : at + size], info["compression"])

        octree = list(stream("svo"))
        voxels = voxels_of(octree.copy(), side)
        n = len(voxels)
        names = {
            "none": [f"{k}_{i}" for k, c in info["attr"] for i in range(c)],
            "as_is": [k for k, _ in info["attr"]],
            "all": ["attr"],
        }[info["attr_interleave"]]
        columns = [np.frombuffer(stream(k), dtype=np.uint8).reshape(n, -1) for k in names]
        stored = np.concatenate([np.zeros((n, 0), np.uint8), *columns], axis=1)
        values = stored.copy()
        if info["filter"] == "parent":
            for slot, (row, reference) in enumerate(parent_order(octree, side)[0], start=1):
                values[row] = values[reference] + stored[slot]
        elif info["filter"] == "neighbor":
            for row, reference in enumerate(neighbor_references(voxels)):
                if reference is not None:
                    values[row] = values[reference] + stored[row]
        for voxel, value in zip(voxels, values.tolist(), strict=True):
            x, y, z = (a + b * side for a, b in zip(voxel, chunk["idx"], strict=True))
            result[x, y, z] = value
    return result


def simple_file(**changes: Any) -> bytes:
    """A file of three voxels in a chunk of side 4, made by hand; `changes` replace entries of its header."""
    octree, value, flag = bytes([0b10010001, 0b10, 0b10000, 0b10000000]), bytes(range(10, 19)), b"\x01\x02\x03"
    body = changes.pop("body", octree + value + flag)
    header = {
        "num_voxel": 3, "chunk_size": 4, "filter": "none", "compression": "none", "compression_level": 0, "raw_size": 48,
        "compressed_size": len(body), "compress_ratio": 3.0, "attr_interleave": "as_is", "attr": [["value", 3], ["flag", 1]],
        "chunks": [{"idx": [0, 0, 0], "svo": [0, 4], "value": [4, 9], "flag": [13, 3], "ptr": [0, 16]}],
    }  # fmt: skip
    header.update(changes)
    return packed(json.dumps({k: v for k, v in header.items() if v is not None}), body)


def packed(header: str | bytes, body: bytes) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return b"VXZ\0" + struct.pack(">I", 8 + len(text)) + text + body


def read(data: bytes, **options: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return tv.read_vxz(io.BytesIO(data), **options)


def written(coords: torch.Tensor, attrs: dict[str, torch.Tensor], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tv.write_vxz(buffer, coords, attrs, **options)
    return buffer.getvalue()


def as_dict(coords: torch.Tensor, attrs: dict[str, torch.Tensor]) -> dict[Voxel, list[int]]:
    values = torch.cat([torch.empty(len(coords), 0, dtype=torch.uint8), *attrs.values()], dim=1)
    result = {(x, y, z): v for (x, y, z), v in zip(coords.tolist(), values.tolist(), strict=True)}
    assert len(result) == len(coords)
    return result


def random_voxels(
    seed: int, count: int, low: int, high: int, widths: tuple[int, ...] = (3, 1)
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.unique(torch.randint(low, high, (count, 3), generator=generator, dtype=torch.int32), dim=0)
    coords = coords[torch.randperm(len(coords), generator=generator)]
    attrs = {
        f"a{i}": torch.randint(0, 256, (len(coords), w), generator=generator, dtype=torch.uint8)
        for i, w in enumerate(widths)
    }
    return coords, attrs
