"""Every speed target of this project in one command, each table with our figure, upstream's, the ratio and the device.

python benchmarks/all.py --mesh FILE.npz --baseline FILE.json [--only NAME ...]

Runs the benchmarks of this folder one after the other on a CUDA device, each in a process of its own, at the sizes of
the targets. What they print goes to the standard output; progress to the standard error.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
EXPORT = ["export.py", "--device", "cuda", "--resolution", "1024"]
COMMANDS = {
    "voxel": ["voxel.py", "--repeats", "5"],
    "mesh": ["mesh.py", "--device", "cuda"],
    "simplify": ["simplify.py"],
    "unwrap": ["unwrap.py", "--device", "cuda", "--methods", "cuda", "--repeats", "3"],
    "raster": ["raster.py"],
    "sparse": ["sparse.py", "--device", "cuda"],
    "export-1m": [*EXPORT, "--faces", "1000000", "--texture", "4096"],
    "export-200k": [*EXPORT, "--faces", "200000", "--texture", "2048"],
    "export-1m-remesh": [*EXPORT, "--faces", "1000000", "--texture", "4096", "--remesh"],
    "models": ["models.py"],
}
"""Names and the command lines that give the figures of docs/performance.md; mesh and baseline are added."""
WITHOUT_MESH = {"unwrap", "raster"}
WITHOUT_BASELINE = {"unwrap", "raster"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", type=Path, required=True, help=".npz with vertices and faces")
    parser.add_argument("--baseline", type=Path, required=True, help="upstream's timings, a JSON")
    parser.add_argument("--only", nargs="+", choices=sorted(COMMANDS), default=list(COMMANDS))
    arguments = parser.parse_args()
    failed = []
    for name in arguments.only:
        command = [sys.executable, str(HERE / COMMANDS[name][0]), *COMMANDS[name][1:]]
        if name not in WITHOUT_MESH:
            command += ["--mesh", str(arguments.mesh)]
        if name not in WITHOUT_BASELINE:
            command += ["--baseline", str(arguments.baseline)]
        print(f"\n## {name}\n", flush=True)
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        parser.exit(1, f"failed: {', '.join(failed)}\n")


if __name__ == "__main__":
    main()
