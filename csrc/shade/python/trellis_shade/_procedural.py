"""Environments made by formula, as latitude-longitude images."""

from __future__ import annotations

import math

import torch


def _directions(height: int, width: int) -> torch.Tensor:
    """Unit directions [H, W, 3] of the texels of a latitude-longitude image."""
    polar = (torch.arange(height, dtype=torch.float64) + 0.5) / height * math.pi
    azimuth = ((torch.arange(width, dtype=torch.float64) + 0.5) / width - 0.5) * 2 * math.pi
    polar, azimuth = torch.meshgrid(polar, azimuth, indexing="ij")
    return torch.stack([polar.sin() * azimuth.sin(), polar.cos(), -polar.sin() * azimuth.cos()], -1)


def _smooth(low: float, high: float, x: torch.Tensor) -> torch.Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _soft_box(
    directions: torch.Tensor, towards: tuple[float, float, float], width: float, height: float, edge: float
) -> torch.Tensor:
    """1 on a rectangle of the given half sizes at distance 1, facing the origin, falling to 0 over `edge`."""
    axis = torch.tensor(towards, dtype=directions.dtype)
    axis = axis / axis.norm()
    right = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=directions.dtype), axis)
    right = right / right.norm()
    up = torch.linalg.cross(axis, right)
    along = (directions @ axis).clamp(min=1e-6)
    x, y = (directions @ right / along).abs(), (directions @ up / along).abs()
    inside = (1 - _smooth(width - edge, width + edge, x)) * (1 - _smooth(height - edge, height + edge, y))
    box: torch.Tensor = inside * (directions @ axis > 0)
    return box


def studio(height: int = 256) -> torch.Tensor:
    d = _directions(height, height * 2)
    walls = 0.18 + 0.22 * _smooth(-0.6, 1.0, d[..., 1])
    image = walls[..., None] * torch.tensor([1.0, 1.0, 1.02], dtype=d.dtype)
    for towards, width, tall, strength, color in (
        ((1.0, 0.9, 0.9), 0.55, 0.55, 7.0, (1.0, 0.97, 0.93)),
        ((-1.2, 0.35, 0.6), 0.4, 0.7, 2.4, (0.93, 0.97, 1.0)),
        ((0.3, 0.6, -1.2), 0.7, 0.18, 5.0, (1.0, 1.0, 1.0)),
    ):
        box = _soft_box(d, towards, width, tall, 0.06)
        image = image + (strength * box)[..., None] * torch.tensor(color, dtype=d.dtype)
    return image.float()


def gradient_sky(
    *,
    zenith: tuple[float, float, float],
    horizon: tuple[float, float, float],
    ground: tuple[float, float, float],
    height: int = 128,
) -> torch.Tensor:
    up = _directions(height, height * 2)[..., 1:2]
    colors = [torch.tensor(c, dtype=up.dtype) for c in (zenith, horizon, ground)]
    sky = colors[1] + (colors[0] - colors[1]) * up.clamp(min=0).sqrt()
    return torch.where(up >= 0, sky, colors[2]).float()
