"""Times trellis_shade on a GPU: ``python benchmarks/shade.py``."""

from __future__ import annotations

from functools import partial

import torch
from heading import heading
from raster import milliseconds
from trellis_shade import EnvironmentLight, linear_to_srgb, tonemap


def encoded(rgb: torch.Tensor, curve: str) -> torch.Tensor:
    return linear_to_srgb(tonemap(rgb, curve))


def main() -> None:
    print(f"{heading(torch.device('cuda'))}\n\n| operation | ms |\n|---|---|")
    hdr = torch.rand(1024, 2048, 3, device="cuda") ** 4 * 20
    print(
        f"| prefilter a 2048 x 1024 environment to 256^2 | {milliseconds(lambda: EnvironmentLight.from_latlong(hdr), 5):.2f} |"
    )
    light = EnvironmentLight.from_latlong(hdr)
    points = 1024 * 1024
    position, normal, base = (torch.randn(points, 3, device="cuda") for _ in range(3))
    metallic, roughness = (torch.rand(points, device="cuda") for _ in range(2))
    eye = torch.tensor([0.0, 1.0, 4.0], device="cuda")
    base = base.abs().clamp(max=1)
    print(
        f"| shade 1024^2 points | {milliseconds(lambda: light.shade(position, normal, base, metallic, roughness, eye)):.2f} |"
    )
    rgb = light.shade(position, normal, base, metallic, roughness, eye)
    for curve in ("aces", "agx", "neutral"):
        took = milliseconds(partial(encoded, rgb, curve))
        print(f"| tone map ({curve}) and encode 1024^2 | {took:.2f} |")


if __name__ == "__main__":
    main()
