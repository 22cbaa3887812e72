"""What the first export of a process takes longer than the second, by operation: ``python benchmarks/first_call.py``.

Each operation of torch and each of ours is timed by itself, the device waited for before and after; an operation of
torch counts for itself where one of ours calls it. The difference is what is loaded, compiled or set up at a first call.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trellis_native
from torch.utils._python_dispatch import TorchDispatchMode


class Timed(TorchDispatchMode):
    """Seconds and calls of each operation, without those of the operations that it calls."""

    current: Timed | None = None

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self._inner = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outer, self._inner = self._inner, 0.0
        self._wait()
        begin = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        self._wait()
        taken = time.perf_counter() - begin
        self.seconds[str(func)] += taken - self._inner
        self.calls[str(func)] += 1
        self._inner = outer + taken
        return result

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def look_inside() -> None:
    """Lets `Timed` see what operations of ours call; for packages that are imported after this."""
    define = trellis_native.OpLibrary.define

    def defined(self: trellis_native.OpLibrary, schema: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
            def seen(*args: Any, **kwargs: Any) -> Any:
                if Timed.current is None:
                    return implementation(*args, **kwargs)
                with Timed.current:
                    return implementation(*args, **kwargs)

            return define(self, schema)(seen)

        return register

    trellis_native.OpLibrary.define = defined  # type: ignore[method-assign]


look_inside()
from export import once  # noqa: E402
from heading import heading  # noqa: E402
from run import fitted, made_mesh, read_mesh  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--mesh", type=Path, help=".npz with vertices and faces; made here by default")
    parser.add_argument("--resolution", type=int, default=1024)
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--texture", type=int, default=4096)
    parser.add_argument("--remesh", action="store_true")
    parser.add_argument("--top", type=int, default=20, help="operations to print")
    parser.add_argument("--out", type=Path, default=Path("out/benchmark"))
    arguments = parser.parse_args()
    arguments.unwrap = "fast"
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(arguments.device)
    print(heading(device) + "\n")
    vertices, faces = read_mesh(arguments.mesh) if arguments.mesh else made_mesh()
    v = torch.from_numpy(fitted(vertices)).to(device)
    f = torch.from_numpy(np.asarray(faces).astype(np.int32)).to(device)
    runs = []
    for which in ("first", "second"):
        timed = Timed.current = Timed(device)
        with timed:
            stages = once(v, f, arguments.out / "export.glb", arguments)
        print(f"{which}: {sum(stages.values()):.3f} s;", ", ".join(f"{k} {s * 1000:.0f} ms" for k, s in stages.items()))
        runs.append(timed)
    first, second = runs
    more = {op: first.seconds[op] - second.seconds[op] for op in first.seconds}
    print("\n| operation | calls | first - second, ms |\n|---|---|---|")
    for op, seconds in sorted(more.items(), key=lambda item: -item[1])[: arguments.top]:
        print(f"| {op} | {first.calls[op]} | {seconds * 1000:.1f} |")


if __name__ == "__main__":
    main()
