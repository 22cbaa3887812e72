"""Compiles and runs one Triton kernel."""

import importlib
import json
import sys
from typing import Any


def say(**facts: Any) -> None:
    print("TRELLIS-DOCTOR " + json.dumps(facts), flush=True)


sys.path[:] = [p for p in sys.path if not p.endswith("trellis_doctor/probes")]
try:
    torch = importlib.import_module("torch")
    triton = importlib.import_module("triton")
    tl = importlib.import_module("triton.language")

    @triton.jit  # type: ignore[untyped-decorator]
    def add_one(source, target, count, BLOCK: tl.constexpr):  # type: ignore[name-defined,no-untyped-def]
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(target + at, tl.load(source + at, mask=at < count) + 1, mask=at < count)

    source = torch.tensor([1.0, 2.0, 3.0], device="cuda")
    target = torch.tensor([0.0, 0.0, 0.0], device="cuda")
    add_one[(1,)](source, target, 3, BLOCK=16)
    say(right=target.tolist() == [2.0, 3.0, 4.0], version=str(triton.__version__))
except BaseException as error:
    text = str(error).strip().splitlines()
    say(failed=f"{type(error).__name__}: {text[0] if text else ''}"[:300])
