"""Sources of the packages that the self-test's environments hold: just enough for the probes to run on them."""

TORCH = """
from types import SimpleNamespace
from . import version
from .version import __version__

int32, bool, float32 = "int32", "bool", "float32"


class Tensor:
    def __init__(self, data, device="cpu"):
        self.data, self.device = data, device

    def tolist(self):
        return self.data

    def __getitem__(self, key):
        return self.data


def tensor(data, dtype=None, device="cpu"):
    return Tensor(data, device)


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

_SAME_DEVICE = """
import torch


def _same(*tensors):
    if len({t.device for t in tensors}) > 1:
        raise ValueError(f"tensors on {[t.device for t in tensors]}")


"""

OPERATIONS = {
    "sparse": _SAME_DEVICE
    + """
def grid_sample_3d(feats, coords, shape, points, mode="trilinear"):
    _same(feats, coords, points)
    return torch.tensor([[[1.0], [2.0]]])
""",
    "mesh": _SAME_DEVICE
    + """
def vertex_normals(vertices, faces):
    _same(vertices, faces)
    return torch.tensor([[0.0, 0.0, 1.0]] * 3)
""",
    "voxel": _SAME_DEVICE
    + """
def dual_grid_to_mesh(coords, local_dual, intersected, split_weight, *, aabb, grid_size):
    _same(coords, local_dual, intersected)
    return torch.tensor([[v + 0.5 for v in c] for c in coords.tolist()]), torch.tensor([[0, 1, 2], [1, 2, 3]])
""",
    "raster": _SAME_DEVICE
    + """
def rasterize(clip, faces, size):
    _same(clip, faces)
    return torch.tensor([[[[0.0, 0.0, 0.0, 1.0]] * 2] * 2])
""",
    "shade": _SAME_DEVICE
    + """
class EnvironmentLight:
    @classmethod
    def from_latlong(cls, image):
        return cls()

    def shade(self, at, normals, color, metallic, roughness, view):
        _same(at, normals, color, metallic, roughness, view)
        return torch.tensor([[0.96, 0.96, 0.96]])
""",
}

NVIDIA_SMI = """#!/bin/sh
case "$1" in
--query-gpu*) echo "{name}, {capability}, {memory}, {driver}" ;;
*) echo "| NVIDIA-SMI {driver}    Driver Version: {driver}    CUDA Version: {cuda}     |" ;;
esac
"""

NVCC = """#!/bin/sh
echo "Cuda compilation tools, release {version}, V{version}.131"
"""
