"""As o_voxel.io: voxel files."""

from __future__ import annotations

import os
from typing import Any, BinaryIO, Literal

import torch
import trellis_voxel
from trellis_voxel import read_npz, read_ply, read_vxz_info

__all__ = [
    "read",
    "read_npz",
    "read_ply",
    "read_vxz",
    "read_vxz_info",
    "write",
    "write_npz",
    "write_ply",
    "write_vxz",
]

File = str | os.PathLike[str] | BinaryIO
Voxels = tuple[torch.Tensor, dict[str, torch.Tensor]]


def read_vxz(file: File, num_threads: int = -1) -> Voxels:
    """coords int32 [N, 3] and attributes uint8 [N, C]. A number of threads below 1 means one a core."""
    return trellis_voxel.read_vxz(file, num_threads=max(num_threads, 0))


def write_vxz(
    file: File,
    coord: torch.Tensor,
    attr: dict[str, torch.Tensor],
    chunk_size: int = 256,
    filter: Literal["none", "parent", "neighbor"] = "none",  # noqa: A002  (upstream's name)
    compression: Literal["none", "deflate", "lzma", "zstd"] = "lzma",
    compression_level: int | None = None,
    attr_interleave: Literal["none", "as_is", "all"] = "as_is",
    num_threads: int = -1,
) -> None:
    """Writes coords [N, 3] and attributes uint8 [N, C], on any device."""
    trellis_voxel.write_vxz(
        file,
        coord.cpu(),
        _on_cpu(attr),
        compression=compression,
        compression_level=compression_level or None,
        filter=filter,
        attr_interleave=attr_interleave,
        chunk_size=chunk_size,
        num_threads=max(num_threads, 0),
    )


def write_npz(file: File, coord: torch.Tensor, attr: dict[str, torch.Tensor], compress: bool = True) -> None:
    """Writes coords [N, 3] and attributes [N, C], on any device."""
    trellis_voxel.write_npz(file, coord.cpu(), _on_cpu(attr), compress=compress)


def write_ply(file: File, coord: torch.Tensor, attr: dict[str, torch.Tensor]) -> None:
    """Writes coords [N, 3] and attributes [N, C], on any device."""
    trellis_voxel.write_ply(file, coord.cpu(), _on_cpu(attr))


def _on_cpu(attr: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in attr.items()}


def read(file_path: str | os.PathLike[str]) -> Voxels:
    """Reads a .vxz, .npz or .ply file."""
    return trellis_voxel.read(file_path)


def write(file_path: str | os.PathLike[str], coord: torch.Tensor, attr: dict[str, torch.Tensor], **kwargs: Any) -> None:
    """Writes a .vxz, .npz or .ply file, by its name; options are those of `write_vxz`, `write_npz` or `write_ply`."""
    writers: dict[str, Any] = {".vxz": write_vxz, ".npz": write_npz, ".ply": write_ply}
    suffix = os.path.splitext(file_path)[1].lower()  # noqa: PTH122  (a str or a path)
    if suffix not in writers:
        raise ValueError(f"file_path: expected a name that ends in .vxz, .npz or .ply, got {os.fspath(file_path)!r}")
    writers[suffix](file_path, coord, attr, **kwargs)
