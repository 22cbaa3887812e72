"""Convolution under plans that keep rows in chunks of various sizes: ``python benchmarks/plans.py --mesh FILE.npz``.

Rows of a tile share their neighbours' pattern best when all rows are sorted at once; the features that a tile gathers
are in the second-level cache when only rows near each other are mixed. This prints what each choice costs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import trellis_sparse as sparse
from heading import heading
from sparse import CHANNELS, executed, pyramid, repeated
from trellis_sparse._plan import _conv_plan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mesh", type=Path)
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--chunks", type=int, nargs="+", default=[16, 32, 64, 128, 256, 512], help="thousands of rows")
    parser.add_argument("--parts", type=int, nargs="+", default=[1])
    arguments = parser.parse_args()
    device = torch.device("cuda")
    print(heading(device))
    for coarser, coords in pyramid(arguments.mesh, arguments.resolution).items():
        coords, channels = coords.to(device), CHANNELS[coarser]
        neighbors = sparse.neighbor_map(coords, (1, *[arguments.resolution // coarser] * 3))
        rows = len(coords)
        pairs = int((neighbors >= 0).sum())
        feats = torch.randn(rows, channels, device=device, dtype=torch.float16)
        for out in {channels, 256 if channels < 256 else 4 * channels}:
            weight = torch.randn(out, 3, 3, 3, channels, device=device, dtype=torch.float16) / 100
            for parts in arguments.parts:
                cells = []
                for chunk in [*(1024 * c for c in arguments.chunks if rows / 60 < 1024 * c < rows), rows]:
                    plan = sparse.ConvPlan(neighbors, list(_conv_plan(neighbors, rows, parts, chunk)[:3]))
                    ms = repeated(
                        lambda: sparse.submanifold_conv3d(feats, weight, None, neighbors, plan=plan),  # noqa: B023
                        device,
                        10,
                    )
                    cells.append(f"{chunk / 1024:.0f}k {ms:.3f} (x{executed(plan) / pairs:.2f})")
                print(f"{rows} rows, {channels} -> {out}, {parts} parts: " + ", ".join(cells), flush=True)


if __name__ == "__main__":
    main()
