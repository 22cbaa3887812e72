"""The sparse U-Net autoencoders: dual grid (shape) and voxel attributes (texture) <-> structured latents.

Levels go from coarse to fine in the decoder: residual ConvNeXt blocks (Liu et al. 2022) and, between levels, an
upsampling whose convolution writes all eight children at once, of which only those with a positive logit stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
import trellis_sparse
import trellis_voxel
from torch import nn

from ..sparse import SparseTensor
from .nearest import SparseResBlock3d, SparseResBlockDownsample3d, SparseResBlockUpsample3d
from .transformer import LayerNorm32
from .voxels import DecoderError, Growth, SparseConv3d, Upsampling, children_as_channels, gathered

HIDDEN_ELEMENTS = 1 << 26  # 128 MiB in half precision: few launches, and little beside the features of a whole level
_LEAST_PART = 1 << 15  # rows; smaller parts would save nothing, and convolve by another plan, with other rounding


class SparseConvNeXtBlock3d(nn.Module):
    def __init__(self, channels: int, mlp_ratio: float = 4.0, use_checkpoint: bool = False) -> None:
        super().__init__()
        self.norm = LayerNorm32(channels, eps=1e-6)
        self.conv = SparseConv3d(channels, channels)
        hidden = int(channels * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.SiLU(), nn.Linear(hidden, channels))

    def forward(self, x: SparseTensor) -> SparseTensor:
        if torch.is_grad_enabled():
            return x.replace(self.mlp(self.norm(self.conv(x).feats)) + x.feats)
        first, last = cast("nn.Linear", self.mlp[0]), cast("nn.Linear", self.mlp[2])
        # The hidden features are four times as wide as all else, and are made in parts.
        feats = trellis_sparse.convnext(
            x.feats, x.plan, (self.conv.weight, self.conv.bias), (self.norm.weight, self.norm.bias),
            (first.weight, first.bias), (last.weight, last.bias), eps=self.norm.eps, hidden_elements=HIDDEN_ELEMENTS,
        )  # fmt: skip
        return x.replace(feats)


class SparseResBlockC2S3d(Upsampling):
    """Upsampling by 2: channels of a voxel become its children (channel to space)."""

    def __init__(
        self, channels: int, out_channels: int, pred_subdiv: bool = True, use_checkpoint: bool = False
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(channels, eps=1e-6)
        self.norm2 = LayerNorm32(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, 8 * out_channels)
        self.conv2 = SparseConv3d(out_channels, out_channels)
        if pred_subdiv:
            self.to_subdiv = nn.Linear(channels, 8)

    def forward(self, x: SparseTensor, growth: Growth) -> SparseTensor:
        """The tensor at the finer voxels."""
        h = self.conv1(x.replace(self.norm1(x.feats, "silu"))).feats
        # Eight children for each voxel, of which the finer tensor has those that exist.
        h = self.norm2.of_rows(h.reshape(-1, h.shape[1] // 8), growth.row, "silu")
        h = self.conv2(growth.voxels.replace(h)).feats
        return growth.voxels.replace(self._with_skip(h, x, growth.row))

    def _with_skip(self, out: torch.Tensor, x: SparseTensor, row: torch.Tensor) -> torch.Tensor:
        # Each channel of the parent serves several of its child's.
        return trellis_sparse.add_shares(out, x.feats.reshape(-1, x.feats.shape[1] // 8), row)

    def in_parts(
        self, x: SparseTensor, growth: Growth, parts: int, finish: Callable[[torch.Tensor], torch.Tensor]
    ) -> SparseTensor:
        """`finish`, which works on each row for itself, of what `forward` gives, holding less at a time.

        Convolutions make their results in parts of rows. All children of a part of the parents are made at once, and
        only those that exist are kept; and of the result no more than a part is ever there, but for what `finish`
        makes of it.
        """
        row, width = growth.row, self.conv2.weight.shape[0]
        normed = x.replace(self.norm1(x.feats, "silu"))
        feats = x.feats.new_empty((len(row), width))
        for part in _parts(len(x.feats), parts):
            ends = torch.tensor([8 * part.start, 8 * part.stop], device=row.device)
            own = slice(*torch.searchsorted(row, ends).tolist())  # children stand in the order of their parents
            children = self.conv1.at(normed, part).view(-1, width)
            feats[own] = self.norm2.of_rows(children, row[own] - 8 * part.start, "silu")
            del children
        del normed
        fine, out = growth.voxels.replace(feats), None
        for part in _parts(len(row), parts):
            done = finish(self._with_skip(self.conv2.at(fine, part), x, row[part]))
            if out is None:
                out = done.new_empty((len(row), *done.shape[1:]))
            out[part] = done
        return fine.replace(finish(feats) if out is None else out)


def _parts(rows: int, parts: int) -> Iterator[slice]:
    """`rows` in at most `parts` slices of about the same size, none of less than `_LEAST_PART` rows."""
    parts = max(1, min(parts, rows // _LEAST_PART))
    step = -(-rows // (64 * parts)) * 64
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step or 1))


class SparseResBlockS2C3d(nn.Module):
    """Downsampling by 2: children become channels of their parent (space to channel), absent ones as zeros."""

    def __init__(self, channels: int, out_channels: int, use_checkpoint: bool = False) -> None:
        super().__init__()
        self.norm1 = LayerNorm32(channels, eps=1e-6)
        self.norm2 = LayerNorm32(out_channels, eps=1e-6, elementwise_affine=False)
        self.conv1 = SparseConv3d(channels, out_channels // 8)
        self.conv2 = SparseConv3d(out_channels, out_channels)
        self.out_channels = out_channels

    def forward(self, x: SparseTensor) -> SparseTensor:
        coords, row = children_as_channels(x)
        made = self.conv1(x.replace(self.norm1(x.feats, "silu"))).feats
        h = SparseTensor(gathered(made, row, len(coords)).flatten(1), coords)
        h = h.replace(self.norm2(h.feats, "silu"))
        skip = gathered(x.feats, row, len(coords)).flatten(1).unflatten(1, (self.out_channels, -1)).mean(2)
        return h.replace(self.conv2(h).feats + skip)


_BLOCKS = {
    "SparseConvNeXtBlock3d": SparseConvNeXtBlock3d,
    "SparseResBlockC2S3d": SparseResBlockC2S3d,
    "SparseResBlockS2C3d": SparseResBlockS2C3d,
    "SparseResBlock3d": SparseResBlock3d,
    "SparseResBlockUpsample3d": SparseResBlockUpsample3d,
    "SparseResBlockDownsample3d": SparseResBlockDownsample3d,
}


def _block(name: str) -> Any:
    if name not in _BLOCKS:
        raise ValueError(f"block type: expected one of {', '.join(_BLOCKS)}, got {name!r}")
    return _BLOCKS[name]


def _levels(
    channels: list[int],
    counts: list[int],
    kinds: list[str],
    between: list[str],
    arguments: list[dict[str, Any]],
    **extra: Any,
) -> nn.ModuleList:
    levels = []
    for i, width in enumerate(channels):
        level = [_block(kinds[i])(width, **arguments[i]) for _ in range(counts[i])]
        if i + 1 < len(channels):
            level.append(_block(between[i])(width, channels[i + 1], **arguments[i], **extra))
        levels.append(nn.ModuleList(level))
    return nn.ModuleList(levels)


class SparseUnetVaeEncoder(nn.Module):
    """Voxel features -> mean and log-variance of a latent at voxels 2^(levels - 1) times coarser."""

    def __init__(
        self, *, in_channels: int, model_channels: list[int], latent_channels: int, num_blocks: list[int],
        block_type: list[str], down_block_type: list[str], block_args: list[dict[str, Any]], use_fp16: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.input_layer = nn.Linear(in_channels, model_channels[0])
        self.to_latent = nn.Linear(model_channels[-1], 2 * latent_channels)
        self.blocks = _levels(model_channels, num_blocks, block_type, down_block_type, block_args)
        self.torso_dtype = torch.float16 if use_fp16 else torch.float32
        _to_torso_dtype(self.blocks, self.torso_dtype)

    def forward(self, x: SparseTensor) -> tuple[SparseTensor, SparseTensor]:
        h = x.replace(self.input_layer(x.feats).to(self.torso_dtype))
        for level in self.blocks:
            for block in cast("nn.ModuleList", level):
                h = block(h)
        feats = h.feats.to(x.feats.dtype)
        mean, logvar = self.to_latent(F.layer_norm(feats, feats.shape[-1:])).chunk(2, 1)
        return h.replace(mean), h.replace(logvar)


class FlexiDualGridVaeEncoder(SparseUnetVaeEncoder):
    """Dual vertices (voxel units) and crossing flags -> latent."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(in_channels=6, **arguments)

    def forward(self, dual_vertices: SparseTensor, intersected: SparseTensor) -> tuple[SparseTensor, SparseTensor]:  # type: ignore[override]
        feats = torch.cat([dual_vertices.feats - 0.5, intersected.feats.to(dual_vertices.feats.dtype) - 0.5], 1)
        return super().forward(dual_vertices.replace(feats))


class VoxelLimitError(DecoderError):
    """A decoder would make more voxels than it may."""

    def __init__(self, level: int, voxels: int, limit: int) -> None:
        super().__init__(f"upsampling {level} would make {voxels:,} voxels, and at most {limit:,} are taken")


class SparseUnetVaeDecoder(nn.Module):
    """Latent -> features at voxels 2^(levels - 1) times finer, of which only the ones a shape has are made.

    Attributes:
        most_voxels: more are refused, at any level: a surface at 1536^3 has some 6 million, and weights or a latent gone
            wrong can ask for eight times as many at each level.
        parts_for: says from the number of finest voxels in how many parts their level is made (see `in_parts`), or
            refuses; set by what plans memory. None makes it whole.
    """

    most_voxels: int = 1 << 26
    parts_for: Callable[[int], int] | None = None

    def __init__(
        self, *, out_channels: int, model_channels: list[int], latent_channels: int, num_blocks: list[int],
        block_type: list[str], up_block_type: list[str], block_args: list[dict[str, Any]], use_fp16: bool = False,
        pred_subdiv: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.output_layer = nn.Linear(model_channels[-1], out_channels)
        self.from_latent = nn.Linear(latent_channels, model_channels[0])
        self.blocks = _levels(
            model_channels, num_blocks, block_type, up_block_type, block_args, pred_subdiv=pred_subdiv
        )
        self.torso_dtype = torch.float16 if use_fp16 else torch.float32
        _to_torso_dtype(self.blocks, self.torso_dtype)

    def _run(
        self, z: SparseTensor, subdivisions: list[SparseTensor] | None, levels: int
    ) -> tuple[SparseTensor, Growth | None, list[SparseTensor]]:
        """The features before the upsampling number `levels`, what that makes, and all logits up to and with it."""
        known = [] if subdivisions is None else self._structure(z, subdivisions)
        h, growth = z.replace(self.from_latent(z.feats).to(self.torso_dtype)), None
        logits: list[SparseTensor] = []
        for i, level in enumerate(self.blocks):
            if i < len(known):
                h = known[i].logits.replace(h.feats)
            for block in cast("nn.ModuleList", level):
                if not isinstance(block, Upsampling):
                    h = block(h)
                    continue
                growth = known[i] if known else self._limited(i, block.grow(h))
                logits.append(growth.logits)
                if len(logits) == levels:
                    return h, growth, logits
                h = block(h, growth)
        return h, growth, logits

    def _structure(self, z: SparseTensor, subdivisions: list[SparseTensor]) -> list[Growth]:
        """What each upsampling makes, with the neighbour maps and plans of the levels.

        All are made before any features: the host must wait for the device to learn how large each level is, and runs
        ahead of it afterwards. Maps that the shape's decoder made serve again. The finest level's, the largest, waits
        until it is needed where memory is planned.
        """
        grown, voxels = [], z
        for i, given in enumerate(subdivisions):
            logits = _onto(given, voxels)
            logits.adopt(voxels)
            _ = logits.plan
            voxels.adopt(logits)
            grown.append(self._limited(i, Growth.by(logits)))
            voxels = grown[-1].voxels
        if self.parts_for is None:
            _ = voxels.plan
        return grown

    def _limited(self, i: int, growth: Growth) -> Growth:
        if len(growth.row) > self.most_voxels:
            raise VoxelLimitError(i + 1, len(growth.row), self.most_voxels)
        return growth

    def _decode(
        self, z: SparseTensor, subdivisions: list[SparseTensor] | None
    ) -> tuple[SparseTensor, list[SparseTensor]]:
        """Output features at the finest voxels, and the logits of each upsampling."""
        finest = cast("nn.ModuleList", self.blocks[-1])
        h, growth, logits = self._run(z, subdivisions, len(self.blocks) - 1)

        def head(feats: torch.Tensor) -> torch.Tensor:
            layer = self.output_layer
            if z.feats.dtype == layer.weight.dtype == torch.float32:
                return trellis_sparse.norm_linear(feats, layer.weight, layer.bias, eps=1e-5)
            feats = feats.to(z.feats.dtype)
            return layer(F.layer_norm(feats, feats.shape[-1:]))

        if growth is not None:
            upsample = cast("nn.ModuleList", self.blocks[-2])[-1]
            parts = 1 if self.parts_for is None else self.parts_for(len(growth.row))
            if parts > 1 and not len(finest) and isinstance(upsample, SparseResBlockC2S3d):
                return upsample.in_parts(h, growth, parts, head), logits
            h = upsample(h, growth)
            for block in finest:
                h = block(h)
        return h.replace(head(h.feats)), logits

    def forward(self, z: SparseTensor, subdivisions: list[SparseTensor] | None = None) -> Any:
        """Features [N, out_channels] at the voxels that `subdivisions`, one tensor of logits a level, choose.

        Args:
            subdivisions: None for a decoder that predicts its own (`pred_subdiv`).

        Raises:
            ValueError: another number of subdivisions than upsamplings, or voxels that do not match.
            VoxelLimitError: more voxels than `most_voxels`.
        """
        if subdivisions is not None and len(subdivisions) != len(self.blocks) - 1:
            raise ValueError(f"subdivisions: expected {len(self.blocks) - 1} levels, got {len(subdivisions)}")
        return self._decode(z, subdivisions)[0]


class FlexiDualGridVaeDecoder(SparseUnetVaeDecoder):
    """Latent -> dual grid: raw dual vertex (3), edge logits (3), split weight (1) at each voxel."""

    def __init__(self, *, resolution: int, voxel_margin: float = 0.5, **arguments: Any) -> None:
        super().__init__(out_channels=7, **arguments)
        self.resolution, self.voxel_margin = resolution, voxel_margin

    def forward(self, z: SparseTensor) -> tuple[SparseTensor, list[SparseTensor]]:  # type: ignore[override]
        """Seven raw channels at the finest voxels, and the subdivision logits of each level for the texture decoder."""
        return self._decode(z, None)

    def upsample(self, z: SparseTensor, levels: int) -> torch.Tensor:
        """The voxels int32 [N, 4] that `levels` upsamplings of z would have, without decoding further."""
        growth = self._run(z, None, levels)[1] if levels else None
        return z.coords if growth is None else growth.voxels.coords

    def to_mesh(self, h: SparseTensor, *, resolution: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Vertices float32 [V, 3] in [-0.5, 0.5] and faces int32 [F, 3] of one decoded asset.

        For callers of the models alone, the parity check among them; the pipeline has its own way (`export/shape.py`).

        Raises:
            ValueError: more than one batch entry.
        """
        if len(h.lengths) > 1:
            raise ValueError(f"h: expected one batch entry, got {len(h.lengths)}")
        feats = h.feats.float()  # thresholds and vertices in float32, whatever the decoder ran in
        local = (1 + 2 * self.voxel_margin) * torch.sigmoid(feats[:, :3]) - self.voxel_margin
        return trellis_voxel.dual_grid_to_mesh(
            h.coords[:, 1:].contiguous(), local, feats[:, 3:6] > 0, F.softplus(feats[:, 6:7]),
            aabb=[[-0.5] * 3, [0.5] * 3], grid_size=resolution or self.resolution,
        )  # fmt: skip


def _to_torso_dtype(blocks: nn.ModuleList, dtype: torch.dtype) -> None:
    """Convolutions and linear layers take the torso's dtype; norms keep the float32 in which they are stored."""
    for module in blocks.modules():
        if isinstance(module, (SparseConv3d, nn.Linear)):
            module.to(dtype)


def _onto(logits: SparseTensor, h: SparseTensor) -> SparseTensor:
    """`logits` in the row order of `h`, whose voxels must be the same; with their own neighbour map if that fits."""
    if torch.equal(logits.coords, h.coords):
        return logits
    if len(logits.coords) != len(h.coords):
        raise ValueError(f"subdivisions: expected logits at {len(h.coords)} voxels, got {len(logits.coords)}")

    def key(coords: torch.Tensor) -> torch.Tensor:
        c = coords.long()
        return ((c[:, 0] * 65536 + c[:, 1]) * 65536 + c[:, 2]) * 65536 + c[:, 3]

    ours, theirs = torch.argsort(key(h.coords)), torch.argsort(key(logits.coords))
    if not torch.equal(h.coords[ours], logits.coords[theirs]):
        raise ValueError("subdivisions: expected logits at the voxels of the latent's level")
    feats = torch.empty_like(logits.feats)
    feats[ours] = logits.feats[theirs]
    return h.replace(feats)
