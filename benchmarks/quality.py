"""`fast` beside xatlas on many meshes, exported and looked at: ``python benchmarks/quality.py --device cuda``.

Each mesh is one of the regression package's clean assets. Its voxels, coloured as in export.py, are exported with either
method, and pictures of the file are compared with pictures of the voxels. A process for each mesh, ``--jobs`` at a time,
ended after ``--limit`` seconds; what it had measured by then counts. Rows come as meshes are done. Fails where `fast`
overlaps, flips or leaves the texture, or is more than 0.3 dB below xatlas.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from export import VoxelPictures, psnr, voxels_of
from heading import heading
from run import fitted
from trellis_pipeline.export import Mesh, Reference, export_asset
from trellis_regression import sample

METHODS = ("fast", "xatlas")
MARGIN = 0.3  # dB


def source(name: str, device: torch.device) -> Mesh:
    """A clean asset's surface in the unit cube, z up."""
    scene = trimesh.load(io.BytesIO(sample.build(name)), file_type="glb", force="scene")
    whole = scene.to_geometry() if hasattr(scene, "to_geometry") else scene.dump(concatenate=True)
    v = fitted(np.asarray(whole.vertices, dtype=np.float32)[:, [0, 2, 1]] * [1, -1, 1])
    return Mesh(torch.from_numpy(v).to(device), torch.from_numpy(whole.faces.astype(np.int32)).to(device))


def measure(name: str, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Figures of the export by each method."""
    mesh = source(name, torch.device(options.device))
    voxels = voxels_of(mesh.vertices, mesh.faces, options.resolution)
    truth = VoxelPictures(voxels, mesh)
    for method in options.methods.split(","):
        out = options.out / f"{name.replace(' ', '-')}-{method}.glb"
        try:
            facts = export_asset(
                voxels, out, faces=options.faces, texture=options.texture, remeshed=not options.raw,
                unwrap_method=method, reference=Reference(mesh),
            )  # fmt: skip
        except RuntimeError as error:  # xatlas leaves some faces out of some meshes
            yield {"method": method, "failed": str(error).splitlines()[0][:120]}
            continue
        yield {"method": method, **facts["unwrap"], "psnr": psnr(out, truth, options.size)[0]}


def spawned(name: str, options: argparse.Namespace, until: float) -> dict[str, dict[str, Any]]:
    """`measure` in a process of its own, by method; not begun once the time is `until`."""
    methods = options.methods.split(",")
    if time.monotonic() > until:
        return {m: {"failed": "left out: the budget is spent"} for m in methods}
    command = [sys.executable, __file__, *sys.argv[1:], "--one", name]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            lines, errors = process.communicate(timeout=options.limit)
            reason = (errors.strip().splitlines() or ["no reason given"])[-1][:200]
        except subprocess.TimeoutExpired:
            process.kill()
            lines, _ = process.communicate()
            reason = f"ended after {options.limit:g} s"
    found = {figures["method"]: figures for figures in map(json.loads, lines.splitlines())}
    return {m: found.get(m, {"failed": reason}) for m in methods}


def row(name: str, method: str, found: dict[str, Any]) -> str:
    if "failed" in found:
        return f"| {name} | {method} | {found['failed']} | | | | | |"
    faults = ", ".join(str(found[f"{kind}_faces"]) for kind in ("overlapping", "flipped", "outside", "collapsed"))
    return (
        f"| {name} | {method} | {found['charts']} | {found['stretch_l2']:.3f}, {found['stretch_linf']:.2f} "
        f"| {found['utilisation']:.3f} | {faults} | {found['seconds']:.2f} | {found['psnr']:.2f} |"
    )


def wrong(fast: dict[str, Any], other: dict[str, Any]) -> str | None:
    """What `fast` must not do, if it did."""
    if "failed" in fast:
        return str(fast["failed"])
    if faults := {k: fast[f"{k}_faces"] for k in ("overlapping", "flipped", "outside") if fast[f"{k}_faces"]}:
        return str(faults)
    below = other.get("psnr", -np.inf) - fast["psnr"]
    return f"{below:.2f} dB below xatlas" if below > MARGIN else None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--names", help=f"comma-separated, of: {', '.join(sample.NAMES)} (default: all)")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--faces", type=int, default=20_000)
    parser.add_argument("--texture", type=int, default=1024)
    parser.add_argument("--size", type=int, default=768, help="of the pictures")
    parser.add_argument("--raw", action="store_true", help="the extracted surface, instead of one closed shell")
    parser.add_argument("--limit", type=float, default=150, help="seconds for a mesh")
    parser.add_argument("--budget", type=float, default=1e9, help="seconds in all: what has not begun is left out")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, default=Path("out/benchmark"))
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.one:
        for figures in measure(options.one, options):
            print(json.dumps(figures), flush=True)
        return 0
    names = options.names.split(",") if options.names else list(sample.NAMES)
    device = torch.device(options.device)
    print(heading(device) + "\n")
    until = time.monotonic() + options.budget
    print(
        "| mesh | unwrap | charts | stretch L2, L∞ | utilisation | overlapping, flipped, outside, collapsed | s | PSNR, dB |"
    )
    print("|---|---|---|---|---|---|---|---|", flush=True)
    bad, found = {}, {}
    with ThreadPoolExecutor(options.jobs) as pool:
        asked = {pool.submit(spawned, name, options, until): name for name in names}
        for done in as_completed(asked):
            name = asked[done]
            found[name] = by_method = done.result()
            for method, figures in by_method.items():
                print(row(name, method, figures), flush=True)
            if problem := wrong(by_method.get("fast", {"failed": "not tried"}), by_method.get("xatlas", {})):
                bad[name] = problem
    both = [
        f["fast"]["psnr"] - f["xatlas"]["psnr"] for f in found.values() if all("psnr" in f.get(m, {}) for m in METHODS)
    ]
    if both:
        print(
            f"\n{len(both)} meshes with both: fast minus xatlas {min(both):+.2f} to {max(both):+.2f} dB, mean {np.mean(both):+.2f}"
        )
    print("\nwrong:", bad or "nothing")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
