"""The .vxz voxel file, version 0: chunks of an octree and uint8 attributes, each stream compressed on its own.

Layout: ``VXZ``, a version byte 0, the big-endian uint32 offset of the binary part, a JSON header, the binary part.
The header gives for each chunk its place in the grid (``idx``, in chunks), its bytes in the binary part (``ptr``) and
in these its streams: ``svo``, the octree (vxz_octree.hpp), and the attributes of its voxels in Morton order, filtered
(vxz_filters.cpp), as one stream a channel (``attr_interleave`` "none"), an attribute ("as_is") or together ("all").
The format is that of o_voxel.io; files exchange both ways.
"""

from __future__ import annotations

import ctypes
import io
import json
import lzma
import os
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import torch
import zstandard
from trellis_native import check

from ._files import MAX_BYTES, Source, read_all, voxels, writing
from ._library import EXTENSION
from ._vxz_header import COMPRESSIONS, FILTERS, HEAD, INTERLEAVES, MAGIC, Chunk, Header, short, split, stream_names

_CPU = torch.device("cpu")
_LZMA_DICTIONARIES = [1 << bits for bits in (18, 20, 21, 22, 22, 23, 23, 24, 25, 26)]
"""Of each preset."""
_MAX_WINDOW = 1 << 27

_T = TypeVar("_T")
_R = TypeVar("_R")


def read_vxz(
    source: Source, *, num_threads: int = 0, max_bytes: int = MAX_BYTES
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Reads the voxels of a .vxz file.

    Args:
        source: a path or a binary file object.
        num_threads: threads that decompress; 0 for one a core.
        max_bytes: what the voxels may take in memory. A small file can claim any number of them.

    Returns:
        coords int32 [N, 3], chunk by chunk in Morton order; and attributes uint8 [N, C] by name.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a .vxz file, is truncated or damaged, contradicts itself or expands beyond `max_bytes`; the
            text names the file and what is wrong with it.
    """
    threads = _threads(num_threads)
    max_bytes = check.positive_int("max_bytes", max_bytes)
    name, data = read_all(source)
    try:
        info, binary = split(data)
        return _Reader(Header.of(info, len(binary)), binary, max_bytes).read(threads)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def read_vxz_info(source: Source) -> dict[str, Any]:
    """The header of a .vxz file, as it stands in it, after the checks of `read_vxz` on it.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a .vxz file, or its header contradicts itself or the file's size.
    """
    name, data = read_all(source)
    try:
        info, binary = split(data)
        Header.of(info, len(binary))
        return info
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def write_vxz(
    target: Source,
    coords: torch.Tensor,
    attrs: dict[str, torch.Tensor],
    compression: Literal["none", "deflate", "lzma", "zstd"] = "zstd",
    *,
    compression_level: int | None = None,
    filter: Literal["none", "parent", "neighbor"] = "none",  # noqa: A002  (the format's word)
    attr_interleave: Literal["none", "as_is", "all"] = "as_is",
    chunk_size: int = 256,
    num_threads: int = 0,
) -> None:
    """Writes voxels to a .vxz file; a path changes only when all of it is written.

    Args:
        target: a path or a binary file object.
        coords: int32 or int64 [N, 3], each in [-2^20, 2^20), no voxel twice, in any order.
        attrs: attributes uint8 [N, C] by name. (o_voxel's reader needs at least one voxel and one attribute.)
        compression: of each stream. Levels: deflate 1 to 9 (default 9), lzma 0 to 9 (9), zstd 1 to 22 (9).
        filter: what is stored: the values ("none"), or their differences along the octree or from neighbours in space.
        attr_interleave: one stream for each channel ("none"), for each attribute ("as_is"), or for all.
        chunk_size: side of a chunk in voxels, a power of two from 4 to 1024.
        num_threads: threads that compress; 0 for one a core.

    Raises:
        TypeError, ValueError: an argument is not as described; the text names it.
        OSError: the file cannot be written.
    """
    check.choice("compression", compression, tuple(COMPRESSIONS))
    low, high, default = COMPRESSIONS[compression]
    if compression_level is None:
        compression_level = default
    else:
        compression_level = check.positive_int("compression_level", compression_level, minimum=low, maximum=high)
    check.choice("filter", filter, FILTERS)
    check.choice("attr_interleave", attr_interleave, INTERLEAVES)
    chunk_size = check.positive_int("chunk_size", chunk_size, minimum=4, maximum=1024)
    if chunk_size & (chunk_size - 1):
        raise ValueError(f"chunk_size: expected a power of two, got {chunk_size}")
    threads = _threads(num_threads)
    coords, attrs = voxels(coords, attrs, dtypes=(torch.uint8,))
    layout = [(k, v.shape[1]) for k, v in attrs.items()]
    streams = stream_names(layout, attr_interleave)
    count, depth = len(coords), chunk_size.bit_length() - 1

    order, keys = torch.empty(count, dtype=torch.int64), torch.empty(count, dtype=torch.int64)
    EXTENSION.call("vxz_order", coords, count, depth, order, keys, device=_CPU)
    coords = coords[order]
    values = torch.cat([torch.empty(count, 0, dtype=torch.uint8), *attrs.values()], dim=1)
    # Without a filter each stream is put in order on its own: gathering is then all the copying there is.
    columns = [values[:, a:b][order] for a, b in streams.values()] if filter == "none" else [values[order]]
    sizes = torch.unique_consecutive(keys >> (3 * depth), return_counts=True)[1].tolist()

    def encode(part: tuple[torch.Tensor, ...]) -> tuple[dict[str, list[int]], bytes]:
        chunk_keys, chunk_coords, *chunk_columns = part
        n = len(chunk_keys)
        octree, used = torch.empty(n * depth, dtype=torch.uint8), ctypes.c_int64()
        EXTENSION.call("vxz_octree_encode", chunk_keys, n, depth, octree, ctypes.byref(used), device=_CPU)
        octree = octree[: used.value]
        index = [int(c) // chunk_size for c in chunk_coords[0].tolist()]
        if filter != "none":
            filtered = _filtered(filter, octree, chunk_coords, index, depth, chunk_columns[0], decode=False)
            chunk_columns = [filtered[:, a:b] for a, b in streams.values()]
        entry, pieces, at = {"idx": index}, [], 0
        for stream, tensor in zip(("svo", *streams), (octree, *chunk_columns), strict=True):
            piece = _compress(tensor.contiguous().numpy().tobytes(), compression, compression_level)
            entry[stream] = [at, len(piece)]
            pieces.append(piece)
            at += len(piece)
        return entry, b"".join(pieces)

    parts = zip(*(torch.split(t, sizes) for t in (keys, coords, *columns)), strict=True) if count else iter(())
    chunks = _parallel(encode, parts, threads)
    at = 0
    for entry, blob in chunks:
        entry["ptr"] = [at, len(blob)]
        at += len(blob)
    raw_size = count * (12 + values.shape[1])
    header = json.dumps(
        {
            "num_voxel": count,
            "chunk_size": chunk_size,
            "filter": filter,
            "compression": compression,
            "compression_level": compression_level,
            "raw_size": raw_size,
            "compressed_size": at,
            "compress_ratio": raw_size / at if at else 0.0,
            "attr_interleave": attr_interleave,
            "attr": [list(a) for a in layout],
            "chunks": [entry for entry, _ in chunks],
        }
    ).encode()
    with writing(target) as file:
        file.write(HEAD.pack(MAGIC, HEAD.size + len(header)) + header)
        for _, blob in chunks:
            file.write(blob)


class _Reader:
    """Reads the chunks of one file into arrays that are allocated once their octrees are known to agree with it."""

    def __init__(self, header: Header, binary: memoryview, max_bytes: int) -> None:
        self._header, self._binary = header, binary
        self._channels = sum(c for _, c in header.layout)
        need = header.count * (12 + self._channels)
        if need > max_bytes:
            raise ValueError(f"num_voxel: {header.count} voxels take {need} bytes, more than max_bytes = {max_bytes}")
        self._found = 0
        self._lock = threading.Lock()

    def read(self, threads: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        header = self._header
        octrees = _parallel(self._octree, enumerate(header.chunks), threads)
        counts = [n for _, n in octrees]
        if sum(counts) != header.count:
            raise ValueError(f"num_voxel: the header says {header.count} voxels, the octrees hold {sum(counts)}")
        coords = torch.empty(header.count, 3, dtype=torch.int32)
        attrs = {name: torch.empty(header.count, c, dtype=torch.uint8) for name, c in header.layout}
        ends = [0, *torch.tensor(counts, dtype=torch.int64).cumsum(0).tolist()]

        def fill(i: int) -> None:
            rows = slice(ends[i], ends[i + 1])
            self._decode(i, octrees[i][0], coords[rows], {k: v[rows] for k, v in attrs.items()})

        _parallel(fill, range(len(counts)), threads)
        return coords, attrs

    def _stream(self, i: int, name: str, limit: int) -> bytes:
        """A decompressed stream; one byte more than `limit` where it is longer."""
        at, n = self._header.chunks[i].streams[name]
        try:
            return _decompress(self._binary[at : at + n], self._header.compression, self._header.level, limit)
        except (zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError) as error:
            raise ValueError(f"chunk {i}: {short(name)}: damaged {self._header.compression} data: {error}") from error
        except ValueError as error:
            raise ValueError(f"chunk {i}: {short(name)}: {error}") from error

    def _octree(self, item: tuple[int, Chunk]) -> tuple[torch.Tensor, int]:
        i, depth = item[0], self._header.depth
        # Every node has a voxel below it, and no level has more nodes than places.
        limit = min(self._header.count * depth, (8**depth - 1) // 7)
        data = self._stream(i, "svo", limit)
        if len(data) > limit:
            raise ValueError(
                f"chunk {i}: svo: expands beyond the {limit} bytes that {self._header.count} voxels can need"
            )
        octree, count = _bytes(data), ctypes.c_int64()
        try:
            EXTENSION.call("vxz_octree_count", octree, len(octree), depth, ctypes.byref(count), device=_CPU)
        except ValueError as error:
            raise ValueError(f"chunk {i}: {error}") from error
        with self._lock:
            self._found += count.value
            if self._found > self._header.count:
                raise ValueError(f"num_voxel: the header says {self._header.count} voxels, the octrees hold more")
        return octree, count.value

    def _decode(self, i: int, octree: torch.Tensor, coords: torch.Tensor, attrs: dict[str, torch.Tensor]) -> None:
        header, n = self._header, len(coords)
        chunk = header.chunks[i]
        origin = (ctypes.c_int32 * 3)(*chunk.origin)
        EXTENSION.call("vxz_octree_decode", octree, len(octree), header.depth, origin, n, coords, device=_CPU)
        columns = []
        for name, (first, end) in header.streams.items():
            size = n * (end - first)
            data = self._stream(i, name, size)
            if len(data) != size:
                more = "more than " if len(data) > size else ""
                raise ValueError(
                    f"chunk {i}: {short(name)}: expected {size} bytes for {n} voxels, got {more}{min(len(data), size)}"
                )
            columns.append(_bytes(data).reshape(n, end - first))
        if not columns:
            return
        values = columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)
        index = [o >> header.depth for o in chunk.origin]
        values = _filtered(header.filter, octree, coords, index, header.depth, values, decode=True)
        for part, (name, _) in zip(
            torch.split(values, [c for _, c in header.layout], dim=1), header.layout, strict=True
        ):
            attrs[name].copy_(part)


def _bytes(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0, dtype=torch.uint8)


def _filtered(
    kind: str,
    octree: torch.Tensor,
    coords: torch.Tensor,
    index: Sequence[int],
    depth: int,
    values: torch.Tensor,
    *,
    decode: bool,
) -> torch.Tensor:
    """The values [N, C] of one chunk, filtered or unfiltered."""
    if kind == "none" or not values.numel():
        return values
    values = values.contiguous()
    out, (n, channels) = torch.empty_like(values), values.shape
    if kind == "parent":
        EXTENSION.call(
            "vxz_parent_filter", octree, len(octree), depth, n, channels, values, out, int(decode), device=_CPU
        )
    else:
        origin = (ctypes.c_int32 * 3)(*(i << depth for i in index))
        EXTENSION.call("vxz_neighbor_filter", coords, origin, depth, n, channels, values, out, int(decode), device=_CPU)
    return out


def _compress(data: bytes, algorithm: str, level: int) -> bytes:
    if algorithm == "deflate":
        deflate = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
        return deflate.compress(data) + deflate.flush()
    if algorithm == "lzma":
        return lzma.compress(data, format=lzma.FORMAT_RAW, filters=_lzma_filters(level, len(data)))
    if algorithm == "zstd":
        return zstandard.ZstdCompressor(level=level).compress(data)
    return data


def _decompress(data: memoryview, algorithm: str, level: int, limit: int) -> bytes:
    """At most `limit` + 1 bytes of what `data` holds, never allocating more than that because of what it claims."""
    if algorithm == "deflate":
        inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
        out = inflate.decompress(data, limit + 1)
        if len(out) <= limit and not inflate.eof:
            raise ValueError("the deflate stream is cut short")
        trailing = inflate.unused_data
    elif algorithm == "lzma":
        unpack = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_lzma_filters(level, limit))
        out = unpack.decompress(data, limit + 1)
        if len(out) <= limit and not unpack.eof:
            raise ValueError("the lzma stream is cut short")
        trailing = unpack.unused_data if unpack.eof else b""
    elif algorithm == "zstd":
        size = zstandard.get_frame_parameters(data).content_size
        if size != zstandard.CONTENTSIZE_UNKNOWN:
            if size > limit:
                raise ValueError(f"expands to {size} bytes, more than the {limit} expected")
            return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
        with zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(io.BytesIO(data)) as reader:
            return _read_up_to(reader, limit + 1)
    else:
        out, trailing = bytes(data[: limit + 1]), b""
    if trailing and len(out) <= limit:
        raise ValueError(f"{len(trailing)} bytes follow the compressed data")
    return out


def _read_up_to(reader: Any, size: int) -> bytes:
    parts = []
    while size > 0 and (part := reader.read(min(size, 1 << 24))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _lzma_filters(level: int, size: int) -> list[dict[str, int]]:
    """The raw LZMA2 chain of a preset, its dictionary no larger than the data: the top preset's takes 64 MiB to set up."""
    dictionary = min(_LZMA_DICTIONARIES[level], 1 << max(12, size.bit_length()))
    return [{"id": lzma.FILTER_LZMA2, "preset": level, "dict_size": dictionary}]


def _threads(value: int) -> int:
    check.positive_int("num_threads", value, minimum=0)
    return value or os.cpu_count() or 1


def _parallel(work: Callable[[_T], _R], items: Iterable[_T], threads: int) -> list[_R]:
    """`work` of each item, in order. The first failure stops what has not begun."""
    if threads == 1:
        return [work(item) for item in items]
    pool = ThreadPoolExecutor(max_workers=threads)
    try:
        return list(pool.map(work, items))
    finally:
        pool.shutdown(cancel_futures=True)
