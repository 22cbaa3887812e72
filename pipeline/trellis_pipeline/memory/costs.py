"""The memory model: bytes of weights and activations of each stage, from the models' shapes and the token count.

A stage's peak is ``its weights on the device + activations(tokens) + what the run holds beside them``. Weights are
exact: they are summed over the model's own tensors. Activations are the live set at the widest point of each model,
counted from its code; benchmarks/memory.py compares them with measured peaks, and tests/test_peaks.py holds them to those
of smaller models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from ..models.flow import SLatFlowModel, SparseStructureFlowModel
from ..models.replay import MOST_TOKENS
from ..models.slat import (
    HIDDEN_ELEMENTS,
    SparseResBlockC2S3d,
    SparseUnetVaeDecoder,
)
from ..models.structure import SparseStructureDecoder
from .export import ExportSizes
from .residency import Weights

SIDE = 16
"""Cells along an axis of the structure latent."""
GROWTH = 4.06
"""Voxels of a surface grow by this from one level to the next finer one (docs/memory.md)."""


WORKSPACE = 33 << 20
"""Scratch memory that cuBLAS keeps for each stream it works on (Hopper; less elsewhere)."""
PARTS = (1, 4, 16)
"""Into how many parts a decoder's finest level may be cut."""
_MAP = 27 * 4 + 16 + 4
"""Bytes a voxel of a level that is kept: neighbour map, coordinates, plan."""
_TABLE, _PLANNING = 60, 28
"""Bytes a voxel while a neighbour map is made, and for each row of a part whose convolution makes its own plan."""


@dataclass(frozen=True)
class Cost:
    """Device bytes of one model's stage.

    Attributes:
        weights: all of the model on the device.
        streaming: the same while its blocks stream.
        activations: by the number of latent tokens.
        recorded: what recordings of passes hold beside them, by the number of tokens; none while weights stream.
        decoder: activations by tokens, parts and (if they are known) finest voxels, of models that can work in parts.
    """

    weights: int
    streaming: int
    activations: Callable[[int], int]
    recorded: Callable[[int], int] = lambda _: 0
    decoder: Callable[[int, int, int | None], int] | None = None


def tokens_of_image(size: int, patch: int = 16, special: int = 5) -> int:
    """DINOv3 tokens of a picture of `size`^2: a class, four registers and the patches."""
    return (size // patch) ** 2 + special


def flow_activations(module: Any, context: int, guided: bool) -> tuple[Callable[[int], int], Callable[[int], int]]:
    """A flow transformer's activations, and what its recordings hold, by the number of tokens.

    Cross-attention keys and values of all blocks, and the widest point, which is the MLP: there its hidden layer lies
    beside seven tensors of the stream's width (its input and result, the residual stream, and that stream and its
    update as the block and its half found them). Few tokens run both passes of a guided step as one batch, with as
    many zero tokens as the image has, and record them; else "no image" is a single token.
    """
    block = module.blocks[0]
    width, hidden = int(module.input_layer.out_features), int(block.mlp.mlp[0].out_features)
    each = int(block.mlp.mlp[0].weight.element_size())
    keys_values = len(module.blocks) * 2 * width * each
    per_token: int = each * (hidden + 7 * width) + 6 * 4 * (module.in_channels + module.out_channels)

    def pairs(tokens: int) -> bool:
        return guided and tokens <= MOST_TOKENS

    def pass_bytes(tokens: int) -> int:
        return per_token * tokens * (2 if pairs(tokens) else 1)

    def activations(tokens: int) -> int:
        seen = 2 * context if pairs(tokens) else context + int(guided)
        streams = 2 if tokens <= MOST_TOKENS else 1
        return keys_values * seen + pass_bytes(tokens) + streams * WORKSPACE

    return activations, lambda tokens: pass_bytes(tokens) if tokens <= MOST_TOKENS else 0


def decoder_activations(
    module: SparseUnetVaeDecoder, *, voxels_only: bool = False
) -> Callable[[int, int, int | None], int]:
    """A sparse U-Net decoder: the largest of its levels' live sets, with what earlier levels leave.

    Each level leaves its map and its logits, which the texture decoder follows. In a ConvNeXt block of width C: input,
    convolution and norm, or input, norm (which becomes the result) and a part of the MLP's hidden layer. Between levels,
    from C to C': input, norm and the convolution's 8 C' a voxel; that and the norm of the children that exist; and for
    these the norm, the second convolution's result (then that without and with the skip) and the map.

    Args:
        voxels_only: the last upsampling only says where its voxels are, as in a cascade.
    """
    last = len(module.blocks) - 1
    convnext = [len(cast("nn.ModuleList", level)) > (0 if i == last else 1) for i, level in enumerate(module.blocks)]
    widths, each = _widths(module), torch.finfo(module.torso_dtype).bits // 8
    channels = module.output_layer.out_features

    def peak(tokens: int, parts: int = 1, voxels: int | None = None) -> int:
        growth = GROWTH if voxels is None else (max(voxels, 1) / max(tokens, 1)) ** (1 / max(last, 1))
        rows = [tokens * growth**i for i in range(last + 1)]
        most = kept = 0.0
        for i, (n, width) in enumerate(zip(rows, widths, strict=True)):
            kept += n * _MAP
            if convnext[i]:
                hidden, one = min(n * 4 * width, HIDDEN_ELEMENTS), n * width * each
                most = max(most, kept + max(3 * one, 2 * one + each * hidden))
            if i == last:
                break
            kept += n * 8 * each
            m, narrow = rows[i + 1], widths[i + 1]
            coarse, fine, grown = n * width * each, m * narrow * each, m * 24
            if i + 1 == last and voxels_only:
                most = max(most, kept + coarse + m * 48)
                continue
            children = n * 8 * narrow * each
            whole = max(2 * coarse + children, coarse + children + fine, coarse + 2 * fine + m * (_MAP - 16))
            if i + 1 == last and parts > 1 and not convnext[last]:
                first = 2 * coarse + fine + (children + fine) / parts
                working = m * 4 * channels + (2 * fine + m * _PLANNING) / parts
                second = coarse + fine + m * (_MAP - 16) + max(working, m * _TABLE)
                whole = max(first, second)
            most = max(most, kept + whole + grown)
        if not voxels_only and parts == 1:
            most = max(most, kept + rows[-1] * (widths[-1] * each + 4 * channels + 8))
        return int(most) + WORKSPACE

    return peak


def _widths(module: SparseUnetVaeDecoder) -> list[int]:
    between = [cast("nn.ModuleList", level)[-1] for level in list(module.blocks)[:-1]]
    return [module.from_latent.out_features, *(cast("SparseResBlockC2S3d", b).conv2.weight.shape[0] for b in between)]


def structure_activations(module: Any) -> int:
    """The dense decoder: before its last convolution the features as they are, and thrice in float32, around the norm."""
    side = SIDE * 2 ** sum(1 for m in module.blocks if m.__class__.__name__ == "Upsample")
    width = module.out_layer[2].weight.shape[1]
    each = next(module.middle_block[0].conv1.parameters()).element_size()
    return int(side**3 * width * (each + 3 * 4))


def encoder_activations(config: Any, size: int) -> int:
    """DINOv3 in float32: the MLP's hidden layer before and after its GELU, and four tensors as wide as the stream."""
    tokens = tokens_of_image(size, config.patch_size)
    return int(tokens * 4 * (2 * config.intermediate_size + 4 * config.hidden_size)) + WORKSPACE


def export_cost(faces: int | None, texture: int, remeshed: bool, *, opaque: bool = False) -> Cost:
    """The export as a stage without a model, by the tokens of the shape latent or by its voxels.

    Args:
        faces: that the asset is simplified to.
        texture: side in texels.
        remeshed: whether the surface is closed anew.
        opaque: whether the textures have no alpha.
    """

    def peak(tokens: int, _: int = 1, voxels: int | None = None) -> int:
        count = int(tokens * GROWTH**4) if voxels is None else voxels
        return ExportSizes.expected(count, faces, texture, remeshed, opaque=opaque).peak

    return Cost(0, 0, peak, decoder=peak)


def cost(weights: Weights, *, context: int, guided: bool, voxels_only: bool = False) -> Cost:
    """What a model's stage costs.

    Args:
        context: image tokens that a flow is conditioned on.
        guided: whether its sampler runs a second, unconditional pass.
        voxels_only: of the shape decoder, whether the voxels of a cascade are all that is wanted.
    """
    module: nn.Module = weights.module
    whole, streaming = weights.nbytes, weights.streaming_bytes
    if isinstance(module, SparseStructureFlowModel):
        activations, recorded = (of(module.resolution**3) for of in flow_activations(module, context, guided))
        return Cost(whole, streaming, lambda _: activations, lambda _: recorded)
    if isinstance(module, SLatFlowModel):
        return Cost(whole, streaming, *flow_activations(module, context, guided))
    if isinstance(module, SparseStructureDecoder):
        dense = structure_activations(module)
        return Cost(whole, streaming, lambda _: dense)
    if isinstance(module, SparseUnetVaeDecoder):
        of = decoder_activations(module, voxels_only=voxels_only)
        return Cost(whole, streaming, lambda tokens: of(tokens, 1, None), decoder=None if voxels_only else of)
    raise TypeError(f"no memory model for {type(module).__name__}")
