"""Times trellis_raster on a GPU, on UV atlases and on views in depth: ``python benchmarks/raster.py``."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
import trellis_raster as raster
from heading import heading


def atlas(faces: int, fill: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """About `faces` triangles that cover `fill` of the square, in charts of about 2,000 with gaps between them.

    Returns uv float32 [V, 2] and faces int32 [F, 3].
    """
    charts = max(1, round((faces / 2000) ** 0.5))  # a row
    side = max(1, round((faces / 2) ** 0.5 / charts))  # cells of a chart's row
    t = np.arange(side + 1) / side
    x, y = np.meshgrid(t, t)
    rng = np.random.default_rng(0)
    grid = np.arange((side + 1) ** 2).reshape(side + 1, side + 1)
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]
    quads = np.stack([a, b, c, b, d, c], -1).reshape(-1, 3)
    uv: list[np.ndarray] = []
    out: list[np.ndarray] = []
    for i in range(charts):
        for j in range(charts):
            turn = rng.uniform(0, 2 * np.pi)
            p = np.stack([x, y], -1).reshape(-1, 2) - 0.5
            p = p @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            p = p * (fill**0.5 / np.abs(p).max() / 2)
            out.append(quads + len(uv) * len(grid.reshape(-1)))
            uv.append((p + [i + 0.5, j + 0.5]) / charts)
    return torch.from_numpy(np.concatenate(uv)).float(), torch.from_numpy(np.concatenate(out)).int()


def milliseconds(call: Callable[[], object], repeats: int = 20) -> float:
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(sorted(times)[repeats // 2])


def row(name: str, call: Callable[[], object], megabytes: float) -> None:
    """One line: time, the bytes that must move, and what share of a copy's speed that is."""
    took = milliseconds(call)
    print(f"| {name} | {took:.3f} | {megabytes:.0f} | {megabytes / took / 1e3 / COPY:.2f} |", flush=True)


def copy_speed() -> float:
    """Bytes read and written a second by a large copy, in TB/s."""
    data = torch.empty(1 << 28, dtype=torch.float32, device="cuda").normal_()
    other = torch.empty_like(data)
    return 2 * data.numel() * 4 / milliseconds(lambda: other.copy_(data)) / 1e9


COPY = 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texture", type=int, default=4096)
    texture = parser.parse_args().texture
    global COPY
    COPY = copy_speed()
    print(heading(torch.device("cuda"), f"copy {COPY:.2f} TB/s") + "\n")
    print("| operation | ms | MB that must move | share of a copy's speed |\n|---|---|---|---|")
    pixels = texture * texture / 1e6
    for faces in (200_000, 1_000_000):
        uv, f = (t.cuda() for t in atlas(faces))
        clip = torch.cat([uv * 2 - 1, torch.zeros_like(uv[:, :1]), torch.ones_like(uv[:, :1])], 1)[None].contiguous()
        size = (texture, texture)
        rast = raster.rasterize(clip, f, size)
        mask = rast[0, ..., 3] > 0
        print(f"| {len(f):,} faces, {mask.float().mean():.2f} covered | | | |")
        row(f"rasterize {texture}^2", lambda: raster.rasterize(clip, f, size), 16 * pixels)  # noqa: B023
        attrs = torch.rand(1, len(uv), 3, device="cuda")
        row("interpolate 3 channels", lambda: raster.interpolate(attrs, rast, f), 28 * pixels)  # noqa: B023
        row("nearest texel", lambda: raster.nearest_texel(mask), 5 * pixels)  # noqa: B023
        image = torch.randint(0, 255, (texture, texture, 9), dtype=torch.uint8, device="cuda")
        row("fill gaps, 9 bytes", lambda: raster.fill_gaps(image, mask), 19 * pixels)  # noqa: B023
        smooth = torch.rand(texture, texture, 3, device="cuda")
        row("pull-push, 3 floats", lambda: raster.fill_gaps(smooth, mask, method="smooth"), 25 * pixels)  # noqa: B023
    view = torch.rand(1, 3 * 100_000, 4, device="cuda") * 2 - 1
    view[..., 3] = 1
    view[0, 1::3] = view[0, ::3] + torch.randn_like(view[0, ::3]) * 0.02
    view[0, 2::3] = view[0, ::3] + torch.randn_like(view[0, ::3]) * 0.02
    view[..., 3] = 1
    f = torch.arange(3 * 100_000, dtype=torch.int32, device="cuda").view(-1, 3)
    row(
        "rasterize 100,000 loose triangles, 2048^2", lambda: raster.rasterize(view, f, (2048, 2048)), 16 * 2048**2 / 1e6
    )
    two = torch.tensor([[[-1.0, -1, 0, 1], [1, -1, 0, 1], [-1, 1, 0, 1], [1, 1, 0, 1]]], device="cuda")
    quad = torch.tensor([[0, 1, 2], [1, 3, 2]], dtype=torch.int32, device="cuda")
    row("rasterize 2 faces, 8192^2", lambda: raster.rasterize(two, quad, (8192, 8192)), 16 * 8192**2 / 1e6)


if __name__ == "__main__":
    main()
