"""Times of one convolution under other plans, to revise the table in trellis_sparse._plan: python benchmarks/tune_sparse.py --help."""
import argparse, os, sys
from pathlib import Path
import torch
import trellis_sparse as sparse
from trellis_sparse import _plan
from sparse import CHANNELS, executed, pyramid, repeated
p = argparse.ArgumentParser(); p.add_argument("--mesh", type=Path); p.add_argument("--resolution", type=int, default=1024)
p.add_argument("--configs", action="store_true")
a = p.parse_args()
device = torch.device("cuda")
for coarser, channels in reversed(CHANNELS.items()):
    coords = pyramid.levels[coarser].to(device) if hasattr(pyramid, "levels") else None
    if coords is None:
        pyramid.levels = torch.load("/tmp/lv.pt") if os.path.exists("/tmp/lv.pt") else pyramid(a.mesh, a.resolution)
        coords = pyramid.levels[coarser].to(device)
    side = a.resolution // coarser
    neighbors = sparse.neighbor_map(coords, (1, side, side, side))
    pairs = int((neighbors >= 0).sum())
    feats = torch.randn(len(coords), channels, device=device, dtype=torch.float16)
    weight = torch.randn(channels, 3, 3, 3, channels, device=device, dtype=torch.float16)
    n = len(coords)
    ref = None
    variants = [(pt, n) for pt in ((1, 2, 3) if n < 2e5 else (1,))] + ([(1, c) for c in (65536, 131072, 262144)] if n > 2e5 else [])
    for parts, chunk in variants:
        chunk = max(chunk, -(-n // 64))
        _plan.parts_and_chunk = lambda r, t: (parts, chunk)
        plan = sparse.conv_plan(neighbors)
        for config in {1024: (0, 2, 3), 512: (0, 2, 3), 256: (0, 2, 3), 128: (2, 3, 1), 64: (4, 5)}[channels]:
            os.environ["TK_CONFIG"] = str(config)
            try:
                t = repeated(lambda: sparse.submanifold_conv3d(feats, weight, None, neighbors, plan=plan), device, 7)
                y = sparse.submanifold_conv3d(feats, weight, None, neighbors, plan=plan).float()
                if ref is None: ref = y
                err = float((y - ref).norm() / ref.norm())
            except Exception as e:
                t, err = float("nan"), repr(e)[:100]
            print(f"C={channels} N={n} parts={parts} chunk={chunk} config={config}: {t:.3f} ms, {2e-9*pairs*channels**2/t:.0f} pairs, {2e-9*executed(plan)*channels**2/t:.0f} executed, err {err}", flush=True)
        del os.environ["TK_CONFIG"]
