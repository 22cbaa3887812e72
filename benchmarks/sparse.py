"""Times of trellis_sparse's operations on the CPU, on spherical shells of voxels, like the surfaces it works on.

python benchmarks/sparse.py [--largest N]

Times are medians of wall-clock seconds; run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import trellis_sparse as sparse

# Rows and channels of the levels of a texture decoder at 1024^3.
LEVELS = ((9_800, 1024), (39_700, 512), (159_000, 256), (638_000, 64))


def shell(rows: int) -> tuple[torch.Tensor, tuple[int, int, int, int]]:
    """About `rows` voxels on a sphere, in the order x, y, z, and the size of their grid."""
    radius = math.sqrt(rows / (4 * math.pi * 1.5))
    side = 2 * math.ceil(radius) + 4
    r = torch.arange(side)
    slices = []
    for x in range(side):
        squares = (torch.tensor(x) - side / 2) ** 2 + (r[:, None] - side / 2) ** 2 + (r[None] - side / 2) ** 2
        yz = ((squares.sqrt() - radius).abs() < 0.75).nonzero()
        slices.append(torch.cat([torch.tensor([0, x]).expand(len(yz), 2), yz], 1))
    return torch.cat(slices).int(), (1, side, side, side)


def seconds(operation: Callable[[], object], repeats: int = 3) -> float:
    operation()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        operation()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--largest", type=int, default=LEVELS[-1][0], help="leave out levels with more rows")
    largest = parser.parse_args().largest
    print("| rows | operation | ms | |\n|---|---|---|---|")
    for rows, channels in (level for level in LEVELS if level[0] <= largest):
        coords, shape = shell(rows)
        neighbors = sparse.neighbor_map(coords, shape)
        pairs = int((neighbors >= 0).sum())
        feats, weight = torch.randn(len(coords), channels), torch.randn(channels, 3, 3, 3, channels)
        points = coords[None, torch.randint(len(coords), (4 * rows,)), 1:] + torch.rand(4 * rows, 3)
        six = torch.randn(len(coords), 6)
        operations: dict[str, Callable[[], object]] = {
            "neighbor_map": partial(sparse.neighbor_map, coords, shape),
            f"submanifold_conv3d, {channels} channels": partial(
                sparse.submanifold_conv3d, feats, weight, None, neighbors
            ),
            f"grid_sample_3d, {4 * rows} points, 6 channels": partial(
                sparse.grid_sample_3d, six, coords, shape, points
            ),
            "downsample": partial(sparse.downsample, coords),
            "encode_order, Hilbert": partial(sparse.encode_order, coords[:, 1:], "hilbert"),
        }
        for name, operation in operations.items():
            took = seconds(operation)
            rate = f"{2e-9 * pairs * channels**2 / took:.0f} GFLOP/s" if "conv" in name else ""
            print(f"| {len(coords)} | {name} | {took * 1e3:.1f} | {rate} |", flush=True)


if __name__ == "__main__":
    main()
