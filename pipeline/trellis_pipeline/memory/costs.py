"""The memory model: bytes of weights and activations of each stage, from the models' shapes and the token count.

A stage's peak is ``its weights on the device + activations(tokens) + what the run holds beside them``. Weights are
exact: they are summed over the model's own tensors. Activations are the live set at the widest point of each model,
counted from its code; benchmarks/memory.py compares them with measured peaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from ..models.flow import SLatFlowModel, SparseStructureFlowModel
from ..models.slat import FlexiDualGridVaeDecoder, SparseResBlockC2S3d, SparseUnetVaeDecoder
from ..models.structure import SparseStructureDecoder
from .residency import Weights

SIDE = 16
"""Cells along an axis of the structure latent."""
GROWTH = 4.06
"""Voxels of a surface grow by this from one level to the next finer one (docs/memory.md)."""


@dataclass(frozen=True)
class Cost:
    """Device bytes of one model's stage.

    Attributes:
        weights: all of the model on the device.
        streaming: the same while its blocks stream.
        activations: by the number of latent tokens.
    """

    weights: int
    streaming: int
    activations: Callable[[int], int]


def tokens_of_image(size: int, patch: int = 16, special: int = 5) -> int:
    """DINOv3 tokens of a picture of `size`^2: a class, four registers and the patches."""
    return (size // patch) ** 2 + special


def flow_activations(module: Any, context: int, guided: bool) -> Callable[[int], int]:
    """A flow transformer: cross-attention keys and values of all blocks, and the widest point, which is the MLP.

    There the hidden layer lies before and after its GELU, beside the residual stream and two tensors as wide as it.
    """
    block = module.blocks[0]
    width, hidden = module.input_layer.out_features, block.mlp.mlp[0].out_features
    each = block.mlp.mlp[0].weight.element_size()
    keys_values = (context + int(guided)) * len(module.blocks) * 2 * width * each
    latents = 6 * 4 * (module.in_channels + module.out_channels)
    per_token = each * (2 * hidden + 3 * width) + latents
    return lambda tokens: keys_values + per_token * tokens


def decoder_activations(module: SparseUnetVaeDecoder) -> Callable[[int], int]:
    """A sparse U-Net decoder: the largest of its levels' live sets.

    In a ConvNeXt block of width C: the input, the convolution's result and its norm, the MLP's 4 C before and after
    SiLU. Between levels, from C to C': the convolution's 8 C' a voxel, and at the children the gathered tensor, its
    float32 norm, the skip and the second convolution. At the head: the features in float32 before and after the norm.
    Each level has 27 int32 neighbours a voxel, kept with the subdivisions that the texture decoder follows.
    """
    last = len(module.blocks) - 1
    convnext = [len(cast("nn.ModuleList", level)) > (0 if i == last else 1) for i, level in enumerate(module.blocks)]
    widths, each = _widths(module), torch.finfo(module.torso_dtype).bits // 8

    def peak(tokens: int) -> int:
        rows = [tokens * GROWTH**i for i in range(len(widths))]
        most, maps = 0.0, 0.0
        for i, width in enumerate(widths):
            n = rows[i]
            own = 108 * n
            if convnext[i]:
                most = max(most, maps + own + n * width * (each * 12))
            if i + 1 < len(widths):
                fine, narrow = rows[i + 1], widths[i + 1]
                live = n * (width * 2 * each + 8 * narrow * each) + fine * (narrow * (4 * each + 8) + 108 + 16)
                most = max(most, maps + own + live)
            maps += own
        head = rows[-1] * (widths[-1] * (each + 8) + 28)
        return int(max(most, maps + head))

    return peak


def _widths(module: SparseUnetVaeDecoder) -> list[int]:
    between = [cast("nn.ModuleList", level)[-1] for level in list(module.blocks)[:-1]]
    return [module.from_latent.out_features, *(cast("SparseResBlockC2S3d", b).conv2.weight.shape[0] for b in between)]


def structure_activations(module: Any) -> int:
    """The dense decoder: at its finest level the input, a float32 norm before and after, and a convolution's result."""
    side = SIDE * 2 ** sum(1 for m in module.blocks if m.__class__.__name__ == "Upsample")
    width = module.out_layer[2].weight.shape[1]
    return int(side**3 * width * 4 * 5)


def encoder_activations(config: Any, size: int) -> int:
    """DINOv3 in float32: the MLP's hidden layer before and after its GELU, and four tensors as wide as the stream."""
    tokens = tokens_of_image(size, config.patch_size)
    return int(tokens * 4 * (2 * config.intermediate_size + 4 * config.hidden_size))


def cost(weights: Weights, *, context: int, guided: bool) -> Cost:
    """What a model's stage costs.

    Args:
        context: image tokens that a flow is conditioned on.
        guided: whether its sampler runs a second, unconditional pass.
    """
    module: nn.Module = weights.module
    activations: Callable[[int], int]
    if isinstance(module, SparseStructureFlowModel):
        whole = flow_activations(module, context, guided)(module.resolution**3)
        activations = lambda _: whole  # noqa: E731
    elif isinstance(module, SLatFlowModel):
        activations = flow_activations(module, context, guided)
    elif isinstance(module, SparseStructureDecoder):
        dense = structure_activations(module)
        activations = lambda _: dense  # noqa: E731
    elif isinstance(module, (FlexiDualGridVaeDecoder, SparseUnetVaeDecoder)):
        activations = decoder_activations(module)
    else:
        raise TypeError(f"no memory model for {type(module).__name__}")
    return Cost(weights.nbytes, weights.streaming_bytes, activations)
