""".vxz files: the format as an independent reader and writer have it (vxz_oracle.py), round trips, refused arguments."""

from __future__ import annotations

import io
import itertools
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
import trellis_voxel as tv
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_native.testing import assert_same_bits_for_any_thread_count
from trellis_voxel._library import EXTENSION
from vxz_oracle import (
    as_dict,
    neighbor_references,
    octree_of,
    parent_order,
    random_voxels,
    read,
    simple_file,
    simple_read,
    voxels_of,
    written,
)

COMPRESSIONS = ("none", "deflate", "lzma", "zstd")
FILTERS = ("none", "parent", "neighbor")
INTERLEAVES = ("none", "as_is", "all")


def test_oracle_of_octrees() -> None:
    assert octree_of([(0, 0, 0)], 4) == [1, 1]
    assert octree_of([(0, 0, 1), (3, 0, 0), (3, 3, 3)], 4) == [0b10010001, 0b10, 0b10000, 0b10000000]
    voxels = [(0, 0, 1), (0, 1, 0), (2, 3, 1), (3, 2, 1)]
    assert voxels_of(octree_of(voxels, 4), 4) == voxels
    # Root with children 0 (rows 0, 1) and 6 (rows 2, 3): its pair first, then those inside.
    assert parent_order(octree_of(voxels, 4), 4) == ([(2, 0), (1, 0), (3, 2)], 4)
    assert neighbor_references([(0, 0, 0), (0, 0, 1), (1, 1, 1), (1, 1, 2)]) == [None, 0, 0, 1]


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
