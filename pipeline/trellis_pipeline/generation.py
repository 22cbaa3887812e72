"""The stages of generation as plain functions: models and what came before go in, the next artifact comes out.

Noise comes from a generator on the CPU and is drawn in the order of the stages, so that a seed means the same on every
device, and the same as upstream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F

from .artifacts import Latent, Structure
from .checkpoint import Normalization, SamplerConfig
from .errors import StageError, require_finite
from .export import VoxelAsset
from .models import replay
from .models.voxels import DecoderError
from .sampling import sample_flow
from .sparse import SparseTensor

Progress = Callable[[int, int], None]

LATENT_SCALE = 16
"""Voxels of the decoded grid along an axis of one latent voxel: four upsamplings by two."""
MAX_TOKENS = 49_152
_CASCADE_STEP, _CASCADE_LEAST = 128, 1024


@dataclass(frozen=True)
class PipelineType:
    """A way through the stages.

    Attributes:
        name: as users give it.
        resolution: of the decoded voxels.
        structure_grid: cells along an axis of the structure.
        low: role of the flow that draws the low-resolution shape of a cascade; None without a cascade.
        shape, texture: roles of the flows at the final resolution.
    """

    name: str
    resolution: int
    structure_grid: int
    low: str | None
    shape: str
    texture: str

    @property
    def roles(self) -> tuple[str, ...]:
        """Models that it needs, in the order of their use."""
        flows = ("sparse_structure_flow_model", "sparse_structure_decoder", self.low, self.shape, self.texture)
        return (*(role for role in flows if role), "shape_slat_decoder", "tex_slat_decoder")


_SHAPE, _TEXTURE = "shape_slat_flow_model", "tex_slat_flow_model"
_KINDS = (
    PipelineType("512", 512, 32, None, f"{_SHAPE}_512", f"{_TEXTURE}_512"),
    PipelineType("1024", 1024, 64, None, f"{_SHAPE}_1024", f"{_TEXTURE}_1024"),
    PipelineType("1024_cascade", 1024, 32, f"{_SHAPE}_512", f"{_SHAPE}_1024", f"{_TEXTURE}_1024"),
    PipelineType("1536_cascade", 1536, 32, f"{_SHAPE}_512", f"{_SHAPE}_1024", f"{_TEXTURE}_1024"),
)
TYPES = {kind.name: kind for kind in _KINDS}


def unconditional(features: torch.Tensor, *, tokens: int = 1) -> torch.Tensor:
    """What stands for "no image": zeros.

    Upstream passes as many zero tokens as the image has. They all give the same key and value, and attention over
    equal keys returns that value whatever their number, so one token is the same and costs a thousandth.
    """
    return torch.zeros_like(features[:, :1]).expand(-1, tokens, -1)


def _sample(model: Any, noise: Any, features: torch.Tensor, config: SamplerConfig, **inputs: Any) -> Any:
    # Where both passes of a guided step run as one batch they need the same number of tokens.
    tokens = features.shape[1] if replay.pays(noise) else 1
    without = unconditional(features, tokens=tokens)
    return sample_flow(model, noise, cond=features, neg_cond=without, **asdict(config), **inputs)


@torch.no_grad()
def sample_structure(
    flow: Any, features: torch.Tensor, config: SamplerConfig, rng: torch.Generator, progress: Progress | None = None
) -> torch.Tensor:
    """The occupancy latent [1, C, R, R, R] for image features [1, L, D]."""
    r = flow.resolution
    noise = torch.randn(1, flow.in_channels, r, r, r, generator=rng).to(features.device)
    latent: torch.Tensor = _sample(flow, noise, features, config, progress=progress)
    require_finite("structure", "occupancy latent", latent)
    return latent


@torch.no_grad()
def decode_structure(decoder: Any, latent: torch.Tensor, grid_size: int) -> Structure:
    """Occupied voxels of a `grid_size`^3 grid: where the decoder says so, or any of the voxels that share a cell.

    Raises:
        StageError: no voxel is occupied, or the decoder's grid does not divide into `grid_size` cells.
    """
    logits = decoder(latent)
    require_finite("occupancy", "occupancy logits", logits)
    occupied = logits > 0
    side = occupied.shape[2]
    if side % grid_size:
        raise StageError("occupancy", f"the decoder's grid of {side}^3 does not divide into {grid_size}^3")
    if side != grid_size:
        occupied = F.max_pool3d(occupied.float(), side // grid_size) > 0.5
    coords = torch.argwhere(occupied)[:, [0, 2, 3, 4]].int()
    if len(coords) == 0:
        raise StageError(
            "occupancy", "no voxel is occupied; the picture shows nothing that the model takes for an object"
        )
    return Structure(coords.contiguous(), grid_size)


def _scale(values: Normalization, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = (torch.tensor(v, dtype=torch.float32, device=like.device)[None] for v in (values.mean, values.std))
    if mean.shape[1] != like.shape[1]:
        raise StageError("normalization", f"expected {like.shape[1]} channels, pipeline.json has {mean.shape[1]}")
    return mean, std


@torch.no_grad()
def sample_shape(
    flow: Any, coords: torch.Tensor, features: torch.Tensor, config: SamplerConfig, normalization: Normalization,
    resolution: int, rng: torch.Generator, progress: Progress | None = None, stage: str = "shape",
) -> Latent:  # fmt: skip
    """The shape latent at `coords` int32 [T, 4] for image features [1, L, D]. `stage` is its name in errors."""
    noise = SparseTensor(torch.randn(len(coords), flow.in_channels, generator=rng).to(coords.device), coords)
    out = _sample(flow, noise, features, config, progress=progress)
    require_finite(stage, "latent", out.feats)
    mean, std = _scale(normalization, out.feats)
    return Latent(coords, out.feats * std + mean, resolution)


@torch.no_grad()
def sample_texture(
    flow: Any, shape: Latent, features: torch.Tensor, config: SamplerConfig, shape_normalization: Normalization,
    normalization: Normalization, rng: torch.Generator, progress: Progress | None = None,
) -> Latent:  # fmt: skip
    """The texture latent at the shape latent's voxels."""
    mean, std = _scale(shape_normalization, shape.feats)
    known = SparseTensor((shape.feats - mean) / std, shape.coords)
    channels = flow.in_channels - known.feats.shape[1]
    noise = known.replace(torch.randn(len(shape.coords), channels, generator=rng).to(shape.coords.device))
    out = _sample(flow, noise, features, config, progress=progress, concat_cond=known)
    require_finite("texture", "latent", out.feats)
    mean, std = _scale(normalization, out.feats)
    return Latent(shape.coords, out.feats * std + mean, shape.resolution)


def quantise(coords: torch.Tensor, low_resolution: int, resolution: int) -> torch.Tensor:
    """Voxels int32 [N, 4] of a `low_resolution` grid -> the latent voxels of a `resolution` grid that they touch."""
    grid = resolution // LATENT_SCALE
    cells = ((coords[:, 1:].float() + 0.5) / low_resolution * grid).long()
    key = ((coords[:, 0].long() * grid + cells[:, 0]) * grid + cells[:, 1]) * grid + cells[:, 2]
    key = torch.unique(key)
    parts = (key // grid**3, key // grid**2 % grid, key // grid % grid, key % grid)
    return torch.stack(parts, 1).int()


@torch.no_grad()
def cascade(
    decoder: Any, low: Latent, resolution: int, max_tokens: int = MAX_TOKENS
) -> tuple[torch.Tensor, int, dict[str, Any]]:
    """Latent voxels of the high-resolution shape from the low-resolution one, decoded to voxels and quantised.

    While there are `max_tokens` or more the resolution drops by 128, to no less than 1024.

    Returns:
        coords int32 [T, 4], the resolution they are for, and what happened, for the manifest.
    """
    try:
        fine = decoder.upsample(SparseTensor(low.feats, low.coords), len(decoder.blocks) - 1)
    except DecoderError as error:
        raise StageError("cascade", str(error)) from None
    if len(fine) == 0:
        raise StageError("cascade", "the low-resolution shape decodes to no voxel")
    asked, tried = resolution, []
    while True:
        coords = quantise(fine, low.resolution, resolution)
        tried.append({"resolution": resolution, "tokens": len(coords)})
        if len(coords) < max_tokens or resolution <= _CASCADE_LEAST:
            break
        resolution = max(_CASCADE_LEAST, resolution - _CASCADE_STEP)
    facts: dict[str, Any] = {"voxels": len(fine), "tokens": len(coords), "resolution": resolution}
    if resolution != asked:
        facts["lowered"] = (
            f"from {asked} to {resolution}: {tried[0]['tokens']:,} tokens reach the limit of {max_tokens:,}"
        )
        facts["tried"] = tried
    return coords, resolution, facts


@dataclass(frozen=True)
class DecodedShape:
    """A dual grid and the subdivisions that led to it, which the texture decoder follows."""

    coords: torch.Tensor
    local_dual: torch.Tensor
    intersected: torch.Tensor
    split_weight: torch.Tensor
    subdivisions: list[SparseTensor]

    def grid_on(self, device: torch.device) -> DecodedShape:
        """The dual grid on another device; the subdivisions stay where they are."""
        return replace(
            self, coords=self.coords.to(device), local_dual=self.local_dual.to(device),
            intersected=self.intersected.to(device), split_weight=self.split_weight.to(device),
        )  # fmt: skip


@torch.no_grad()
def decode_shape(decoder: Any, shape: Latent) -> DecodedShape:
    """The dual grid of a shape latent.

    Raises:
        StageError: no voxel or no crossed edge is left, too many are, or a value is not finite.
    """
    try:
        h, subdivisions = decoder(SparseTensor(shape.feats, shape.coords))
    except DecoderError as error:
        raise StageError("decode_shape", str(error)) from None
    feats = h.feats.float()  # thresholds and vertices in float32, whatever the decoder ran in
    require_finite("decode_shape", "dual grid", feats)
    margin = decoder.voxel_margin
    local = (1 + 2 * margin) * torch.sigmoid(feats[:, :3]) - margin
    crossed = feats[:, 3:6] > 0
    if not bool(crossed.any()):
        raise StageError("decode_shape", f"none of {len(feats):,} voxels has a crossed edge; there is no surface")
    return DecodedShape(h.coords, local, crossed, F.softplus(feats[:, 6]), subdivisions)


@torch.no_grad()
def decode_texture(
    decoder: Any, texture: Latent, subdivisions: list[SparseTensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Voxels int32 [M, 3] and their attributes uint8 by name, at the voxels that the shape's subdivisions chose."""
    out = decoder(SparseTensor(texture.feats, texture.coords), subdivisions)
    values = out.feats.float() * 0.5 + 0.5
    require_finite("decode_texture", "attributes", values)
    bytes_ = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    parts = {"base_color": (0, 3), "metallic": (3, 4), "roughness": (4, 5), "alpha": (5, 6)}
    return out.coords[:, 1:].contiguous(), {k: bytes_[:, a:b].contiguous() for k, (a, b) in parts.items()}


def voxel_asset(shape: DecodedShape, coords: torch.Tensor, attrs: dict[str, torch.Tensor], grid: int) -> VoxelAsset:
    """Shape and attributes as the export road takes them, where the shape is."""
    place = shape.coords.device
    attrs = {name: values.to(place) for name, values in attrs.items()}
    return VoxelAsset(
        shape.coords[:, 1:].contiguous(), shape.local_dual, shape.intersected, shape.split_weight, coords.to(place), attrs,
        grid,
    )  # fmt: skip
