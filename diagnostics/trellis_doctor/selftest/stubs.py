"""Sources of the packages that the self-test's environments hold: just enough for the probes to run on them."""

from __future__ import annotations

import json

from ..probes.known_operations import OPERATIONS

TORCH = """
from types import SimpleNamespace
from . import version
from .version import __version__

int32, int64, uint8, bool = "int32", "int64", "uint8", "bool"
float16, float32 = "float16", "float32"


class Tensor:
    def __init__(self, data, device="cpu", dtype=None):
        self.data, self.device, self.dtype = data, device, dtype

    def tolist(self):
        return self.data

    def __getitem__(self, key):
        return self.data


def tensor(data, dtype=None, device="cpu"):
    return Tensor(data, device, dtype)


def ones(shape, device="cpu"):
    return Tensor(1.0, device)


_C = SimpleNamespace(_GLIBCXX_USE_CXX11_ABI=True)
nn = SimpleNamespace(functional=SimpleNamespace(conv2d=lambda x, w: Tensor(72.0)))
cuda = SimpleNamespace(
    is_available=lambda: version.cuda is not None,
    device_count=lambda: 1,
    get_device_properties=lambda i: SimpleNamespace(name="NVIDIA GeForce RTX 3090", total_memory=24 << 30),
    get_device_capability=lambda i: (8, 6),
)
backends = SimpleNamespace(cudnn=SimpleNamespace(version=lambda: CUDNN))
CUDNN = 90100
"""

MAP_TWO_RUNTIMES = """
import mmap
from pathlib import Path
_kept = []
for _file in sorted(Path(__file__).parents[1].rglob("libcudart.so.12")):
    with _file.open("rb") as _stream:
        _kept.append(mmap.mmap(_stream.fileno(), 0, access=mmap.ACCESS_READ))
"""

TRITON = """
__version__ = "3.2.0"


class jit:
    def __init__(self, function):
        pass

    def __getitem__(self, grid):
        def launch(source, target, count, BLOCK):
            target.data = [v + 1 for v in source.data]

        return launch
"""

TRITON_LANGUAGE = "constexpr = int\n"

TRITON_AUTOTUNER = """
class Autotuner:
    def __init__(self, fn, arg_names, configs, key, reset_to_zero, restore_value, pre_hook=None, post_hook=None,
                 prune_configs_by=None, warmup=None, rep=None, use_cuda_graph=False, do_bench=None):
        pass
"""

TRITON_AUTOTUNER_BEFORE = """
class Autotuner:
    def __init__(self, fn, arg_names, configs, key, reset_to_zero, restore_value, prune_configs_by=None, warmup=25, rep=100):
        pass
"""

TRITON_TESTING = """
def do_bench(fn, warmup=25, rep=100, grad_to_none=None, quantiles=None, return_mode="mean"):
    pass
"""

FLEX_GEMM_AUTOTUNER = """
import triton


class Cached(triton.runtime.Autotuner):
    def __init__(self, *given):
        a = given
        super().__init__(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12])


def measure(run):
    return triton.testing.do_bench(run, quantiles=(0.5, 0.2, 0.8))
"""

FLEX_GEMM_OLD_BENCH = """
import triton


def measure(run):
    return triton.testing.do_bench(run, percentiles=(0.5, 0.2, 0.8))
"""

_EXTENSION = """
import json
import torch

_ANSWERS = json.loads({answers!r})


class _Call:
    # A call of an operation, or the way to one; it has the answer that is known for its name. `held` are the tensors
    # that an object was made with: its methods' own must lie on the same device.
    def __init__(self, path, variant="", held=()):
        self.path, self.variant, self.held = path, variant, held

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        return _Call(f"{{self.path}}.{{name}}", held=self.held)

    def __call__(self, *arguments, **named):
        given = [*arguments, *named.values()]
        held = [h for g in given if isinstance(g, _Call) for h in g.held]
        tensors = [*self.held, *held, *(g for g in given if isinstance(g, torch.Tensor))]
        _same(*tensors)
        said = [g for g in given if isinstance(g, str)]
        half = ["half"] if any(t.dtype == "float16" for t in tensors) else []
        return _Call(self.path, (half + said + [""])[0], tuple(tensors))

    def tolist(self):
        # EnvironmentLight.from_latlong.shade is EnvironmentLight.shade; where no answer is known, that of the maker is.
        parts = self.path.split(".")
        own = [".".join([parts[0], *parts[-1:]])] if len(parts) > 2 else []
        made = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
        if "rotated" in parts:
            own, made = ["EnvironmentLight.rotated"], []
        for name in (f"{{self.path}}:{{self.variant}}", *own, *made):
            if name in _ANSWERS:
                return _ANSWERS[name]
        raise AssertionError(f"no answer for {{self.path}}")

    def __iter__(self):
        return iter(self.tolist())


def _same(*tensors):
    if len({{t.device for t in tensors}}) > 1:
        raise ValueError(f"tensors on {{[t.device for t in tensors]}}")


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _Call(name)
"""


def _answers(package: str) -> str:
    known = {o.name: o.answer if o.facts is None else o.sample for o in OPERATIONS if o.package == package}
    return json.dumps(known)


EXTENSIONS = {name: _EXTENSION.format(answers=_answers(name)) for name in dict.fromkeys(o.package for o in OPERATIONS)}
"""Each operation of our extensions gives the answer of the doctor's table and refuses tensors on two devices."""

NVIDIA_SMI = """#!/bin/sh
case "$1" in
--query-gpu*) echo "{name}, {capability}, {memory}, {driver}" ;;
*) echo "| NVIDIA-SMI {driver}    Driver Version: {driver}    CUDA Version: {cuda}     |" ;;
esac
"""

NVCC = """#!/bin/sh
echo "Cuda compilation tools, release {version}, V{version}.131"
"""
