"""The dense autoencoder of the sparse structure: occupancy 64^3 <-> latent 16^3."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from .transformer import LayerNorm32


class ChannelNorm(LayerNorm32):
    """LayerNorm over the channels of [B, C, D, H, W]."""

    def forward(self, x: torch.Tensor, activation: str = "identity") -> torch.Tensor:
        return super().forward(x.movedim(1, -1), activation).movedim(-1, 1)


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "layer":
        return ChannelNorm(channels)
    if kind == "group":
        return nn.GroupNorm(32, channels)
    raise ValueError(f"norm_type: expected 'layer' or 'group', got {kind!r}")


class ResBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv1(self.norm1(x, "silu"))
        return x + self.conv2(self.norm2(h, "silu"))


class Downsample(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, out_channels, 2, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """A convolution to 8 times the channels, which become 2 x 2 x 2 voxels (pixel shuffle, Shi et al. 2016)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.conv(x).unflatten(1, (-1, 2, 2, 2))  # [B, C, i, j, k, D, H, W]
        h = h.permute(0, 1, 5, 2, 6, 3, 7, 4)
        return h.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _exact() -> Any:
    """cuDNN without TF32, whose rounding moves logits across the threshold, and with algorithms that repeat their bits."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


class _Structure(nn.Module):
    """The torso runs in the dtype of its weights, input and output layers in that of theirs."""

    blocks: nn.ModuleList
    middle_block: nn.Sequential

    def _to_torso_dtype(self, use_fp16: bool) -> None:
        if use_fp16:
            for module in [*self.blocks.modules(), *self.middle_block.modules()]:
                if isinstance(module, nn.Conv3d):  # norms stay in float32, as their weights are stored
                    module.half()

    @property
    def _torso_dtype(self) -> torch.dtype:
        return next(
            m for m in [*self.middle_block.modules(), *self.blocks.modules()] if isinstance(m, nn.Conv3d)
        ).weight.dtype


class SparseStructureEncoder(_Structure):
    """Occupancy [B, in_channels, R, R, R] -> mean latent [B, latent_channels, R / 4, R / 4, R / 4]."""

    def __init__(
        self, *, in_channels: int, latent_channels: int, num_res_blocks: int, channels: list[int],
        num_res_blocks_middle: int = 2, norm_type: str = "layer", use_fp16: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.input_layer = nn.Conv3d(in_channels, channels[0], 3, padding=1)
        layers: list[nn.Module] = []
        for i, width in enumerate(channels):
            layers += [ResBlock(width) for _ in range(num_res_blocks)]
            if i + 1 < len(channels):
                layers.append(Downsample(width, channels[i + 1]))
        self.blocks = nn.ModuleList(layers)
        self.middle_block = nn.Sequential(*(ResBlock(channels[-1]) for _ in range(num_res_blocks_middle)))
        self.out_layer = nn.Sequential(
            _norm(norm_type, channels[-1]), nn.SiLU(), nn.Conv3d(channels[-1], 2 * latent_channels, 3, padding=1)
        )
        self._to_torso_dtype(use_fp16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.moments(x)[0]

    def moments(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log-variance of the latent."""
        with _exact():
            h = self.input_layer(x).to(self._torso_dtype)
            for block in self.blocks:
                h = block(h)
            h = self.out_layer(self.middle_block(h).to(x.dtype))
        mean, logvar = h.chunk(2, 1)
        return mean, logvar


class SparseStructureDecoder(_Structure):
    """Latent [B, latent_channels, r, r, r] -> occupancy logits [B, out_channels, 4r, 4r, 4r]; above 0 is occupied."""

    def __init__(
        self, *, out_channels: int, latent_channels: int, num_res_blocks: int, channels: list[int],
        num_res_blocks_middle: int = 2, norm_type: str = "layer", use_fp16: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.input_layer = nn.Conv3d(latent_channels, channels[0], 3, padding=1)
        self.middle_block = nn.Sequential(*(ResBlock(channels[0]) for _ in range(num_res_blocks_middle)))
        layers: list[nn.Module] = []
        for i, width in enumerate(channels):
            layers += [ResBlock(width) for _ in range(num_res_blocks)]
            if i + 1 < len(channels):
                layers.append(Upsample(width, channels[i + 1]))
        self.blocks = nn.ModuleList(layers)
        self.out_layer = nn.Sequential(
            _norm(norm_type, channels[-1]), nn.SiLU(), nn.Conv3d(channels[-1], out_channels, 3, padding=1)
        )
        self._to_torso_dtype(use_fp16)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        with _exact():
            h = self.middle_block(self.input_layer(z).to(self._torso_dtype))
            for block in self.blocks:
                h = block(h)
            return cast("torch.Tensor", self.out_layer(h.to(z.dtype)))
