"""The models of the TRELLIS.2 family, by the class names that checkpoints use."""

from __future__ import annotations

from typing import Any

from torch import nn

from .flow import SLatFlowModel, SparseStructureFlowModel
from .slat import FlexiDualGridVaeDecoder, FlexiDualGridVaeEncoder, SparseUnetVaeDecoder, SparseUnetVaeEncoder
from .structure import SparseStructureDecoder, SparseStructureEncoder

CLASSES: dict[str, type[nn.Module]] = {
    "SparseStructureFlowModel": SparseStructureFlowModel,
    "SparseStructureEncoder": SparseStructureEncoder,
    "SparseStructureDecoder": SparseStructureDecoder,
    "SLatFlowModel": SLatFlowModel,
    "ElasticSLatFlowModel": SLatFlowModel,  # the same model with training-time memory management
    "FlexiDualGridVaeEncoder": FlexiDualGridVaeEncoder,
    "FlexiDualGridVaeDecoder": FlexiDualGridVaeDecoder,
    "SparseUnetVaeEncoder": SparseUnetVaeEncoder,
    "SparseUnetVaeDecoder": SparseUnetVaeDecoder,
}


def from_config(config: dict[str, Any]) -> nn.Module:
    """A model from the ``{"name", "args"}`` of a checkpoint's json, with random weights.

    Raises:
        ValueError: an unknown name, or arguments that the model does not take.
    """
    name, arguments = config.get("name"), config.get("args", {})
    if name not in CLASSES:
        raise ValueError(f"name: expected one of {', '.join(CLASSES)}, got {name!r}")
    try:
        return CLASSES[name](**arguments)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


__all__ = ["CLASSES", "from_config", *sorted({c.__name__ for c in CLASSES.values()})]
