"""Pictures of candidate and golden from fixed cameras, and where they differ.

A mean cannot see forty floating triangles, so maxima, the 99th percentile and the worst tile are what counts. A region
that only one of them covers counts as 1: an empty picture must not win by having nothing to compare.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import numpy as np
import torch
import trellis_shade as shade

from ..asset import Asset
from ..compare import VIEWS
from ..render import NOTHING, Picture, Renderer, load_environment
from ..scene import Frame, cores
from .flip import flip

SIZE = 192
MODES = ("base_color", "normal", "shaded")
_TILE = 12


@dataclass(frozen=True)
class View:
    """One camera: pictures of both [H, W, 3] uint8 (no candidate: it has no surface) and the error map [H, W]."""

    mode: str
    azimuth: float
    elevation: float
    golden: torch.Tensor
    candidate: torch.Tensor | None
    error: torch.Tensor


_lighting = Lock()


def light(device: torch.device) -> shade.EnvironmentLight:
    """The light of all pictures, made once on each device, by whoever asks first."""
    with _lighting:
        return _light(device)


@lru_cache(maxsize=2)
def _light(device: torch.device) -> shade.EnvironmentLight:
    return load_environment(None, device)


def prepare(device: torch.device) -> None:
    """What the first comparison on a device would wait for: the light; on a GPU also the kernels of FLIP, whose loading
    takes longer than their work."""
    light(device)
    if device.type != "cpu":
        blank = torch.zeros(len(VIEWS), len(MODES), SIZE, SIZE, 3, device=device)
        flip(blank, blank)


def renderer(asset: Asset, frame: Frame | None = None) -> Renderer:
    """What draws an asset on its device, in a frame or in its own."""
    return Renderer(asset.parts, light(asset.device), asset.device, asset.pixels, frame or asset.frame)


def compare(asset: Asset, golden: Asset, *, size: int = SIZE, views: Any = VIEWS) -> list[View]:
    """Every view in every mode, drawn in the golden's frame; a candidate without a surface is an empty picture.

    They are drawn on the assets' device; the pictures and error maps that are returned are on the CPU.
    """
    with one_thread():
        theirs = renderer(golden)

        def drawn(by: Renderer, where: Any) -> list[list[Picture]]:
            return [by.draw_modes(azimuth, elevation, size, MODES) for azimuth, elevation in where]

        if golden.device.type != "cpu":  # the device is what works side by side
            approved = drawn(theirs, views)
            # What has a surface is known when it is welded, which others do meanwhile.
            ours = renderer(asset, theirs.frame) if asset.has_surface else None
            return _compared(views, approved, drawn(ours, views) if ours is not None else None)
        ours = renderer(asset, theirs.frame) if asset.has_surface else None
        with ThreadPoolExecutor(cores()) as pool:
            groups = pool.map(
                lambda v: _compared([v], drawn(theirs, [v]), drawn(ours, [v]) if ours is not None else None), views
            )
            return [view for group in groups for view in group]


def _compared(views: Any, golden: list[list[Picture]], candidate: list[list[Picture]] | None) -> list[View]:
    """The views of pictures [views][modes]."""
    a, shown = _stacked(golden)
    b, also = _stacked(candidate) if candidate is not None else (None, torch.zeros_like(shown))
    nothing = torch.tensor(NOTHING, dtype=a.dtype, device=a.device).expand_as(a)
    error = flip(a.float() / 255, (nothing if b is None else b).float() / 255)
    error = torch.where(_alone(shown, also)[:, None], torch.ones_like(error), error)
    a, b, error = a.cpu(), None if b is None else b.cpu(), error.cpu()
    return [
        View(mode, azimuth, elevation, a[v, m], None if b is None else b[v, m], error[v, m])
        for v, (azimuth, elevation) in enumerate(views)
        for m, mode in enumerate(MODES)
    ]


def _stacked(pictures: list[list[Picture]]) -> tuple[torch.Tensor, torch.Tensor]:
    """rgb [V, M, H, W, 3], and what is covered [V, H, W]."""
    rgb = torch.stack([torch.stack([p.rgb for p in modes]) for modes in pictures])
    return rgb, torch.stack([modes[0].coverage for modes in pictures]) > 0.5


def _alone(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Pixels [V, H, W] that one covers while the other covers none within two pixels: more than an outline that moved a
    little."""

    def grown(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.max_pool2d(x[:, None].float(), 5, 1, 2)[:, 0] > 0

    return (a & ~grown(b)) | (b & ~grown(a))


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's own threads only stand in each other's way on pictures this small; the views run side by side instead."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure(views: list[View]) -> dict[str, Any]:
    """Per mode: mean over pixels, 99th percentile, maximum, and the largest mean over a tile of 12 x 12 pixels."""
    out: dict[str, Any] = {}
    for mode in MODES:
        errors = torch.stack([v.error for v in views if v.mode == mode])
        tiles = torch.nn.functional.avg_pool2d(errors[:, None], _TILE)
        out |= {
            f"flip_{mode}_mean": float(errors.mean()),
            f"flip_{mode}_p99": float(
                np.quantile(errors.numpy().reshape(-1)[:: max(1, errors.numel() // 200_000)], 0.99)
            ),
            f"flip_{mode}_max": float(errors.max()),
            f"flip_{mode}_worst_tile": float(tiles.max()),
        }
    return out
