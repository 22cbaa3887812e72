"""Voxels in .npz and .ply files, laid out as o_voxel.io does, and reading and writing by a path's suffix."""

from __future__ import annotations

import io
import lzma
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from trellis_native import check

from ._files import MAX_BYTES, Source, read_all, voxels, writing
from ._vxz import read_vxz, write_vxz

_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_PLY_NAMES = {
    "i1": "char",
    "u1": "uchar",
    "i2": "short",
    "u2": "ushort",
    "i4": "int",
    "u4": "uint",
    "f4": "float",
    "f8": "double",
}
_PLY_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}
_PLY_HEADER_LIMIT = 1 << 20
_DTYPES = (
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.float32, torch.float64, torch.uint16, torch.uint32,
)  # fmt: skip
_NPZ_DTYPES = (*_DTYPES, torch.int64, torch.bool, torch.float16)


def read(path: str | os.PathLike[str], **options: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Reads voxels from a .vxz, .npz or .ply file; options are those of `read_vxz`, `read_npz` or `read_ply`.

    Raises:
        ValueError: another suffix, or a damaged file.
    """
    readers: dict[str, Callable[..., Any]] = {".vxz": read_vxz, ".npz": read_npz, ".ply": read_ply}
    coords, attrs = readers[_suffix(path, tuple(readers))](path, **options)
    return coords, attrs


def write(path: str | os.PathLike[str], coords: torch.Tensor, attrs: dict[str, torch.Tensor], **options: Any) -> None:
    """Writes voxels to a .vxz, .npz or .ply file; options are those of `write_vxz`, `write_npz` or `write_ply`.

    Raises:
        ValueError: another suffix, or values that the format cannot hold.
    """
    writers: dict[str, Callable[..., None]] = {".vxz": write_vxz, ".npz": write_npz, ".ply": write_ply}
    writers[_suffix(path, tuple(writers))](path, coords, attrs, **options)


def _suffix(path: str | os.PathLike[str], known: tuple[str, ...]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in known:
        raise ValueError(f"path: expected a name that ends in {', '.join(known)}, got {os.fspath(path)!r}")
    return suffix


# ---- .npz -----------------------------------------------------------------------------------------


def read_npz(source: Source, *, max_bytes: int = MAX_BYTES) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Reads voxels from a NumPy archive: array ``coord`` [N, 3] and one array [N, ...] for each attribute.

    Returns:
        coords int32 [N, 3] and attributes of the dtypes in the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not such an archive, is damaged, or expands beyond `max_bytes`.
    """
    max_bytes = check.positive_int("max_bytes", max_bytes)
    name, data = read_all(source)
    try:
        arrays = _npz_arrays(data, max_bytes)
        if "coord" not in arrays:
            raise ValueError("coord: this array is missing")
        coords = arrays.pop("coord")
        if coords.dtype.kind not in "iu" or coords.ndim != 2 or coords.shape[1] != 3:
            raise ValueError(f"coord: expected integers [N, 3], got {coords.dtype} {list(coords.shape)}")
        if coords.size and (int(coords.min()) < -(2**31) or int(coords.max()) >= 2**31):
            raise ValueError(f"coord: expected int32 values, got {coords.min()} to {coords.max()}")
        for key, array in arrays.items():
            if array.ndim < 1 or len(array) != len(coords):
                raise ValueError(f"{key}: expected {len(coords)} rows like coord, got shape {list(array.shape)}")
        return torch.from_numpy(coords.astype(np.int32)), {k: torch.from_numpy(v) for k, v in arrays.items()}
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OSError,
        KeyError,
    ) as error:
        raise ValueError(f"{name}: not a NumPy archive, or damaged: {error}") from error
    except (ValueError, TypeError, OverflowError, SyntaxError) as error:
        raise ValueError(f"{name}: {error}") from error


def _npz_arrays(data: bytes, max_bytes: int) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    total = 0
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            key = member.filename.removesuffix(".npy")
            if key in arrays:
                raise ValueError(f"{key}: this array is there twice")
            total += member.file_size
            if total > max_bytes:
                raise ValueError(f"{key}: the arrays take more than max_bytes = {max_bytes}")
            with archive.open(member) as file:
                version = np.lib.format.read_magic(file)
                if version not in ((1, 0), (2, 0)):
                    raise ValueError(f"{key}: expected .npy version 1 or 2, got {version}")
                reader = (
                    np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                )
                shape, fortran, dtype = reader(file)
                if dtype.kind not in "biuf" or dtype.itemsize > 8 or fortran:
                    raise ValueError(
                        f"{key}: expected numbers in C order, got dtype {dtype}{', Fortran order' if fortran else ''}"
                    )
                size = math.prod(shape) * dtype.itemsize
                # Before anything of the claimed size is made: the archive's directory must agree with it.
                if min(shape, default=0) < 0 or size != member.file_size - file.tell():
                    raise ValueError(f"{key}: shape {list(shape)[:4]} does not fit its {member.file_size} bytes")
                raw = file.read(size)
                if len(raw) != size:
                    raise ValueError(f"{key}: expected {size} bytes, got {len(raw)}")
            arrays[key] = (
                np.frombuffer(bytearray(raw), dtype=dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
            )
    return arrays


def write_npz(target: Source, coords: torch.Tensor, attrs: dict[str, torch.Tensor], *, compress: bool = True) -> None:
    """Writes voxels to a NumPy archive: ``coord`` uint16 [N, 3] and the attributes [N, C]; a path changes only at the end.

    The same voxels always give the same bytes.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit, or a coordinate is outside [0, 65535].
        OSError: the file cannot be written.
    """
    coords, attrs = voxels(coords, attrs, dtypes=_NPZ_DTYPES)
    if coords.numel() and (int(coords.min()) < 0 or int(coords.max()) > 65535):
        raise ValueError(f"coords: expected values in [0, 65535], got {int(coords.min())} to {int(coords.max())}")
    if "coord" in attrs:
        raise ValueError("attrs: the name 'coord' is taken by the coordinates")
    arrays = {"coord": coords.numpy().astype(np.uint16), **{k: v.contiguous().numpy() for k, v in attrs.items()}}
    kind = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with writing(target) as file, zipfile.ZipFile(file, "w", kind) as archive:
        for key, array in arrays.items():
            member = zipfile.ZipInfo(f"{key}.npy")  # dated 1980, so that equal voxels give equal bytes
            member.compress_type = kind
            with archive.open(member, "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


# ---- .ply -----------------------------------------------------------------------------------------


def read_ply(source: Source) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Reads voxels from the first element of a PLY file (Turk, "The PLY polygon file format", 1994).

    Properties x, y, z are rounded to coordinates; ``name_0``, ``name_1``, ... make attribute ``name``, and a property
    without such a number is an attribute with one channel.

    Returns:
        coords int32 [N, 3] and attributes [N, C]; channels of different types become float64.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a PLY file, is truncated, or its properties do not fit.
    """
    name, data = read_all(source)
    try:
        order, count, fields, start = _ply_header(data)
        table = _ply_table(data, order, count, fields, start)
        missing = [axis for axis in "xyz" if axis not in table]
        if missing:
            raise ValueError(f"properties: {', '.join(missing)} missing")
        xyz = np.stack([table.pop(axis).astype(np.float64) for axis in "xyz"], axis=1)
        if not np.isfinite(xyz).all() or (np.abs(xyz) >= 2**31 - 1).any():
            raise ValueError("x, y, z: expected finite int32 values")
        channels: dict[str, dict[int, npt.NDArray[Any]]] = {}
        for key, column in table.items():
            match = re.fullmatch(r"(.+)_(0|[1-9][0-9]{0,5})", key)
            group = channels.setdefault(match[1] if match else key, {})
            number = int(match[2]) if match else 0
            if number in group:
                raise ValueError(f"{key}: this channel is there twice")
            group[number] = column
        attrs = {}
        for key, group in channels.items():
            if sorted(group) != list(range(len(group))):
                raise ValueError(f"{key}: expected channels 0 to {len(group) - 1}, got {sorted(group)[:8]}")
            columns = [group[i] for i in range(len(group))]
            same = all(c.dtype == columns[0].dtype for c in columns)
            attrs[key] = torch.from_numpy(
                np.stack(columns if same else [c.astype(np.float64) for c in columns], axis=1)
            )
        return torch.from_numpy(np.rint(xyz).astype(np.int32)), attrs
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name}: {error}") from error


def _ply_header(data: bytes) -> tuple[str, int, list[tuple[str, str]], int]:
    """Byte order, rows and (name, NumPy type) columns of the first element, and where its data begins."""
    if not re.match(rb"ply\r?\n", data):
        raise ValueError("not a PLY file: expected it to begin with 'ply'")
    end = re.search(rb"\nend_header\r?\n", data[:_PLY_HEADER_LIMIT])
    if end is None:
        raise ValueError(f"header: no end_header within {_PLY_HEADER_LIMIT} bytes; truncated or damaged")
    order = count = None
    fields: list[tuple[str, str]] = []
    for line in data[: end.start()].decode("utf-8", "replace").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) == 3 and words[1] in _PLY_ORDERS and order is None:
            order = words[1]
        elif words[0] == "element" and len(words) == 3 and re.fullmatch(r"[0-9]{1,18}", words[2]):
            if count is not None:
                break
            count = int(words[2])
        elif words[0] == "property" and len(words) == 3 and words[1] in _PLY_TYPES and count is not None:
            fields.append((words[2], _PLY_TYPES[words[1]]))
        else:
            raise ValueError(f"header: cannot read the line {line[:80]!r}")
    if order is None or count is None:
        raise ValueError("header: format or element is missing")
    if len({n for n, _ in fields}) != len(fields):
        raise ValueError("header: a property is given twice")
    return order, count, fields, end.end()


def _ply_table(
    data: bytes, order: str, count: int, fields: list[tuple[str, str]], start: int
) -> dict[str, npt.NDArray[Any]]:
    left = len(data) - start
    if order == "ascii":
        # A number takes at least two bytes with the space after it; the last may do without.
        if count * len(fields) * 2 > left + 1:
            raise ValueError(f"truncated: {count} rows of {len(fields)} numbers do not fit in {left} bytes")
        words = data[start:].split(maxsplit=count * len(fields))[: count * len(fields)]
        if len(words) != count * len(fields):
            raise ValueError(f"truncated: expected {count * len(fields)} numbers, got {len(words)}")
        return {name: _ply_column(name, words[i :: len(fields)], kind) for i, (name, kind) in enumerate(fields)}
    row = np.dtype([(name, _PLY_ORDERS[order] + kind) for name, kind in fields])
    if count * row.itemsize > left:
        raise ValueError(f"truncated: {count} rows of {row.itemsize} bytes do not fit in {left} bytes")
    table = np.frombuffer(data, dtype=row, count=count if row.itemsize else 0, offset=start)
    return {name: table[name].astype(kind) for name, kind in fields}


def _ply_column(name: str, words: list[bytes], kind: str) -> npt.NDArray[Any]:
    values = np.array([float(w) for w in words], dtype=np.float64)
    if kind[0] == "f":
        return values.astype(kind)
    limits = np.iinfo(kind)
    if not bool(((values >= limits.min) & (values <= limits.max) & (values == np.rint(values))).all()):
        raise ValueError(f"{name}: expected integers of type {_PLY_NAMES[kind]}")
    return values.astype(kind)


def write_ply(target: Source, coords: torch.Tensor, attrs: dict[str, torch.Tensor]) -> None:
    """Writes voxels to a binary PLY file: float x, y, z and ``name_0``, ``name_1``, ...; a path changes only at the end.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit, a coordinate is beyond 2^24 (which float does not hold
            exactly), or a name has white space.
        OSError: the file cannot be written.
    """
    coords, attrs = voxels(coords, attrs, dtypes=_DTYPES)
    if coords.numel() and int(coords.to(torch.int64).abs().max()) > 1 << 24:
        raise ValueError(f"coords: expected values in [-2^24, 2^24], got {int(coords.min())} to {int(coords.max())}")
    columns = [(axis, coords[:, i].numpy().astype(np.float32)) for i, axis in enumerate("xyz")]
    for name, values in attrs.items():
        if not name.isascii() or not name.isprintable() or " " in name:
            raise ValueError(f"attrs: expected names of ASCII characters without white space, got {name!r}")
        columns += [(f"{name}_{i}", values[:, i].numpy()) for i in range(values.shape[1])]
    if len({name for name, _ in columns}) != len(columns):
        raise ValueError(f"attrs: two channels have one property name among {[name for name, _ in columns]}")
    table = np.empty(len(coords), dtype=[(name, "<" + column.dtype.str[1:]) for name, column in columns])
    for name, column in columns:
        table[name] = column
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(coords)}"]
    lines += [f"property {_PLY_NAMES[column.dtype.str[1:]]} {name}" for name, column in columns]
    with writing(target) as file:
        file.write(("\n".join([*lines, "end_header"]) + "\n").encode())
        file.write(table.tobytes())
