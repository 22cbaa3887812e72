"""`trellis generate` as a user types it, from checkpoint files of the public sizes: how long each part takes.

    python benchmarks/command.py [--folder DIR] [--budgets 0 8] [--type 1024_cascade] [--cold] [--out DIR]

Writes a random checkpoint in the public layout (16 GB; kept, and taken up again, if `--folder` is given), then runs the
command once for each budget (GiB; 0 is what is free) in a process of its own, each with a manifest, and prints where the
time went: start of Python to the first line, opening, the stages of the models and of the export, hashing. Draws the
memory chart, passes the GLB through the validity checks of `trellis-gate` and compares the bytes of all runs' GLBs, which
are opaque, as random weights draw a random alpha.
With `--cold` the files are dropped from the page cache before each run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

EXPORT = ("extract", "clean", "orient", "remesh", "simplify", "unwrap", "bake", "write")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the checkpoint is, or is written")
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.0, 8.0])
    parser.add_argument("--type", default="1024_cascade")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="full", choices=("full", "tiny"))
    parser.add_argument("--limit", type=float, help="seconds for a run, which then says where each thread is and ends")
    parser.add_argument("--cold", action="store_true", help="drop the files from the page cache before each run")
    parser.add_argument("--out", type=Path, help="keep what the runs wrote here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch) / "checkpoint"
        out = arguments.out or Path(scratch) / "out"
        out.mkdir(parents=True, exist_ok=True)
        picture = out / "object.png"
        _checkpoint(folder, arguments.size, arguments.device, picture)
        failed = [b for b in arguments.budgets if not _run(folder, picture, out, b, arguments)]
        made = {hashlib.sha256(f.read_bytes()).hexdigest() for f in out.glob(f"{arguments.type}-*.glb")}
        print(f"\n{len(made)} different GLB of {len(arguments.budgets)} runs with one seed")
    return int(bool(failed) or len(made) > 1)


def _checkpoint(folder: Path, size: str, device: str, picture: Path) -> None:
    from trellis_pipeline.testing import make_checkpoint, object_picture

    object_picture().save(picture)
    if (folder / "pipeline.json").is_file():
        return
    start = time.perf_counter()
    make_checkpoint(folder, size, device=device)
    seconds, total = time.perf_counter() - start, sum(f.stat().st_size for f in _files(folder))
    print(f"checkpoint: {total / 1e9:.2f} GB in {len(_files(folder))} files, written in {seconds:.1f} s", flush=True)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def _run(folder: Path, picture: Path, out: Path, budget: float, arguments: argparse.Namespace) -> bool:
    if arguments.cold:
        _drop(_files(folder))
    name = f"{arguments.type}-{budget:g}"
    glb, manifest, chart = (out / f"{name}.{e}" for e in ("glb", "json", "svg"))
    command = [
        sys.executable, "-X", "faulthandler", "-m", "trellis_pipeline", "generate", str(picture), "-o", str(glb), "--weights", str(folder),
        "--type", arguments.type, "--alpha", "opaque", "--device", arguments.device, "--manifest", str(manifest), "--seed", "1",
    ]  # fmt: skip
    if budget:
        command += ["--vram-budget", f"{budget:g}"]
    print(f"\n$ trellis {' '.join(command[5:])}", flush=True)
    start, lines = time.perf_counter(), []
    with subprocess.Popen(command, stderr=subprocess.STDOUT, stdout=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(arguments.limit or 1e9, process.send_signal, [signal.SIGABRT])
        timer.daemon = True
        timer.start()
        for line in process.stdout or ():
            lines.append(time.perf_counter() - start)
            print(f"{lines[-1]:7.2f} | {line.rstrip()}", flush=True)
        timer.cancel()
    whole = time.perf_counter() - start
    if process.returncode:
        print(f"exit status {process.returncode} after {whole:.2f} s")
        return False
    facts = json.loads(manifest.read_text())
    _report(facts, whole)
    tool = [sys.executable, "-m", "trellis_pipeline", "memory", str(manifest), "-o", str(chart)]
    gate = [
        sys.executable,
        "-c",
        "import sys; from trellis_regression.cli import main; sys.exit(main())",
        "check",
        str(glb),
    ]
    return not any(subprocess.run(c, check=False).returncode for c in (tool, gate))


def _report(facts: dict[str, Any], whole: float) -> None:
    stages = {k: v["seconds"] for k, v in facts["stages"].items()}
    models = sum(v for k, v in stages.items() if k not in (*EXPORT, "prepare"))
    export = sum(v for k, v in stages.items() if k in EXPORT)
    print(
        f"whole process {whole:.2f} s, of which the command {facts['seconds']:.2f} s: "
        f"opening {facts['opening']['seconds']:.2f} s, models {models:.2f} s, export {export:.2f} s, "
        f"waiting for hashes {facts['hashing']['seconds_waited']:.2f} s"
    )
    ratios = {s["stage"]: s["planned"] / s["peak"] for s in facts["memory"]["stages"] if s.get("planned")}
    print("planned / measured peaks: " + ", ".join(f"{k} {v:.3f}" for k, v in ratios.items()))


def _drop(files: list[Path]) -> None:
    for file in files:
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    sys.exit(main())
