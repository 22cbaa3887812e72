""".vxz files that are damaged, lie, or unpack to more than they may: one clear error, and no memory touched for it."""

from __future__ import annotations

import io
import itertools
import json
import lzma
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trellis_voxel as tv
import zstandard
from trellis_voxel._library import EXTENSION
from vxz_oracle import packed, random_voxels, read, simple_file, written

COMPRESSIONS = ("none", "deflate", "lzma", "zstd")
FILTERS = ("none", "parent", "neighbor")
INTERLEAVES = ("none", "as_is", "all")


# ---- damaged and lying files ----------------------------------------------------------------------

CHUNK = {"idx": [0, 0, 0], "svo": [0, 4], "value": [4, 9], "flag": [13, 3], "ptr": [0, 16]}


def with_octree(*octree: int, **changes: Any) -> bytes:
    """The file made by hand with another octree."""
    body = bytes(octree) + bytes(range(12))
    n = len(octree)
    chunk = {"idx": [0, 0, 0], "svo": [0, n], "value": [n, 9], "flag": [n + 9, 3], "ptr": [0, n + 12]}
    return simple_file(body=body, chunks=[chunk], **changes)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a .vxz file: expected at least 8 bytes, got 0"),
        (b"PNG\0\0\0\0\x08", "not a .vxz file: expected it to begin with b'VXZ'"),
        (b"VXZ\x01\0\0\0\x08", "version: expected 0, got 1"),
        (b"VXZ\0\xff\xff\xff\xff", "header: its end at 4294967295 lies outside the file of 8 bytes"),
        (b"VXZ\0\0\0\0\x07", "header: its end at 7 lies outside"),
        (packed(b"\xff\xfe", b""), "header: not UTF-8"),
        (packed("{", b""), "header: not JSON"),
        (packed("[" * 100000, b""), "header: JSON nested too deeply|header: not JSON"),
        (packed("[]", b""), "header: expected a JSON object, got list"),
        (packed('{"a": 1, "a": 2}', b""), "header: key 'a' is given twice"),
        (packed('{"compress_ratio": NaN}', b""), "header: expected finite numbers, got NaN"),
        (packed('{"compress_ratio": -Infinity}', b""), "header: expected finite numbers, got -Infinity"),
        (packed('{"num_voxel": 1' + "0" * 5000 + "}", b""), "file: "),
        (packed("{}", b""), "header: 'num_voxel' is missing"),
        (simple_file()[:-1], "compressed_size: the header says 16 bytes, the file has 15; truncated"),
        (simple_file() + b"\0", "compressed_size: the header says 16 bytes, the file has 17"),
        (simple_file(num_voxel=-1), r"num_voxel: expected an integer in \[0, \d+\], got -1"),
        (simple_file(num_voxel=3.0), "num_voxel: expected an integer .* got 3.0"),
        (simple_file(num_voxel=True), "num_voxel: expected an integer .* got True"),
        (simple_file(num_voxel=10**100), "num_voxel: expected an integer .* got an integer of 333 bits"),
        (simple_file(num_voxel=65), "num_voxel: 1 chunks of side 4 cannot hold 65 voxels"),
        (simple_file(num_voxel=0), "num_voxel: 1 chunks of side 4 cannot hold 0 voxels"),
        (simple_file(num_voxel=2), "num_voxel: the header says 2 voxels, the octrees hold more"),
        (simple_file(num_voxel=4), "num_voxel: the header says 4 voxels, the octrees hold 3"),
        (simple_file(chunk_size=6), "chunk_size: expected a power of two, got 6"),
        (simple_file(chunk_size=2048), r"chunk_size: expected an integer in \[2, 1024\], got 2048"),
        (simple_file(chunk_size=8), "chunk 0: octree: ends within its nodes"),
        (simple_file(chunk_size=2), "chunk 0: svo: expands beyond the 1 bytes that 3 voxels can need"),
        (simple_file(compression="gzip"), "compression: expected 'none'"),
        (simple_file(compression=["none"]), "compression: expected 'none'"),
        (simple_file(compression=None), "header: 'compression' is missing"),
        (simple_file(compression="lzma", compression_level=10), r"compression_level: expected an integer in \[0, 9\], got 10"),
        (simple_file(compression="lzma"), "chunk 0: 'svo': damaged lzma data"),
        (simple_file(compression="deflate"), "chunk 0: 'svo': (damaged deflate data|the deflate stream is cut short|.* bytes follow)"),
        (simple_file(compression="zstd"), "chunk 0: 'svo': damaged zstd data"),
        (simple_file(filter="sub"), "filter: expected 'none', 'parent' or 'neighbor'"),
        (simple_file(attr_interleave="both"), "attr_interleave: expected"),
        (simple_file(attr_interleave="all"), r"chunk 0: missing \['attr'\], not expected \['flag', 'value'\]"),
        (simple_file(attr={"value": 3}), "attr: expected a list, got dict"),
        (simple_file(attr=[["value"], ["flag", 1]]), "attr: expected pairs of a name and a number of channels"),
        (simple_file(attr=[[3, "value"], ["flag", 1]]), "attr: expected pairs"),
        (simple_file(attr=[["value", -3], ["flag", 1]]), r"attr: 'value': expected 0 to 4096 channels, got -3"),
        (simple_file(attr=[["value", 10**12], ["flag", 1]]), "attr: 'value': expected 0 to 4096 channels"),
        (simple_file(attr=[["value", 3], ["value", 1]]), "attr: expected each name once"),
        (simple_file(attr=[["value", 2], ["flag", 1]]), "chunk 0: 'value': expected 6 bytes for 3 voxels, got more than 6"),
        (simple_file(attr=[["value", 4], ["flag", 1]]), "chunk 0: 'value': expected 12 bytes for 3 voxels, got 9"),
        (simple_file(attr=[["value", 3], ["ptr", 1]]), "attrs: the name 'ptr' is taken"),
        (simple_file(chunks={}), "chunks: expected a list, got dict"),
        (simple_file(chunks=[7]), "chunk 0: expected an object, got int"),
        (simple_file(chunks=[]), "num_voxel: 0 chunks of side 4 cannot hold 3 voxels"),
        (simple_file(chunks=[CHUNK, CHUNK]), "chunks: expected each place of the grid once"),
        (simple_file(chunks=[{**CHUNK, "more": [0, 1]}]), r"chunk 0: missing \[\], not expected \['more'\]"),
        (simple_file(chunks=[{k: v for k, v in CHUNK.items() if k != "flag"}]), r"chunk 0: missing \['flag'\]"),
        (simple_file(chunks=[{**CHUNK, "idx": [0, 0]}]), "chunk 0: idx: expected 3 integers"),
        (simple_file(chunks=[{**CHUNK, "idx": [0, 0, 0.5]}]), "chunk 0: idx: expected 3 integers"),
        (simple_file(chunks=[{**CHUNK, "idx": [0, 0, 1 << 18]}]), "chunk 0: idx .* lies outside the 2097152 voxels of an axis"),
        (simple_file(chunks=[{**CHUNK, "idx": [0, 0, -(10**30)]}]), "chunk 0: idx .* lies outside"),
        (simple_file(chunks=[{**CHUNK, "ptr": [1, 16]}]), r"chunk 0: ptr \[1, 16\] lies outside the binary part of 16 bytes"),
        (simple_file(chunks=[{**CHUNK, "ptr": [-1, 16]}]), "chunk 0: ptr"),
        (simple_file(chunks=[{**CHUNK, "ptr": "all"}]), "chunk 0: ptr: expected 2 integers"),
        (simple_file(chunks=[{**CHUNK, "flag": [14, 3]}]), r"chunk 0: 'flag' \[14, 3\] lies outside its 16 bytes"),
        (simple_file(chunks=[{**CHUNK, "flag": [13, -3]}]), "chunk 0: 'flag'"),
        (simple_file(chunks=[{**CHUNK, "svo": [0, 3]}]), "chunk 0: octree: ends within its nodes, after 3 bytes"),
        (simple_file(chunks=[{**CHUNK, "svo": [0, 5]}]), "chunk 0: octree: 1 bytes follow its last node"),
        (simple_file(chunks=[{**CHUNK, "svo": [0, 0]}]), "chunk 0: octree: ends within its nodes, after 0 bytes"),
        (with_octree(0), "chunk 0: octree: node 0 has no children"),
        (with_octree(0b11, 1, 0), "chunk 0: octree: node 2 has no children"),
        (with_octree(*[0xFF] * 16), "chunk 0: svo: expands beyond the 6 bytes that 3 voxels can need"),
    ],
)  # fmt: skip
def test_refused_when_reading(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        tv.read_vxz(path)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value)) < 400


def test_header_faults_show_in_the_info_too() -> None:
    with pytest.raises(ValueError, match="chunks: expected a list"):
        tv.read_vxz_info(io.BytesIO(simple_file(chunks={})))
    with pytest.raises(ValueError, match="truncated"):
        tv.read_vxz_info(io.BytesIO(simple_file()[:-1]))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        tv.read_vxz(tmp_path / "none.vxz")
    with pytest.raises(ValueError, match="max_bytes: expected at least 1"):
        read(simple_file(), max_bytes=0)
    with pytest.raises(TypeError, match="num_threads: expected an int"):
        read(simple_file(), num_threads=1.0)


def bomb(compression: str, size: int) -> bytes:
    if compression == "deflate":
        deflate = zlib.compressobj(9, wbits=-15)
        return deflate.compress(bytes(size)) + deflate.flush()
    if compression == "lzma":
        return lzma.compress(bytes(size), format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    return zstandard.ZstdCompressor(write_content_size=compression == "zstd").compress(bytes(size))


@pytest.mark.parametrize("compression", ["deflate", "lzma", "zstd", "zstd of no size"])
@pytest.mark.parametrize("stream", ["svo", "value"])
def test_bombs_are_not_unpacked(compression: str, stream: str) -> None:
    """64 MiB of zeros in a few kilobytes, where four or nine bytes belong."""
    blob, name = bomb(compression, 1 << 26), compression.split()[0]
    if stream == "svo":
        parts = {"svo": blob, "value": b"", "flag": b""}
    else:
        parts = {"svo": compressed(bytes([0b10010001, 0b10, 0b10000, 0b10000000]), name), "value": blob, "flag": b""}
    ends = list(itertools.accumulate(map(len, parts.values()), initial=0))
    chunk = {"idx": [0, 0, 0], "ptr": [0, ends[-1]], **{k: [ends[i], len(v)] for i, (k, v) in enumerate(parts.items())}}
    data = simple_file(body=b"".join(parts.values()), compression=name, compression_level=0, chunks=[chunk])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"chunk 0: '?{stream}'?: "):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()


def compressed(data: bytes, kind: str) -> bytes:
    if kind == "deflate":
        deflate = zlib.compressobj(9, wbits=-15)
        return deflate.compress(data) + deflate.flush()
    if kind == "lzma":
        return lzma.compress(data, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    return zstandard.ZstdCompressor().compress(data)


def test_more_voxels_than_memory_allows() -> None:
    full = compressed(bytes([0xFF]) * ((8**8 - 1) // 7), "zstd")  # 16.8 million voxels in a few hundred bytes
    chunk = {"idx": [0, 0, 0], "svo": [0, len(full)], "ptr": [0, len(full)]}
    data = simple_file(body=full, compression="zstd", chunk_size=256, num_voxel=8**8, attr=[], chunks=[chunk])
    with pytest.raises(
        ValueError, match="num_voxel: 16777216 voxels take 201326592 bytes, more than max_bytes = 100000000"
    ):
        read(data, max_bytes=100_000_000)
    # Chunks that share their bytes multiply; the claimed number stops them.
    chunks = [{**chunk, "idx": [0, 0, i]} for i in range(500)]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"expands (to|beyond)"):
            read(simple_file(body=full, compression="zstd", chunk_size=256, num_voxel=500, attr=[], chunks=chunks))
        assert tracemalloc.get_traced_memory()[1] < 1 << 26
    finally:
        tracemalloc.stop()


def test_lying_octree_does_not_reach_beyond_its_arrays() -> None:
    """The native half checks again what the header said."""
    octree = torch.tensor([0xFF, *[0xFF] * 8], dtype=torch.uint8)
    origin, values = (torch.zeros(3, dtype=torch.int32), torch.zeros(3, 1, dtype=torch.uint8))
    cpu = torch.device("cpu")
    with pytest.raises(ValueError, match="octree: holds more than the expected 3 voxels"):
        EXTENSION.call("vxz_octree_decode", octree, 9, 2, origin, 3, torch.empty(3, 3, dtype=torch.int32), device=cpu)
    for decode in (0, 1):
        with pytest.raises(ValueError, match="octree: holds more than the expected 3 voxels"):
            EXTENSION.call("vxz_parent_filter", octree, 9, 2, 3, 1, values, values.clone(), decode, device=cpu)
    with pytest.raises(ValueError, match="octree: expected 65 voxels, got 64"):
        EXTENSION.call("vxz_octree_decode", octree, 9, 2, origin, 65, torch.empty(65, 3, dtype=torch.int32), device=cpu)
    with pytest.raises(ValueError, match="octree: expected 65 voxels, got 64"):
        many = torch.zeros(65, 1, dtype=torch.uint8)
        EXTENSION.call("vxz_parent_filter", octree, 9, 2, 65, 1, many, many.clone(), 1, device=cpu)
    with pytest.raises(ValueError, match="coords: row 0 lies outside its chunk"):
        EXTENSION.call(
            "vxz_neighbor_filter",
            torch.full((1, 3), 4, dtype=torch.int32),
            origin,
            2,
            1,
            1,
            values[:1],
            values[:1].clone(),
            1,
            device=cpu,
        )
    backwards = torch.tensor([[1, 0, 0], [0, 0, 0]], dtype=torch.int32)
    with pytest.raises(ValueError, match="coords: expected ascending Morton order"):
        EXTENSION.call("vxz_neighbor_filter", backwards, origin, 2, 2, 1, values[:2], values[:2].clone(), 1, device=cpu)
    with pytest.raises(ValueError, match="count: expected at least 1, got 0"):
        EXTENSION.call("vxz_parent_filter", octree, 9, 2, 0, 1, values, values.clone(), 1, device=cpu)
    with pytest.raises(ValueError, match="depth: expected 1 to 10, got 11"):
        EXTENSION.call("vxz_octree_decode", octree, 9, 11, origin, 3, torch.empty(3, 3, dtype=torch.int32), device=cpu)
    with pytest.raises(ValueError, match="keys: expected ascending order"):
        keys, size = torch.tensor([5, 3]), torch.zeros(1, dtype=torch.int64)
        EXTENSION.call("vxz_octree_encode", keys, 2, 2, torch.zeros(4, dtype=torch.uint8), size, device=cpu)


# ---- fuzzing --------------------------------------------------------------------------------------


def fuzz(files: list[bytes], reader: Callable[[bytes], Any], cases: int, seed: int) -> int:
    """Reads mutated files: each gives voxels or ValueError, and no memory beyond a small multiple of the file."""
    rng, refused = np.random.default_rng(seed), 0
    for case in range(cases):
        data = bytearray(files[case % len(files)])
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(0, len(data))) if data else 0
            kind = rng.integers(0, 5)
            if kind == 0 and data:
                data[at] = int(rng.integers(0, 256))
            elif kind == 1 and data:
                data[at] ^= 1 << int(rng.integers(0, 8))
            elif kind == 2:
                del data[at : at + int(rng.integers(1, 9))]
            elif kind == 3:
                data[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 9))).tolist())
            else:
                del data[at:]
        try:
            reader(bytes(data))
        except ValueError as error:
            assert str(error)
            refused += 1
    return refused


def test_fuzzed_bytes() -> None:
    coords, attrs = random_voxels(5, 40, 0, 12)
    files = [
        written(coords, attrs, compression=c, filter=f, attr_interleave=i, chunk_size=8)
        for (c, f), i in zip(itertools.product(COMPRESSIONS, FILTERS), itertools.cycle(INTERLEAVES))
    ]
    refused = fuzz(files, lambda data: read(data, num_threads=1, max_bytes=1 << 20), 3000, seed=0)
    assert refused > 2000


def test_fuzzed_headers() -> None:
    """Values of the header replaced by others of any kind: a stronger test of its checks than random bytes."""
    coords, attrs = random_voxels(6, 40, 0, 12)
    files = [
        written(
            coords, attrs, compression=c, filter=f, chunk_size=8, compression_level=0 if c in ("none", "lzma") else 1
        )
        for c, f in itertools.product(COMPRESSIONS, FILTERS)
    ]
    others = [
        None,
        True,
        -1,
        0,
        1,
        3,
        2**31,
        2**63,
        10**30,
        0.5,
        1e308,
        "",
        "none",
        "attr",
        [],
        [0],
        [0] * 3,
        [[]],
        {},
        {"a": 1},
    ]
    rng = np.random.default_rng(1)
    for case in range(1500):
        data = files[case % len(files)]
        start = struct.unpack(">I", data[4:8])[0]
        info = json.loads(data[8:start])
        node: Any = info
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = keys[int(rng.integers(0, len(keys)))]
            if not isinstance(node[key], (dict, list)) or not node[key] or rng.random() < 0.2:
                break
            node = node[key]
        if isinstance(node[key], int) and rng.random() < 0.5:
            node[key] += int(rng.integers(-3, 4))
        else:
            node[key] = others[int(rng.integers(0, len(others)))]
        try:
            got, _ = read(packed(json.dumps(info), data[start:]), num_threads=1, max_bytes=1 << 24)
        except ValueError as error:
            assert str(error)
        else:
            assert len(got) == len(coords)
