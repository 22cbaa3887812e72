"""What passes between the stages of generation. Each is frozen, can be looked at, saved and taken up again."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from trellis_regression.whole import write_whole

from .errors import CheckpointError

T = TypeVar("T")


@dataclass(frozen=True)
class Conditioning:
    """Image features.

    Attributes:
        low: float32 [1, L, D], of the picture at 512^2.
        high: the same at 1024^2, or None where the type does not use it.
    """

    low: torch.Tensor
    high: torch.Tensor | None


@dataclass(frozen=True)
class Structure:
    """Which voxels of a coarse grid the object occupies.

    Attributes:
        coords: int32 [N, 4], (0, x, y, z), in ascending order.
        grid_size: cells along an axis.
    """

    coords: torch.Tensor
    grid_size: int


@dataclass(frozen=True)
class Latent:
    """A structured latent, with its channels' own mean and spread (not normalised).

    Attributes:
        coords: int32 [T, 4].
        feats: float32 [T, C].
        resolution: of the voxel grid that it decodes to; the latent's own grid is 16 times coarser.
    """

    coords: torch.Tensor
    feats: torch.Tensor
    resolution: int


def to_device(artifact: T, device: torch.device) -> T:
    """The artifact with its tensors on `device`."""

    def move(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device)
        return {k: v.to(device) for k, v in value.items()} if isinstance(value, dict) else value

    return type(artifact)(**{f.name: move(getattr(artifact, f.name)) for f in fields(artifact)})  # type: ignore[arg-type]


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def save(artifact: Any, path: Path, *, rng: torch.Tensor | None = None) -> None:
    """Writes an artifact as .safetensors: tensors as they are, all else as JSON in the metadata.

    Args:
        rng: state of the noise generator after the stage, so that a resumed run continues with the same noise.
    """
    tensors: dict[str, torch.Tensor] = {} if rng is None else {"__rng__": rng}
    plain: dict[str, Any] = {}
    for field in fields(artifact):
        value = getattr(artifact, field.name)
        if isinstance(value, torch.Tensor):
            tensors[field.name] = value.contiguous().cpu()
        elif isinstance(value, dict):
            tensors |= {f"{field.name}.{k}": v.contiguous().cpu() for k, v in value.items()}
        else:
            plain[field.name] = value
    metadata = {"stage": type(artifact).__name__, "fields": json.dumps(plain)}

    def write(file: Path) -> None:
        try:
            save_file(tensors, file, metadata=metadata)
        except SafetensorError as error:  # a full disk comes as one
            raise OSError(None, f"it cannot be written: {error}", str(path)) from None

    write_whole(path, write)


def load(kind: type[T], path: Path) -> tuple[T, torch.Tensor | None]:
    """What `save` wrote, on the CPU, and the state of the noise generator.

    Raises:
        CheckpointError: the file holds another stage, or cannot be read.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("stage") != kind.__name__:
                raise CheckpointError(f"{path}: expected a saved {kind.__name__}, got {metadata.get('stage')}")
            # Copied out of the file, which the run may replace.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        plain = json.loads(metadata["fields"])
        rng = tensors.pop("__rng__", None)
        values: dict[str, Any] = {}
        for field in fields(kind):  # type: ignore[arg-type]
            name = field.name
            nested = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
            if name in tensors:
                values[name] = tensors[name]
            elif nested:
                values[name] = nested
            else:
                values[name] = _tuples(plain[name])
        return kind(**values), rng
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        if isinstance(error, (CheckpointError, FileNotFoundError)):
            raise
        raise CheckpointError(f"{path}: it cannot be read as a saved stage: {error}") from None
