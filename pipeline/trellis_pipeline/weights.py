"""Weights from safetensors: checked against the model before anything is allocated, then mapped, not read.

The file's header alone says whether it fits: a missing or unexpected key and a wrong shape are errors with the key's
name. The tensors themselves stay in the file's pages until a device asks for them.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from torch.overrides import TorchFunctionMode

from .errors import CheckpointError
from .models import from_config

_MAX_HEADER = 100_000_000  # what the safetensors format itself allows
_SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
# Tables that other writers store and that our models compute.
_COMPUTED = ("rope_phases", "pos_emb")


@dataclass(frozen=True)
class Entry:
    """A tensor as a safetensors header describes it."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, Entry]:
    """The tensors that a safetensors file says it holds, after checking that they fill it exactly.

    Raises:
        CheckpointError: not safetensors, truncated, or a header whose offsets lie.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(_MAX_HEADER, size - 8):
            raise CheckpointError(f"{path}: not a safetensors file, or truncated ({size:,} bytes)")
        try:
            content = json.loads(file.read(length))
            content.pop("__metadata__", None)
            spans = sorted((*map(int, entry["data_offsets"]), key) for key, entry in content.items())
            header = {k: Entry(str(v["dtype"]), tuple(map(int, v["shape"]))) for k, v in content.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{path}: its header cannot be read: {error}") from None
    end = 0
    for start, stop, key in spans:
        entry = header[key]
        bytes_each = _SIZES.get(entry.dtype)
        if bytes_each is None:
            raise CheckpointError(f"{path}: {key} has dtype {entry.dtype}; expected one of {', '.join(_SIZES)}")
        if start != end or stop - start != bytes_each * math.prod(entry.shape):
            raise CheckpointError(f"{path}: the bytes of {key} do not fit its shape {list(entry.shape)}")
        end = stop
    if end != size - 8 - length:
        raise CheckpointError(
            f"{path}: its tensors end at byte {end + 8 + length:,} of {size:,}; the file is truncated or has been appended to"
        )
    return header


def check_fit(module: nn.Module, header: dict[str, Entry], path: Path) -> None:
    """Raises CheckpointError where keys or shapes of a file differ from the model's."""
    expected = {k: tuple(v.shape) for k, v in module.state_dict().items()}
    found = {k: e.shape for k, e in header.items() if not any(word in k for word in _COMPUTED)}
    problems = [
        _some("missing", sorted(expected.keys() - found.keys())),
        _some("unexpected", sorted(found.keys() - expected.keys())),
        _some(
            "of another shape",
            [
                f"{k} {list(found[k])}, expected {list(shape)}"
                for k, shape in expected.items()
                if k in found and found[k] != shape
            ],
        ),
    ]
    if any(problems):
        raise CheckpointError(f"{path}: it is not this model's: {'; '.join(p for p in problems if p)}")


def _some(what: str, names: list[str]) -> str:
    return f"{len(names)} keys {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""


_FILLS = ("uniform_", "normal_", "trunc_normal_", "fill_", "zero_", "zeros_", "ones_")


class NoInitialisation(TorchFunctionMode):
    """Skips the filling of new weights, which are replaced; on the meta device it would load torch's decompositions.

    Where there is memory it is set to 0: `trunc_normal_` draws again until it likes what it finds there, for ever if
    nothing is drawn.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _FILLS:
            tensor = args[0] if args else kwargs["tensor"]
            with torch.no_grad():
                return tensor if tensor.is_meta else tensor.zero_()
        return func(*args, **kwargs)


def build(config: dict[str, Any]) -> nn.Module:
    """A model of a checkpoint's json on the meta device: all shapes, no memory."""
    try:
        with torch.device("meta"), NoInitialisation():
            return from_config(config).eval().requires_grad_(False)
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def map_tensors(module: nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a checked file by key, as views of its pages: nothing is read until it is used."""
    check_fit(module, read_header(path), path)
    keys = module.state_dict().keys()
    with safe_open(path, framework="pt", device="cpu") as file:
        return {key: file.get_tensor(key) for key in keys}


def fingerprint(path: Path) -> str:
    """A quick mark of a file's content: a hash of its size, its beginning and 64 pages spread over the rest."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        digest.update(file.read(1 << 20))
        for i in range(64):
            file.seek(size * i // 64)
            digest.update(file.read(4096))
    return digest.hexdigest()[:32]
