"""The header of a .vxz file (_vxz.py), checked against itself and the size of the file before anything of it is used."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from trellis_native import check

MAGIC = b"VXZ\x00"
HEAD = struct.Struct(">4sI")
COMPRESSIONS = {"none": (0, 0, 0), "deflate": (1, 9, 9), "lzma": (0, 9, 9), "zstd": (1, 22, 9)}
"""Lowest, highest and default level."""
FILTERS = ("none", "parent", "neighbor")
INTERLEAVES = ("none", "as_is", "all")
_COORD_LIMIT = 1 << 20
_MAX_CHANNELS = 4096


def split(data: bytes) -> tuple[dict[str, Any], memoryview]:
    """The JSON header and the binary part of a file."""
    if len(data) < HEAD.size:
        raise ValueError(f"not a .vxz file: expected at least {HEAD.size} bytes, got {len(data)}")
    magic, start = HEAD.unpack_from(data)
    if magic[:3] != MAGIC[:3]:
        raise ValueError(f"not a .vxz file: expected it to begin with {MAGIC[:3]!r}, got {magic[:3]!r}")
    if magic != MAGIC:
        raise ValueError(f"version: expected 0, got {magic[3]}")
    if not HEAD.size <= start <= len(data):
        raise ValueError(f"header: its end at {start} lies outside the file of {len(data)} bytes; truncated or damaged")
    try:
        info = json.loads(data[HEAD.size : start].decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"header: not UTF-8 text: {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"header: not JSON: {error}") from error
    except RecursionError:
        raise ValueError("header: JSON nested too deeply") from None
    if not isinstance(info, dict):
        raise ValueError(f"header: expected a JSON object, got {type(info).__name__}")
    return info, memoryview(data)[start:]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, value in pairs:
        if name in result:
            raise ValueError(f"header: key {short(name)} is given twice")
        result[name] = value
    return result


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"header: expected finite numbers, got {text}")


def stream_names(layout: Sequence[tuple[str, int]], interleave: str) -> dict[str, tuple[int, int]]:
    """The range of channels that each attribute stream holds, in the order of the streams."""
    if sum(c for _, c in layout) > _MAX_CHANNELS:
        raise ValueError(f"attrs: expected at most {_MAX_CHANNELS} channels together, got {sum(c for _, c in layout)}")
    names: list[tuple[str, int]] = []
    for name, channels in layout:
        names += [(f"{name}_{i}", 1) for i in range(channels)] if interleave == "none" else [(name, channels)]
    if interleave == "all":
        names = [("attr", sum(c for _, c in layout))]
    streams: dict[str, tuple[int, int]] = {}
    at = 0
    for name, channels in names:
        if name in ("idx", "ptr", "svo") or name in streams:
            raise ValueError(f"attrs: the name {name!r} is taken in a chunk of the file")
        streams[name] = (at, at + channels)
        at += channels
    return streams


@dataclass(frozen=True)
class Chunk:
    origin: tuple[int, int, int]
    streams: dict[str, tuple[int, int]]  # offset and length in the binary part


@dataclass(frozen=True)
class Header:
    """A header that has been checked against itself and the size of the binary part."""

    count: int
    depth: int
    filter: str
    compression: str
    level: int
    layout: list[tuple[str, int]]
    streams: dict[str, tuple[int, int]]
    chunks: list[Chunk]

    @staticmethod
    def of(info: dict[str, Any], size: int) -> Header:
        count = _integer(info, "num_voxel", 0, 1 << 62)
        chunk_size = _integer(info, "chunk_size", 2, 1024)
        if chunk_size & (chunk_size - 1):
            raise ValueError(f"chunk_size: expected a power of two, got {chunk_size}")
        if _integer(info, "compressed_size", 0, 1 << 62) != size:
            raise ValueError(
                f"compressed_size: the header says {info['compressed_size']} bytes, the file has {size}; truncated or damaged"
            )
        compression = check.choice("compression", _value(info, "compression"), tuple(COMPRESSIONS))
        level = info.get("compression_level")
        if level is not None:
            level = _integer(info, "compression_level", 0, 9 if compression == "lzma" else 22)
        interleave = check.choice("attr_interleave", _value(info, "attr_interleave"), INTERLEAVES)
        layout = _layout(_value(info, "attr"))
        streams = stream_names(layout, interleave)
        entries = _value(info, "chunks")
        if not isinstance(entries, list):
            raise ValueError(f"chunks: expected a list, got {type(entries).__name__}")
        chunks = [_chunk(f"chunk {i}", entry, chunk_size, streams, size) for i, entry in enumerate(entries)]
        if len({c.origin for c in chunks}) != len(chunks):
            raise ValueError("chunks: expected each place of the grid once, got one twice")
        if not len(chunks) <= count <= len(chunks) * chunk_size**3:
            raise ValueError(f"num_voxel: {len(chunks)} chunks of side {chunk_size} cannot hold {count} voxels")
        return Header(
            count=count,
            depth=chunk_size.bit_length() - 1,
            filter=check.choice("filter", _value(info, "filter"), FILTERS),
            compression=compression,
            level=9 if level is None else level,
            layout=layout,
            streams=streams,
            chunks=chunks,
        )


def _value(info: dict[str, Any], name: str) -> Any:
    if name not in info:
        raise ValueError(f"header: {name!r} is missing")
    return info[name]


def _integer(info: dict[str, Any], name: str, low: int, high: int) -> int:
    value = _value(info, name)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name}: expected an integer in [{low}, {high}], got {short(value)}")
    return value


def short(value: object) -> str:
    text = (
        f"an integer of {value.bit_length()} bits"
        if isinstance(value, int) and value.bit_length() > 64
        else repr(value)
    )
    return text if len(text) <= 80 else text[:77] + "..."


def _integers(what: str, value: object, length: int) -> list[int]:
    if not (
        isinstance(value, list)
        and len(value) == length
        and all(isinstance(v, int) and not isinstance(v, bool) for v in value)
    ):
        raise ValueError(f"{what}: expected {length} integers, got {short(value)}")
    return value


def _layout(value: object) -> list[tuple[str, int]]:
    if not isinstance(value, list):
        raise ValueError(f"attr: expected a list, got {type(value).__name__}")
    layout: list[tuple[str, int]] = []
    for item in value:
        if not (isinstance(item, list) and len(item) == 2 and isinstance(item[0], str)):
            raise ValueError(f"attr: expected pairs of a name and a number of channels, got {short(item)}")
        channels = item[1]
        if isinstance(channels, bool) or not isinstance(channels, int) or not 0 <= channels <= _MAX_CHANNELS:
            raise ValueError(f"attr: {short(item[0])}: expected 0 to {_MAX_CHANNELS} channels, got {short(channels)}")
        layout.append((item[0], channels))
    if len({name for name, _ in layout}) != len(layout):
        raise ValueError("attr: expected each name once, got one twice")
    return layout


def _chunk(what: str, entry: object, side: int, streams: dict[str, tuple[int, int]], size: int) -> Chunk:
    if not isinstance(entry, dict):
        raise ValueError(f"{what}: expected an object, got {type(entry).__name__}")
    expected = {"idx", "ptr", "svo", *streams}
    if set(entry) != expected:
        raise ValueError(
            f"{what}: missing {short(sorted(expected - set(entry)))}, not expected {short(sorted(set(entry) - expected))}"
        )
    index = _integers(f"{what}: idx", entry["idx"], 3)
    if not all(-_COORD_LIMIT <= i * side <= _COORD_LIMIT - side for i in index):
        raise ValueError(f"{what}: idx {short(index)} lies outside the {2 * _COORD_LIMIT} voxels of an axis")
    start, length = _integers(f"{what}: ptr", entry["ptr"], 2)
    if start < 0 or length < 0 or start + length > size:
        raise ValueError(f"{what}: ptr {short(entry['ptr'])} lies outside the binary part of {size} bytes")
    places = {}
    for name in ("svo", *streams):
        at, n = _integers(f"{what}: {short(name)}", entry[name], 2)
        if at < 0 or n < 0 or at + n > length:
            raise ValueError(f"{what}: {short(name)} {short(entry[name])} lies outside its {length} bytes")
        places[name] = (start + at, n)
    x, y, z = (i * side for i in index)
    return Chunk((x, y, z), places)
