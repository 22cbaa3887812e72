"""Feeds the same random cases to upstream's modules and to ours and says where they differ.

python tests/against_upstream [--device cuda] [--cases N] [--first SEED] [--only WORD ...] [--seconds S] [--apart]

Looks for o_voxel, cumesh, flex_gemm and nvdiffrast (built by their own setups, on a CUDA machine) and for trellis2 (the
upstream package, on the path). What cannot be imported is named and left out. Each line of the table is one measure over all
cases: how many were compared, the worst, the limit and how many lie beyond it, with the first of them. Limits of what the
parity check compares are the parity check's; the rest are stated beside each case. Exit status 1 where anything lies beyond.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from apart import run_apart, write
from harness import CASES, compare, draw, untune

MODULES = {
    "o_voxel": ("o_voxel", "o_voxel.convert", "o_voxel.io", "o_voxel.serialize", "o_voxel.postprocess"),
    "cumesh": ("cumesh",),
    "flex_gemm": ("flex_gemm", "flex_gemm.ops", "flex_gemm.ops.spconv", "flex_gemm.ops.grid_sample"),
    "nvdiffrast": ("nvdiffrast.torch",),
    "trellis2": ("trellis2.models",),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--cases", type=int, default=50, help="seeds for each case")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="*", help="words, one of which a case's name must have")
    parser.add_argument("--seconds", type=float, default=math.inf, help="a case begins no further seed after these")
    parser.add_argument("--apart", action="store_true", help="each case in a process, begun anew where a seed ends it")
    parser.add_argument("--journal", type=Path, help="of such a process: where its findings go")
    arguments = parser.parse_args()
    for setting in ("USE_AUTOTUNE_CACHE", "AUTOSAVE_AUTOTUNE_CACHE"):
        os.environ.setdefault(f"FLEX_GEMM_{setting}", "0")
    # Ours does not round to TF32 in these models; theirs takes what torch is set to.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    modules: dict[str, Any] = {}
    for name, paths in MODULES.items():
        try:
            loaded = [importlib.import_module(path) for path in paths]
        except ImportError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
            continue
        modules[name] = loaded[0]
        if name == "flex_gemm":
            untune(name)
    for name in ("voxels", "fields", "meshes", "pictures", "networks", "exports", "generations"):
        importlib.import_module(name)
    seeds, device = range(arguments.first, arguments.first + arguments.cases), torch.device(arguments.device)
    if arguments.journal:
        registered = next(r for r in CASES if r.name == arguments.only[0])
        draw(registered, modules, device, seeds, arguments.seconds, partial(write, arguments.journal))
        return 0
    print(f"{date.today()}: python {' '.join(sys.argv)}\n")
    apart = partial(run_apart, device=arguments.device, seconds=arguments.seconds) if arguments.apart else None
    different = compare(modules, device, seeds, arguments.only, arguments.seconds, apart)
    print(f"\n{different} measures beyond their limits")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
