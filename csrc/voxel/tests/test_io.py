"""Voxels in .npz and .ply files, reading and writing by suffix, and files that keep their old contents on failure."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trellis_voxel as tv
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_voxel._files import writing

ONE = torch.zeros(1, 3, dtype=torch.int32)
PLY_DTYPES = [
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.uint16,
    torch.uint32,
    torch.float32,
    torch.float64,
]


def voxels(seed: int, count: int, high: int = 70) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(0, high, (count, 3), generator=generator, dtype=torch.int32)
    return coords, {
        "base_color": torch.randint(0, 256, (count, 3), generator=generator, dtype=torch.uint8),
        "x": torch.randn(count, 2, generator=generator),
    }


def same(a: tuple[torch.Tensor, dict[str, torch.Tensor]], b: tuple[torch.Tensor, dict[str, torch.Tensor]]) -> bool:
    return (
        torch.equal(a[0], b[0])
        and a[0].dtype == b[0].dtype
        and list(a[1]) == list(b[1])
        and all(torch.equal(a[1][k], b[1][k]) and a[1][k].dtype == b[1][k].dtype for k in a[1])
    )


# ---- by suffix, and atomic writing ----------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".vxz", ".npz", ".ply", ".PLY"])
def test_suffix_chooses_the_format(tmp_path: Path, suffix: str) -> None:
    coords = torch.tensor([[0, 0, 1], [3, 2, 1]], dtype=torch.int32)
    attrs = {"a": torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8)}
    path = tmp_path / f"voxels{suffix}"
    tv.write(path, coords, attrs)
    assert same(tv.read(str(path)), (coords, attrs))
    assert path.read_bytes()[:2] == {".vxz": b"VX", ".npz": b"PK", ".ply": b"pl"}[suffix.lower()]


def test_options_go_to_the_format(tmp_path: Path) -> None:
    tv.write(tmp_path / "a.vxz", ONE, {}, compression="lzma")
    assert tv.read_vxz_info(tmp_path / "a.vxz")["compression"] == "lzma"
    with pytest.raises(ValueError, match="max_bytes"):
        tv.read(tmp_path / "a.vxz", max_bytes=0)


@pytest.mark.parametrize("name", ["a.glb", "a", ".vxz"])
def test_other_suffixes(name: str) -> None:
    with pytest.raises(ValueError, match=r"path: expected a name that ends in .vxz, .npz, .ply, got"):
        tv.read(name)
    with pytest.raises(ValueError, match="path: expected a name that ends in"):
        tv.write(name, ONE, {})


def test_failed_writing_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.vxz"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="stop"), writing(path) as file:
        file.write(b"new")
        raise RuntimeError("stop")
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
    with writing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileNotFoundError), writing(tmp_path / "none" / "a.vxz"):
        pass


# ---- .npz -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False])
def test_npz_is_a_numpy_archive(tmp_path: Path, compress: bool) -> None:
    coords, attrs = voxels(0, 50)
    path = tmp_path / "a.npz"
    tv.write_npz(path, coords, attrs, compress=compress)
    with np.load(path) as archive:
        assert sorted(archive) == ["base_color", "coord", "x"]
        assert archive["coord"].dtype == np.uint16 and np.array_equal(archive["coord"], coords.numpy())
        assert np.array_equal(archive["x"], attrs["x"].numpy())
    assert same(tv.read_npz(path), (coords, attrs))
    buffer = io.BytesIO()
    tv.write_npz(buffer, coords, attrs, compress=compress)
    assert buffer.getvalue() == path.read_bytes()


def saved(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_npz_of_numpy() -> None:
    coords, attrs = tv.read_npz(
        io.BytesIO(saved(coord=np.array([[1, 2, 65535]], dtype=">u2"), a=np.ones((1, 2, 2)), b=np.zeros(1, dtype=bool)))
    )
    assert coords.tolist() == [[1, 2, 65535]]
    assert attrs["a"].shape == (1, 2, 2) and attrs["a"].dtype == torch.float64 and attrs["b"].dtype == torch.bool
    empty = tv.read_npz(io.BytesIO(saved(coord=np.empty((0, 3), np.uint16), a=np.empty((0, 4), np.uint8))))
    assert empty[0].shape == (0, 3) and empty[1]["a"].shape == (0, 4)


def member(name: str, payload: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, payload)
    return buffer.getvalue()


def claiming(shape: str) -> bytes:
    """An archive whose coord claims a shape and holds six bytes."""
    return member("coord.npy", npy(f"{{'descr': '<u2', 'fortran_order': False, 'shape': {shape}}}", bytes(6)))


def npy(header: str, payload: bytes, version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H" if version == (1, 0) else "<I", len(text)) + text + payload


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a NumPy archive"),
        (b"PK\x03\x04 nothing", "not a NumPy archive"),
        (saved(a=np.zeros(1)), "coord: this array is missing"),
        (saved(coord=np.zeros((2, 3))), r"coord: expected integers \[N, 3\], got float64 \[2, 3\]"),
        (saved(coord=np.zeros((2, 2), np.uint16)), r"coord: expected integers \[N, 3\]"),
        (saved(coord=np.full((1, 3), 2**40)), "coord: expected int32 values"),
        (saved(coord=np.zeros((2, 3), np.uint16), a=np.zeros(3)), r"a: expected 2 rows like coord, got shape \[3\]"),
        (saved(coord=np.zeros((2, 3), np.uint16), a=np.float64(1)), r"a: expected 2 rows like coord, got shape \[\]"),
        (saved(coord=np.array([[1, 2, 3]], dtype=object)), "coord: expected numbers in C order, got dtype object"),
        (saved(coord=np.zeros((2, 3), np.uint16), a=np.array(["x", "y"])), "a: expected numbers in C order, got dtype <U1"),
        (saved(coord=np.zeros((2, 3), np.uint16), a=np.zeros((2, 3), order="F")), "a: expected numbers .* Fortran order"),
        (member("coord.npy", b"not an array"), "magic"),
        (claiming("(1000000000000, 3)"), "coord: shape .* does not fit its"),
        (claiming("(-1, -3)"), "coord: shape .* does not fit its|file: "),
        (claiming("(0, 3)"), "coord: shape .* does not fit its"),
        (member("coord.npy", npy("__import__('os')", bytes(6))), "file: "),
        (member("coord.npy", npy("{'descr': '<u2'}", bytes(6), (3, 0))), r"coord: expected .npy version 1 or 2, got \(3, 0\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # an archive holds the time of its making
)  # fmt: skip
def test_npz_refused_when_reading(data: bytes, message: str) -> None:
    file = io.BytesIO(data)
    with pytest.raises(ValueError, match=message):
        tv.read_npz(file)


def test_npz_member_twice() -> None:
    buffer = io.BytesIO()
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(buffer, "w") as archive:
        for _ in range(2):
            archive.writestr("coord.npy", npy("{'descr': '<u2', 'fortran_order': False, 'shape': (1, 3)}", bytes(6)))
    with pytest.raises(ValueError, match="coord: this array is there twice"):
        tv.read_npz(io.BytesIO(buffer.getvalue()))


def test_npz_larger_than_allowed() -> None:
    data = saved(coord=np.zeros((100_000, 3), np.uint16))
    assert len(data) < 5000
    with pytest.raises(ValueError, match="coord: the arrays take more than max_bytes = 500000"):
        tv.read_npz(io.BytesIO(data), max_bytes=500_000)
    with pytest.raises(TypeError, match="max_bytes: expected an int"):
        tv.read_npz(io.BytesIO(data), max_bytes=1e6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("coords", "attrs", "error", "message"),
    [
        (ONE - 1, {}, ValueError, r"coords: expected values in \[0, 65535\], got -1 to -1"),
        (ONE + 65536, {}, ValueError, r"coords: expected values in \[0, 65535\], got 65536"),
        (ONE, {"coord": ONE}, ValueError, "attrs: the name 'coord' is taken"),
        (ONE, {"a": torch.zeros(1, 1, dtype=torch.complex64)}, TypeError, r"attrs\['a'\]: expected dtype"),
        (ONE, {"a": torch.zeros(2, 1)}, ValueError, r"attrs\['a'\]: expected shape \[1, C\]"),
        (ONE, None, TypeError, "attrs: expected a dict of tensors, got NoneType"),
    ],
)
def test_npz_refused_when_writing(
    tmp_path: Path, coords: torch.Tensor, attrs: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tv.write_npz(tmp_path / "a.npz", coords, attrs)
    assert not list(tmp_path.iterdir())


# ---- .ply -----------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.lists(st.sampled_from(PLY_DTYPES), max_size=3))
def test_ply_round_trip(seed: int, count: int, dtypes: list[torch.dtype]) -> None:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randint(-(2**24), 2**24 + 1, (count, 3), generator=generator, dtype=torch.int32)
    attrs = {
        f"name_{i}": torch.randint(0, 100, (count, i + 1), generator=generator).to(d) for i, d in enumerate(dtypes)
    }
    buffer = io.BytesIO()
    tv.write_ply(buffer, coords, attrs)
    assert same(tv.read_ply(io.BytesIO(buffer.getvalue())), (coords, attrs))


def test_ply_layout() -> None:
    buffer = io.BytesIO()
    tv.write_ply(
        buffer, torch.tensor([[1, 2, 3]]), {"c": torch.tensor([[7, 8]], dtype=torch.uint8), "w": torch.tensor([[0.5]])}
    )
    assert buffer.getvalue() == (
        b"ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
        b"property uchar c_0\nproperty uchar c_1\nproperty float w_0\nend_header\n"
        + struct.pack("<fffBBf", 1, 2, 3, 7, 8, 0.5)
    )


def ply(*lines: str, data: bytes = b"", kind: str = "ascii") -> bytes:
    return "\n".join(["ply", f"format {kind} 1.0", *lines, "end_header", ""]).encode() + data


LITTLE = "binary_little_endian"
XYZ = ("property float x", "property float y", "property float z")


def test_ply_of_others() -> None:
    text = ply(
        "comment made by hand",
        "element vertex 2",
        *XYZ,
        "property uint8 red",
        "property int c_1",
        "property float c_0",
        "element face 1",
        "property list uchar int vertex_indices",
        data=b"1 2 3 255 7 0.5\n4.0 5e0 6.4\t0 -8 1.5\n3 0 1 0\n",
    )
    coords, attrs = tv.read_ply(io.BytesIO(text))
    assert coords.tolist() == [[1, 2, 3], [4, 5, 6]] and coords.dtype == torch.int32
    assert attrs["red"].tolist() == [[255], [0]] and attrs["red"].dtype == torch.uint8
    assert attrs["c"].tolist() == [[0.5, 7.0], [1.5, -8.0]] and attrs["c"].dtype == torch.float64
    big = ply(
        "element vertex 1",
        *XYZ,
        "property ushort a_0",
        kind="binary_big_endian",
        data=struct.pack(">fffH", 1, 2, 3, 513),
    )
    coords, attrs = tv.read_ply(io.BytesIO(big.replace(b"\n", b"\r\n", 8)))
    assert coords.tolist() == [[1, 2, 3]] and attrs["a"].tolist() == [[513]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a PLY file"),
        (b"polygon", "not a PLY file"),
        (b"ply\nformat ascii 1.0\nelement vertex 1\n", "header: no end_header within 1048576 bytes"),
        (b"ply\nend_header\n", "header: format or element is missing"),
        (ply("element vertex many", *XYZ), "header: cannot read the line 'element vertex many'"),
        (ply("element vertex -1", *XYZ), "header: cannot read the line"),
        (ply("property float x"), "header: cannot read the line 'property float x'"),
        (ply("element vertex 1", "property list uchar int i"), "header: cannot read the line 'property list"),
        (ply("element vertex 1", "property half x"), "header: cannot read the line 'property half x'"),
        (ply("element vertex 1", *XYZ, kind="binary_middle_endian"), "header: cannot read the line 'format binary_middle"),
        (ply("element vertex 1", *XYZ, "property float x", data=b"1 2 3 4"), "header: a property is given twice"),
        (ply("element vertex 1", "property float x", data=b"1"), "properties: y, z missing"),
        (ply("element vertex 1000000000000", *XYZ, data=b"1 2 3"), "truncated: 1000000000000 rows of 3 numbers do not fit in 5 bytes"),
        (ply("element vertex 1", *XYZ, data=b"1     2"), "truncated: expected 3 numbers, got 2"),
        (ply("element vertex 999999999999999999", *XYZ, kind=LITTLE, data=bytes(12)), "truncated: 9+ rows of 12 bytes do not fit"),
        (ply("element vertex 1", *XYZ, kind=LITTLE, data=bytes(11)), "truncated: 1 rows of 12 bytes do not fit in 11 bytes"),
        (ply("element vertex 1", *XYZ, data=b"1 2 nan"), "x, y, z: expected finite int32 values"),
        (ply("element vertex 1", *XYZ, data=b"1 2 3e9"), "x, y, z: expected finite int32 values"),
        (ply("element vertex 1", *XYZ, data=b"1 2 three"), "could not convert string to float"),
        (ply("element vertex 1", *XYZ, "property uchar a", data=b"1 2 3 256"), "a: expected integers of type uchar"),
        (ply("element vertex 1", *XYZ, "property uchar a", data=b"1 2 3 0.5"), "a: expected integers of type uchar"),
        (ply("element vertex 1", *XYZ, "property uchar a", data=b"1 2 3 inf"), "a: expected integers of type uchar"),
        (ply("element vertex 1", *XYZ, "property uchar a_0", "property uchar a_2", data=b"1 2 3 4 5"), "a: expected channels 0 to 1, got"),
        (ply("element vertex 1", *XYZ, "property uchar a", "property uchar a_0", data=b"1 2 3 4 5"), "a_0: this channel is there twice"),
    ],
)  # fmt: skip
def test_ply_refused_when_reading(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^file: .*{message}"):
        tv.read_ply(io.BytesIO(data))


@pytest.mark.parametrize(
    ("coords", "attrs", "error", "message"),
    [
        (ONE + 2**24 + 1, {}, ValueError, r"coords: expected values in \[-2\^24, 2\^24\], got 16777217"),
        (ONE - 2**31, {}, ValueError, "coords: expected values in"),
        (ONE, {"a b": ONE}, ValueError, "attrs: expected names of ASCII characters without white space, got 'a b'"),
        (ONE, {"a\nend_header": ONE}, ValueError, "attrs: expected names of ASCII"),
        (ONE, {"größe": ONE}, ValueError, "attrs: expected names of ASCII"),
        (ONE, {"a": ONE.long()}, TypeError, r"attrs\['a'\]: expected dtype"),
        (ONE, {"a": ONE[0]}, ValueError, r"attrs\['a'\]: expected shape"),
    ],
)
def test_ply_refused_when_writing(
    tmp_path: Path, coords: torch.Tensor, attrs: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        tv.write_ply(tmp_path / "a.ply", coords, attrs)
    assert not list(tmp_path.iterdir())


# ---- fuzzing --------------------------------------------------------------------------------------


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, len(changed) + 1))
        kind = rng.integers(0, 3)
        if kind == 0:
            changed[at : at + 1] = bytes([int(rng.integers(0, 256))])
        elif kind == 1:
            del changed[at : at + int(rng.integers(1, 9))]
        else:
            changed[at:at] = bytes(rng.integers(0, 256, int(rng.integers(1, 5))).tolist())
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["npz", "npz stored", "ply", "ascii"])
def test_fuzzed_bytes(kind: str) -> None:
    coords, attrs = voxels(1, 20)
    buffer = io.BytesIO()
    if kind.startswith("npz"):
        tv.write_npz(buffer, coords, attrs, compress=kind == "npz")
        read: Any = lambda data: tv.read_npz(io.BytesIO(data), max_bytes=1 << 20)  # noqa: E731
    else:
        tv.write_ply(buffer, coords, attrs)
        read = lambda data: tv.read_ply(io.BytesIO(data))  # noqa: E731
    data = buffer.getvalue()
    if kind == "ascii":
        rows = " ".join(f"{x} {y} {z} 7" for x, y, z in coords.tolist())
        data = ply("element vertex 20", *XYZ, "property uchar a_0", data=rows.encode())
    rng, refused = np.random.default_rng(2), 0
    for _ in range(1000):
        try:
            got, _ = read(mutated(data, rng))
            assert got.shape[1] == 3
        except ValueError as error:
            assert str(error)
            refused += 1
    assert 0 < refused < 1000


def test_a_link_stays_and_a_name_may_be_as_long_as_names_may_be(tmp_path):
    coords, attrs = torch.tensor([[1, 2, 3]], dtype=torch.int32), {"a": torch.tensor([[5]], dtype=torch.uint8)}
    link, long = tmp_path / "link.npz", tmp_path / f"{'x' * 251}.npz"
    link.symlink_to(tmp_path / "target.npz")
    for path in (link, link, long):  # to nothing yet, then to a file
        tv.write(path, coords, attrs)
        assert torch.equal(tv.read(path)[0], coords)
    assert link.is_symlink() and sorted(p.name for p in tmp_path.iterdir()) == ["link.npz", "target.npz", long.name]
