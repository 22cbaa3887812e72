"""torch as the command imports it: less of it, and the rest as soon as it is asked for. In processes of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from trellis_regression import lean

ROOT = Path(__file__).parents[2]
tried = pytest.mark.skipif(lean._version() not in lean.TRIED, reason="not a version of torch that was tried")


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@tried
def test_what_is_left_out_loads_when_it_is_asked_for():
    run("""
import os, sys
from trellis_regression import lean
torch = lean.import_torch()
waiting = {m for m in lean.LATER if type(sys.modules.get(m)) is lean.Later}
assert waiting | {"pynvml"} == set(lean.LATER), set(lean.LATER) - waiting
assert "TORCH_DEVICE_BACKEND_AUTOLOAD" not in os.environ
assert "torch.optim.sgd" not in sys.modules and "torch.ao.quantization.observer" not in sys.modules
# By an attribute, by a name of it, by a module in it, and by a package of which a part is in it.
assert torch.distributions.Normal(0.0, 1.0).sample().shape == ()
from torch.optim import SGD
import torch.nn.quantized.modules.linear
assert torch.nn.quantized.modules.linear.Linear and callable(torch.export.export)
import torch.utils.data.dataloader as loading
assert torch.utils.data.DataLoader is loading.DataLoader and sys.modules["torch.utils.data.dataloader"] is loading
weight = torch.nn.Parameter(torch.ones(2))
weight.sum().backward()
SGD([weight], 0.5).step()  # by way of the compiler
assert weight.tolist() == [0.5, 0.5]
assert type(torch.distributions).__name__ == type(torch.optim).__name__ == "module"
assert torch.optim.__spec__.loader is torch.optim.__loader__ and hasattr(torch.optim, "Adam")
import importlib
assert importlib.reload(sys.modules["torch.hub"]) is torch.hub and torch.hub.__spec__.origin
""")


@tried
def test_what_cannot_load_says_so_each_time():
    run("""
import sys
from trellis_regression import lean
torch = lean.import_torch()
sys.modules["torch.optim.lr_scheduler"] = None
for _ in range(2):
    try:
        torch.optim.SGD
    except ImportError:
        pass
    else:
        raise SystemExit("it loaded")
del sys.modules["torch.optim.lr_scheduler"]
assert torch.optim.SGD
""")


def test_another_version_is_imported_as_it_is():
    run("""
import sys
from trellis_regression import lean
lean.TRIED = ()
lean.import_torch()
assert not any(type(m) is lean.Later for m in sys.modules.values())
assert "torch.optim.sgd" in sys.modules
""")


def test_a_gate_asks_for_nothing_that_is_left_out_and_its_figures_are_the_same():
    script = """
import sys
from trellis_regression import cli, lean
if sys.argv.pop(1) == "whole":
    lean.TRIED = ()
status = cli.main(sys.argv[1:])
loaded = [n for n in lean.LATER if n in sys.modules and type(sys.modules[n]) is not lean.Later]
print("loaded", *sorted(loaded))
sys.exit(status)
"""
    robot = str(ROOT / "golden/robot/cpu/asset.glb")
    arguments = ("check", robot, "--golden", "robot", "--json", "-")
    half, whole = (run(script, how, *arguments).partition("loaded") for how in ("lean", "whole"))
    assert json.loads(half[0]) == json.loads(whole[0])
    assert "torch.optim" in whole[2]
    if lean._version() in lean.TRIED:
        assert half[2].strip() == ""
