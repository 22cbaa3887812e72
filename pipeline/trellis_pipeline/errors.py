"""Errors of the pipeline. All are ValueErrors: the command prints them as one line and exits with status 2."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch


class CheckpointError(ValueError):
    """A checkpoint is missing, incomplete, or not what its configuration says."""


class ImageError(ValueError):
    """An input image cannot serve."""


class MemoryPlanError(ValueError):
    """A run cannot fit the memory that it was given."""


class StageError(ValueError):
    """A stage's result is unusable. `stage` is its name."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(f"stage {stage}: {message}")
        self.stage = stage


def require_finite(stage: str, name: str, values: torch.Tensor) -> None:
    """Raises StageError where `values` holds a NaN or an infinity. Synchronises on CUDA."""
    bad = int((~torch.isfinite(values)).sum())
    if bad:
        raise StageError(stage, f"{bad:,} of {values.numel():,} values of the {name} are not finite")


def require_finite_fields(stage: str, artifact: Any) -> None:
    """The same for every floating tensor of a dataclass, by its field's name."""
    for field in fields(artifact):
        value = getattr(artifact, field.name)
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            require_finite(stage, field.name.replace("_", " "), value)


def first_line(error: BaseException) -> str:
    """What an error of another library says, in one line; its name if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
