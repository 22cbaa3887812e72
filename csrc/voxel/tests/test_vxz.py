""".vxz files: round trips, an independent reader and writer of the format, and files that are damaged or lie."""

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
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_voxel._library import EXTENSION

COMPRESSIONS = ("none", "deflate", "lzma", "zstd")
FILTERS = ("none", "parent", "neighbor")
INTERLEAVES = ("none", "as_is", "all")


# ---- an independent reader and writer -------------------------------------------------------------

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


def test_oracle_of_octrees() -> None:
    assert octree_of([(0, 0, 0)], 4) == [1, 1]
    assert octree_of([(0, 0, 1), (3, 0, 0), (3, 3, 3)], 4) == [0b10010001, 0b10, 0b10000, 0b10000000]
    voxels = [(0, 0, 1), (0, 1, 0), (2, 3, 1), (3, 2, 1)]
    assert voxels_of(octree_of(voxels, 4), 4) == voxels
    # Root with children 0 (rows 0, 1) and 6 (rows 2, 3): its pair first, then those inside.
    assert parent_order(octree_of(voxels, 4), 4) == ([(2, 0), (1, 0), (3, 2)], 4)
    assert neighbor_references([(0, 0, 0), (0, 0, 1), (1, 1, 1), (1, 1, 2)]) == [None, 0, 0, 1]


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


# ---- the format -----------------------------------------------------------------------------------


def test_reads_a_file_made_by_hand() -> None:
    coords, attrs = read(simple_file())
    assert coords.tolist() == [[0, 0, 1], [3, 0, 0], [3, 3, 3]] and coords.dtype == torch.int32
    assert attrs["value"].tolist() == [[10, 11, 12], [13, 14, 15], [16, 17, 18]]
    assert attrs["flag"].tolist() == [[1], [2], [3]]
    chunk = {"idx": [2, 0, -1], "svo": [0, 4], "value": [4, 9], "flag": [13, 3], "ptr": [0, 16]}
    assert read(simple_file(chunks=[chunk]))[0].tolist() == [[8, 0, -3], [11, 0, -4], [11, 3, -1]]


@pytest.mark.parametrize(
    ("compression", "kind", "interleave"), list(itertools.product(COMPRESSIONS, FILTERS, INTERLEAVES))
)
def test_every_variant_is_read_by_the_simple_reader(compression: str, kind: str, interleave: str) -> None:
    coords, attrs = random_voxels(0, 700, -3, 6)  # half full: every neighbour occurs
    options = {"compression": compression, "filter": kind, "attr_interleave": interleave, "chunk_size": 8}
    data = written(coords, attrs, **options)
    assert simple_read(data) == as_dict(coords, attrs) == as_dict(*read(data))
    assert list(read(data)[1]) == ["a0", "a1"]
    info = tv.read_vxz_info(io.BytesIO(data))
    assert {k: info[k] for k in options} == options
    assert (info["num_voxel"], info["raw_size"], info["attr"]) == (
        len(coords),
        len(coords) * 16,
        [["a0", 3], ["a1", 1]],
    )
    assert info["compressed_size"] == len(data) - struct.unpack(">I", data[4:8])[0]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([4, 8, 64, 1024]),
    st.sampled_from(FILTERS),
    st.sampled_from(INTERLEAVES),
    st.sampled_from([(), (1,), (4, 0, 2)]),
    st.sampled_from([(0, 3), (-2, 2), (1020, 1030), (-(2**20), -(2**20) + 5), (2**20 - 5, 2**20)]),
    st.integers(1, 60),
)
def test_round_trip(
    seed: int, chunk: int, kind: str, interleave: str, widths: tuple[int, ...], span: tuple[int, int], count: int
) -> None:
    coords, attrs = random_voxels(seed, count, *span, widths)
    data = written(coords, attrs, chunk_size=chunk, filter=kind, attr_interleave=interleave, compression="deflate")
    got = read(data)
    assert as_dict(*got) == as_dict(coords, attrs)
    assert {k: v.shape for k, v in got[1].items()} == {k: v.shape for k, v in attrs.items()}


def test_order_of_voxels_does_not_matter() -> None:
    coords, attrs = random_voxels(1, 500, 0, 40)
    turn = torch.randperm(len(coords))
    assert written(coords, attrs, chunk_size=16) == written(
        coords[turn].long(), {k: v[turn] for k, v in attrs.items()}, chunk_size=16
    )


def test_dense_chunk_and_single_voxel() -> None:
    coords = torch.cartesian_prod(*[torch.arange(16, dtype=torch.int32)] * 3)
    for kind in FILTERS:
        data = written(coords, {"x": coords.byte()}, filter=kind, chunk_size=16)
        got, attrs = read(data)
        assert len(got) == 4096 and torch.equal(got.byte(), attrs["x"])
        one = torch.tensor([[5, 6, 7]], dtype=torch.int32)
        got, attrs = read(written(one, {"x": one.byte()}, filter=kind))
        assert got.tolist() == attrs["x"].tolist() == [[5, 6, 7]]


def test_no_voxels() -> None:
    data = written(torch.empty(0, 3, dtype=torch.int32), {"x": torch.empty(0, 2, dtype=torch.uint8)})
    coords, attrs = read(data)
    assert coords.shape == (0, 3) and coords.dtype == torch.int32
    assert attrs["x"].shape == (0, 2)


@pytest.mark.parametrize("kind", FILTERS)
def test_non_contiguous_tensors(kind: str) -> None:
    coords, attrs = random_voxels(2, 50, 0, 20, (6,))
    wide = torch.zeros(len(coords), 6, dtype=torch.int32)
    wide[:, ::2] = coords
    data = written(wide[:, ::2], {"x": attrs["a0"][:, ::2]}, filter=kind, chunk_size=8)
    assert as_dict(*read(data)) == as_dict(coords, {"x": attrs["a0"][:, ::2].contiguous()})


def test_filters_make_smooth_attributes_smaller() -> None:
    coords = torch.cartesian_prod(*[torch.arange(32, dtype=torch.int32)] * 2, torch.arange(2, dtype=torch.int32))
    values = (coords * torch.tensor([3, 5, 7], dtype=torch.int32)).byte()
    sizes = {kind: len(written(coords, {"x": values}, filter=kind)) for kind in FILTERS}
    assert max(sizes["parent"], sizes["neighbor"]) < sizes["none"]


def test_files_and_threads(tmp_path: Path) -> None:
    coords, attrs = random_voxels(3, 2000, 0, 100)
    path = tmp_path / "a.vxz"
    for threads in (0, 1, 3):
        tv.write_vxz(path, coords, attrs, chunk_size=32, num_threads=threads)
        assert path.read_bytes() == written(coords, attrs, chunk_size=32)
        assert as_dict(*tv.read_vxz(str(path), num_threads=threads)) == as_dict(coords, attrs)
    assert tv.read_vxz_info(path)["num_voxel"] == len(coords)
    assert [p.name for p in tmp_path.iterdir()] == ["a.vxz"]
    for kind in FILTERS:
        assert_same_bits_for_any_thread_count(
            EXTENSION, lambda kind=kind: list(written(coords, attrs, filter=kind, chunk_size=32))
        )


@pytest.mark.parametrize(
    ("compression", "level"), [("deflate", 1), ("lzma", 0), ("zstd", 1), ("zstd", 22), ("none", 0)]
)
def test_levels(compression: str, level: int) -> None:
    coords, attrs = random_voxels(4, 400, 0, 30)
    data = written(coords, attrs, compression=compression, compression_level=level)
    assert tv.read_vxz_info(io.BytesIO(data))["compression_level"] == level
    assert as_dict(*read(data)) == as_dict(coords, attrs)


def test_zstd_frame_that_does_not_say_its_size() -> None:
    octree, value, flag = bytes([0b10010001, 0b10, 0b10000, 0b10000000]), bytes(range(10, 19)), b"\x01\x02\x03"
    parts = [zstandard.ZstdCompressor(write_content_size=False).compress(p) for p in (octree, value, flag)]
    ends = list(itertools.accumulate(map(len, parts), initial=0))
    chunk = {"idx": [0, 0, 0], "ptr": [0, ends[-1]]}
    chunk.update({k: [ends[i], len(parts[i])] for i, k in enumerate(("svo", "value", "flag"))})
    data = simple_file(body=b"".join(parts), compression="zstd", chunks=[chunk])
    assert read(data)[1]["flag"].tolist() == [[1], [2], [3]]
    chunk["value"] = [*chunk["value"][:1], chunk["value"][1] - 3]
    with pytest.raises(ValueError, match="chunk 0: 'value': "):
        read(simple_file(body=b"".join(parts), compression="zstd", chunks=[chunk]))


# ---- what is refused when writing -----------------------------------------------------------------

ONE = torch.zeros(1, 3, dtype=torch.int32)
BYTE = {"x": torch.zeros(1, 1, dtype=torch.uint8)}


@pytest.mark.parametrize(
    ("coords", "attrs", "options", "error", "message"),
    [
        (ONE.float(), BYTE, {}, TypeError, "coords: expected dtype int32 or int64, got float32"),
        (ONE[:, :2], BYTE, {}, ValueError, r"coords: expected shape \[N, 3\], got \[1, 2\]"),
        (ONE.long() + 2**31, BYTE, {}, ValueError, "coords: expected int32 values, got 2147483648"),
        (ONE + 2**20, BYTE, {}, ValueError, r"coords: expected values in \[-1048576, 1048576\), got 1048576 in row 0"),
        (ONE - 2**20 - 1, BYTE, {}, ValueError, "coords: expected values in .* got -1048577 in row 0"),
        (torch.cat([ONE, ONE]), {"x": torch.zeros(2, 1, dtype=torch.uint8)}, {}, ValueError, r"once, got \(0, 0, 0\) in rows 0 and 1"),
        (ONE, [], {}, TypeError, "attrs: expected a dict of tensors, got list"),
        (ONE, {1: BYTE["x"]}, {}, TypeError, "attrs: expected names to be strings, got 1"),
        (ONE, {"": BYTE["x"]}, {}, ValueError, "attrs: expected names of at least one character"),
        (ONE, {"x": BYTE["x"].int()}, {}, TypeError, r"attrs\['x'\]: expected dtype uint8, got int32"),
        (ONE, {"x": BYTE["x"][0]}, {}, ValueError, r"attrs\['x'\]: expected shape \[1, C\], got \[1\]"),
        (ONE, {"x": torch.zeros(2, 1, dtype=torch.uint8)}, {}, ValueError, r"attrs\['x'\]: expected shape \[1, C\], got \[2, 1\]"),
        (ONE, {"x": torch.zeros(1, 4097, dtype=torch.uint8)}, {}, ValueError, "attrs: expected at most 4096 channels together, got 4097"),
        (ONE, {"svo": BYTE["x"]}, {}, ValueError, "attrs: the name 'svo' is taken"),
        (ONE, {"idx": BYTE["x"]}, {}, ValueError, "attrs: the name 'idx' is taken"),
        (ONE, BYTE, {"compression": "gzip"}, ValueError, "compression: expected 'none', 'deflate', 'lzma' or 'zstd', got 'gzip'"),
        (ONE, BYTE, {"compression": "zstd", "compression_level": 23}, ValueError, r"compression_level: expected in \[1, 22\], got 23"),
        (ONE, BYTE, {"compression": "lzma", "compression_level": 10}, ValueError, r"compression_level: expected in \[0, 9\]"),
        (ONE, BYTE, {"compression": "none", "compression_level": 1}, ValueError, r"compression_level: expected in \[0, 0\]"),
        (ONE, BYTE, {"compression_level": 1.5}, TypeError, "compression_level: expected an int, got float"),
        (ONE, BYTE, {"filter": "sub"}, ValueError, "filter: expected 'none', 'parent' or 'neighbor', got 'sub'"),
        (ONE, BYTE, {"attr_interleave": "some"}, ValueError, "attr_interleave: expected"),
        (ONE, BYTE, {"chunk_size": 2}, ValueError, r"chunk_size: expected in \[4, 1024\], got 2"),
        (ONE, BYTE, {"chunk_size": 2048}, ValueError, r"chunk_size: expected in \[4, 1024\], got 2048"),
        (ONE, BYTE, {"chunk_size": 48}, ValueError, "chunk_size: expected a power of two, got 48"),
        (ONE, BYTE, {"num_threads": -1}, ValueError, "num_threads: expected at least 0, got -1"),
    ],
)  # fmt: skip
def test_refused_when_writing(
    tmp_path: Path, coords: Any, attrs: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    path = tmp_path / "a.vxz"
    with pytest.raises(error, match=message):
        tv.write_vxz(path, coords, attrs, **options)
    assert not list(tmp_path.iterdir())


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
