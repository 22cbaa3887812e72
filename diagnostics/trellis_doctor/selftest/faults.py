"""The environments of the self-test: what is done to a healthy one, and exactly which checks must then speak up.

`expected` are the checks that must find an error or a warning. Any other check that does is a false alarm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..checks.model_files import expected as key_lists
from ..hub import MAIN
from . import elf_writer, stubs
from .bench import ATEN, C10, C10_CUDA, NEW_CHECK_FAIL, OLD_CHECK_FAIL, OTHER_ROW, ROW, Bench


@dataclass(frozen=True)
class Environment:
    name: str
    expected: frozenset[str]
    build: Callable[[Bench], object]


ENVIRONMENTS: list[Environment] = []


def environment(name: str, *expected: str) -> Callable[[Callable[[Bench], object]], Callable[[Bench], object]]:
    def add(build: Callable[[Bench], object]) -> Callable[[Bench], object]:
        ENVIRONMENTS.append(Environment(name, frozenset(expected), build))
        return build

    return add


# Clean controls


@environment("healthy: RTX 3090, CUDA 12.4")
def _(b: Bench) -> None:
    b.healthy().live = True


@environment("healthy: CPU torch, no GPU")
def _(b: Bench) -> None:
    b.healthy_cpu().live = True


@environment("control: machine code of the GPU's major version (sm_80 on 8.6)")
def _(b: Bench) -> None:
    b.healthy().library("other/_C.so", code=["sm_80"])


@environment("control: kernels for Hopper alone beside others (sm_90, sm_90a on 9.0)")
def _(b: Bench) -> None:
    b.healthy().gpu("NVIDIA H100 80GB HBM3", "9.0", 81559)
    b.library("other/_C.so", code=["sm_90", "sm_90a"])


@environment("control: older PTX alone (compute_70 on 8.6)")
def _(b: Bench) -> None:
    b.healthy().library("other/_C.so", code=["compute_70"])


@environment("control: torchaudio of a later release that lacks no symbol")
def _(b: Bench) -> None:
    b.healthy().library(
        "torchaudio/lib/libtorchaudio.so", needed=["libtorch.so", "libc10.so"], undefined=[NEW_CHECK_FAIL, ATEN[2]]
    )
    b.package("torchaudio", "2.11.0", {"torchaudio/__init__.py": ""}, record=["torchaudio/lib/libtorchaudio.so"])


@environment("control: symbols that a sibling library defines")
def _(b: Bench) -> None:
    b.healthy().library(
        "torchaudio/lib/libtorchaudio.so", needed=["libc10.so"], undefined=C10[:2], defined=["_ZN5torch5audio4loadEv"]
    )
    b.library(
        "torchaudio/_torchaudio.so", needed=["libtorchaudio.so", "libc10.so"], undefined=["_ZN5torch5audio4loadEv"]
    )


@environment("control: transformers 5 without upstream's code")
def _(b: Bench) -> None:
    b.healthy().remove("transformers")
    b.package("transformers", "5.1.0", {"transformers/__init__.py": ""})


@environment("control: a whole checkpoint")
def _(b: Bench) -> None:
    stem = "ss_dec_conv3d_16l8_fp16"
    b.healthy().checkpoint(b.folder / "models" / "ckpts", stem, key_lists()[stem])
    b.models = b.folder / "models"


@environment("control: ComfyUI with its nodes and their packages")
def _(b: Bench) -> None:
    _comfyui(b, "trimesh\naccelerate>=0.30\n")


@environment("control: a linker script named .so")
def _(b: Bench) -> None:
    b.healthy().write(b.site / "other" / "libz.so", "/* GNU ld script */\nINPUT(libz.so.1)\n")


# Interpreter and platform


@environment("no torch at all", "missing-module")
def _(b: Bench) -> None:
    b.interpreter()
    b.machine()
    b.live = True


@environment("interpreter ends at once", "python")
def _(b: Bench) -> None:
    _interpreter(b, "#!/bin/sh\necho 'Fatal Python error: init_fs_encoding' >&2\nexit 1\n")


@environment("interpreter hangs", "python")
def _(b: Bench) -> None:
    _interpreter(b, "#!/bin/sh\n/bin/sleep 60\n")
    b.timeout = 0.5


@environment("interpreter is another program", "python")
def _(b: Bench) -> None:
    _interpreter(b, "#!/bin/sh\necho hello\n")


@environment("interpreter's base was removed", "python")
def _(b: Bench) -> None:
    _interpreter(b, "#!/nowhere/python3\n")


@environment("Python 3.9", "python", "row")
def _(b: Bench) -> None:
    b.healthy().version = (3, 9, 18)


@environment("glibc 2.17", "platform")
def _(b: Bench) -> None:
    b.healthy().libc = ("glibc", "2.17")


@environment("musl", "platform")
def _(b: Bench) -> None:
    b.healthy().libc = ("", "")


@environment("WSL2 with 8 GiB", "platform")
def _(b: Bench) -> None:
    _wsl(b).at("/proc/meminfo", f"MemTotal:       {8 << 20} kB\n")


@environment("WSL2, environment on a Windows drive", "platform")
def _(b: Bench) -> None:
    _wsl(b).prefix_shown = Path("/mnt/c/Users/me/env")


@environment("container with 4 GiB", "platform")
def _(b: Bench) -> None:
    b.healthy().at("/.dockerenv", "")
    b.at("/sys/fs/cgroup/memory.max", f"{4 << 30}\n")


# Driver and CUDA


@environment("GPU torch, no GPU", "driver")
def _(b: Bench) -> None:
    b.healthy()
    (b.commands / "nvidia-smi").unlink()
    (b.root / "usr/lib/libcuda.so.1").unlink()


@environment("driver does not answer", "driver")
def _(b: Bench) -> None:
    b.healthy().command(
        "nvidia-smi", "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n"
    )


@environment("driver too old for torch", "driver", "extensions")
def _(b: Bench) -> None:
    b.healthy().gpu(driver="470.1", cuda="11.4")


@environment("libcuda missing beside nvidia-smi", "driver")
def _(b: Bench) -> None:
    b.healthy()
    (b.root / "usr/lib/libcuda.so.1").unlink()


@environment("CPU torch on a machine with a GPU", "driver")
def _(b: Bench) -> None:
    b.healthy_cpu().gpu()


@environment("CUDA_HOME of another CUDA", "cuda-home")
def _(b: Bench) -> None:
    b.healthy().env["CUDA_HOME"] = str(b.toolkit("13.0"))


@environment("CUDA_HOME points nowhere", "cuda-home")
def _(b: Bench) -> None:
    b.healthy().env["CUDA_HOME"] = "/opt/cuda-gone"


@environment("two nvcc: CUDA_HOME and PATH differ", "cuda-home")
def _(b: Bench) -> None:
    b.healthy().env["CUDA_HOME"] = str(b.toolkit("12.6"))
    b.env["PATH"] += f":{b.root}/usr/local/cuda-12.4/bin"


@environment("OpenCV made for another numpy", "module-import")
def _(b: Bench) -> None:
    _module(b, "cv2", "raise ImportError('numpy.core.multiarray failed to import')\n")


@environment("OpenCV with windows on a machine without a desktop", "module-import")
def _(b: Bench) -> None:
    _module(b, "cv2", "raise ImportError('libGL.so.1: cannot open shared object file: No such file or directory')\n")


@environment("a module whose own needs are not installed", "module-import")
def _(b: Bench) -> None:
    _module(b, "pygltflib", "import dataclasses_json_that_is_nowhere\n")


@environment("a module that aborts the process", "module-import")
def _(b: Bench) -> None:
    _module(b, "trimesh", "import os\nos.abort()\n")


@environment("control: the CUDA build of the torch of a row without CUDA")
def _(b: Bench) -> None:
    b.healthy_cpu().row = replace(ROW, name="bench-cpu", cuda=None, triton=None, flash_attn=None)
    b.torch(cuda="12.4")
    b.nvidia()
    b.triton()
    b.gpu()


@environment("another row than asked for", "row")
def _(b: Bench) -> None:
    b.healthy().row = OTHER_ROW


# torch and what is linked against it


@environment("torch dies of a segmentation fault", "torch-import")
def _(b: Bench) -> None:
    _torch(b, "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")


@environment("torch hangs", "torch-import")
def _(b: Bench) -> None:
    _torch(b, "import time\ntime.sleep(60)\n").timeout = 2.0


@environment("torch raises ImportError", "torch-import")
def _(b: Bench) -> None:
    _torch(b, "raise ImportError('libtorch_cuda.so: cannot open shared object file')\n")


@environment("a convolution gives wrong values", "torch-import")
def _(b: Bench) -> None:
    _torch(b, "nn.functional.conv2d = lambda x, w: Tensor(71.0)\n")


@environment("torch does not see the GPU", "torch-import", "triton-no-compiler")
def _(b: Bench) -> None:
    _torch(b, "cuda.is_available = lambda: False\n").triton(source="raise RuntimeError('0 active drivers')\n")


@environment("torchaudio 2.8.0 beside an older torch", "torchaudio-conflict")
def _(b: Bench) -> None:
    _torchaudio(b.healthy())


@environment("torchaudio 2.8.0 for CUDA beside CPU torch", "torchaudio-conflict")
def _(b: Bench) -> None:
    _torchaudio(b.healthy_cpu())


@environment("torchvision pinned to another torch, symbols fit", "torchaudio-conflict")
def _(b: Bench) -> None:
    b.healthy().library("torchvision/_C.so", needed=["libtorch.so", "libc10.so"], undefined=C10[:2])
    b.package("torchvision", "0.23.0", {"torchvision/__init__.py": ""}, ["torch (==2.8.0)"], ["torchvision/_C.so"])


@environment("flash-attn built against another torch", "abi-mismatch")
def _(b: Bench) -> None:
    b.healthy().flash_attn(
        undefined=[*C10, "_ZNK3c106SymInt6sym_neERKS0_", "_ZN3c104impl3cow23materialize_cow_storageERNS_11StorageImplE"]
    )


@environment("xformers for another CUDA runtime", "abi-mismatch", "duplicate-cudart")
def _(b: Bench) -> None:
    """As measured: the wheel of 0.0.35 needs libcudart.so.12, beside torch for CUDA 13."""
    b.healthy().library("xformers/_C.so", needed=["libc10.so", "libcudart.so.13"], undefined=C10[:1])
    files = {"xformers/__init__.py": "", "xformers/ops/__init__.py": "def memory_efficient_attention(q, k, v): ...\n"}
    b.package("xformers", "0.0.35", files, record=["xformers/_C.so"])


@environment("CUDA extension beside CPU torch", "abi-mismatch")
def _(b: Bench) -> None:
    b.healthy_cpu().library("ext/_C.so", needed=["libtorch_cuda.so", "libc10.so"], undefined=[C10[0], *C10_CUDA])


@environment("extension with pre-C++11 strings", "abi-mismatch", "cxx11-abi")
def _(b: Bench) -> None:
    b.healthy().library("ext/_C.so", needed=["libc10.so"], undefined=[OLD_CHECK_FAIL])


@environment("library for a newer glibc", "system-libraries")
def _(b: Bench) -> None:
    b.healthy().library("ext/_C.so", versions_needed={"libc.so.6": ["GLIBC_2.17", "GLIBC_2.38"]})


@environment("library for a newer libstdc++", "system-libraries")
def _(b: Bench) -> None:
    b.healthy().library("ext/_C.so", versions_needed={"libstdc++.so.6": ["GLIBCXX_3.4", "GLIBCXX_3.4.32"]})


@environment("wheel for another GPU (sm_90 on 8.6)", "wrong-arch")
def _(b: Bench) -> None:
    b.healthy().library("ext/_C.so", code=["sm_90"])


@environment("wheel for a higher minor version (sm_89 on 8.6)", "wrong-arch")
def _(b: Bench) -> None:
    b.healthy().library("ext/_C.so", code=["sm_75", "sm_89"])


@environment("PTX of a later GPU (compute_90 on 8.6)", "wrong-arch")
def _(b: Bench) -> None:
    b.healthy().library("ext/_C.so", code=["compute_90"])


@environment("kernels for Hopper alone on a later GPU (sm_90a on 10.0)", "wrong-arch")
def _(b: Bench) -> None:
    b.healthy().gpu("NVIDIA B200", "10.0", 183359)
    b.library("ext/_C.so", code=["sm_90a", "compute_90a"])


@environment("damaged GPU code", "wrong-arch")
def _(b: Bench) -> None:
    b.healthy()
    elf_writer.write(b.site / "ext/_C.so", code=elf_writer.gpu_code(["sm_86"])[:-40])


@environment("two CUDA runtimes mapped", "duplicate-cudart")
def _(b: Bench) -> None:
    _torch(b, stubs.MAP_TWO_RUNTIMES).library("other/lib/libcudart.so.12")


@environment("libraries for CUDA 12 and CUDA 13", "duplicate-cudart")
def _(b: Bench) -> None:
    b.healthy().library("ext/_C.so", needed=["libcudart.so.13", "libc10.so"], undefined=C10[:1])
    b.library("nvidia/cu13/lib/libcudart.so.13")


@environment("cuDNN of another version installed", "cudnn-mismatch")
def _(b: Bench) -> None:
    b.healthy().remove("nvidia-cudnn-cu12")
    b.package("nvidia-cudnn-cu12", "9.10.2.21")


@environment("cuDNN of another major version installed", "cudnn-mismatch")
def _(b: Bench) -> None:
    b.healthy().remove("nvidia-cudnn-cu12")
    b.package("nvidia-cudnn-cu12", "8.9.2.26")


@environment("a library apart from torch for CUDA 13 (onnxruntime)", "duplicate-cudart")
def _(b: Bench) -> None:
    b.healthy().library("onnxruntime/capi/libproviders_cuda.so", needed=["libcudart.so.13"])


@environment("control: editable installation by an import hook")
def _(b: Bench) -> None:
    b.healthy().remove("trimesh")
    elsewhere = b.write(b.folder / "src" / "trimesh" / "__init__.py", "")
    table = f"MAPPING: dict[str, str] = {{'trimesh': {str(elsewhere.parent)!r}}}\n"
    b.write(b.site / "__editable___trimesh_1_0_finder.py", table)


@environment("cuDNN of another version loaded", "cudnn-mismatch")
def _(b: Bench) -> None:
    _torch(b, "CUDNN = 8902\n")


@environment("torch refuses its cuDNN", "cudnn-mismatch")
def _(b: Bench) -> None:
    text = "def _refuse():\n    raise RuntimeError('cuDNN version incompatibility')\n\n\nbackends.cudnn.version = _refuse\n"
    _torch(b, text)


@environment("another cuDNN in LD_LIBRARY_PATH", "cudnn-mismatch")
def _(b: Bench) -> None:
    elf_writer.write(b.root / "opt/cudnn/lib/libcudnn.so.8")
    b.healthy().env["LD_LIBRARY_PATH"] = str(b.root / "opt/cudnn/lib")


# Triton and attention


@environment("no C compiler", "triton-no-compiler")
def _(b: Bench) -> None:
    b.healthy()
    (b.commands / "gcc").unlink()


@environment("no Python.h", "triton-no-compiler")
def _(b: Bench) -> None:
    b.healthy().include = b.prefix / "no-include"


@environment("no ptxas", "triton-no-compiler")
def _(b: Bench) -> None:
    b.healthy()
    (b.site / "triton/backends/nvidia/bin/ptxas").unlink()


@environment("Triton's kernel gives wrong values", "triton-no-compiler")
def _(b: Bench) -> None:
    b.healthy().triton(source=stubs.TRITON.replace("v + 1", "v + 2"))
    b.live = True


@environment("Triton's compiler dies", "triton-no-compiler")
def _(b: Bench) -> None:
    b.healthy().triton(source="import os\nos.abort()\n")
    b.live = True


@environment("FlexGEMM's autotuner beside an older Triton", "triton-autotune-api")
def _(b: Bench) -> None:
    b.healthy().triton(autotuner=stubs.TRITON_AUTOTUNER_BEFORE)


@environment("do_bench called with an argument it no longer has", "triton-autotune-api")
def _(b: Bench) -> None:
    b.healthy().flex_gemm(stubs.FLEX_GEMM_OLD_BENCH)


@environment("Triton that torch was not made with", "triton-autotune-api", "row")
def _(b: Bench) -> None:
    b.healthy().remove("triton")
    b.triton("3.4.0")


@environment("flash-attn absent where upstream asks for it", "flash-attn-absent")
def _(b: Bench) -> None:
    b.healthy().remove("flash-attn")
    b.package("trellis2", files={"trellis2/__init__.py": ""})


@environment("flash-attn without its compiled half", "flash-attn-absent")
def _(b: Bench) -> None:
    b.healthy()
    next(b.site.glob("flash_attn_2_cuda*")).unlink()


@environment("flash-attn 4 alone")
def _(b: Bench) -> None:
    b.healthy().remove("flash-attn")
    b.flash_attn_4()


@environment("flash-attn 4 beside flash-attn 2")
def _(b: Bench) -> None:
    b.healthy().flash_attn_4()


@environment("flash-attn 4 without its compiler, beside flash-attn 2", "flash-attn-absent")
def _(b: Bench) -> None:
    b.healthy().flash_attn_4()
    b.remove("nvidia-cutlass-dsl")


@environment("flash-attn on a GPU that cannot run it", "flash-attn-absent", "wrong-arch")
def _(b: Bench) -> None:
    b.healthy().gpu("NVIDIA GeForce RTX 2080 Ti", "7.5", 22528)
    b.remove("trellis-sparse", "trellis-mesh", "trellis-voxel", "trellis-raster", "trellis-shade")


# Packages


@environment("fork of flex_gemm without grid_sample_3d", "fork-api")
def _(b: Bench) -> None:
    b.healthy().write(b.site / "flex_gemm/ops/grid_sample/__init__.py", "def sample(): ...\n")


@environment("two packages own cumesh", "fork-api")
def _(b: Bench) -> None:
    files = {"cumesh/__init__.py": "from . import remeshing\nclass CuMesh: ...\nclass cuBVH: ...\n"}
    files["cumesh/remeshing.py"] = "def remesh_narrow_band_dc(): ...\n"
    b.healthy().package("cumesh", files=files)
    b.package("cumesh-fork", files=files)


@environment("trimesh missing", "missing-module")
def _(b: Bench) -> None:
    b.healthy().remove("trimesh")


@environment("zstandard, which trellis_voxel reads with, missing", "missing-module")
def _(b: Bench) -> None:
    b.healthy().remove("zstandard")


@environment("accelerate and rembg missing under upstream's code", "missing-module")
def _(b: Bench) -> None:
    b.healthy().remove("accelerate", "rembg")
    b.package("trellis2", files={"trellis2/__init__.py": ""})


@environment("transformers missing: no assets from images", "missing-module")
def _(b: Bench) -> None:
    b.healthy().remove("transformers")


@environment("control: no accelerate and no rembg for our own pipeline")
def _(b: Bench) -> None:
    b.healthy().remove("accelerate", "rembg")


@environment("record of a package damaged", "broken-metadata")
def _(b: Bench) -> None:
    b.healthy().write(b.site / "broken-1.0.dist-info" / "METADATA", "\x00\x01")


@environment("record of a package without METADATA", "broken-metadata")
def _(b: Bench) -> None:
    (b.healthy().site / "empty-1.0.dist-info").mkdir()


@environment("left over from an interrupted installation", "broken-metadata")
def _(b: Bench) -> None:
    (b.healthy().site / "~orch").mkdir()


@environment("library cut off", "unreadable-library")
def _(b: Bench) -> None:
    file = b.healthy().library("ext/_C.so", needed=["libc10.so"])
    file.write_bytes(file.read_bytes()[:-80])


@environment("library is a Git LFS pointer", "unreadable-library")
def _(b: Bench) -> None:
    b.healthy().write(
        b.site / "ext/_C.so", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n" + " " * 64
    )


@environment("transformers 5 under upstream's code", "transformers-5")
def _(b: Bench) -> None:
    b.healthy().remove("transformers")
    modeling = "class DINOv3ViTModel:\n    def __init__(self):\n        self.model = None\n"
    files = {"transformers/__init__.py": "", "transformers/models/dinov3_vit/modeling_dinov3_vit.py": modeling}
    b.package("transformers", "5.1.0", files)
    b.package("trellis2", files={"trellis2/__init__.py": ""})


@environment("transformers without DINOv3", "transformers-5")
def _(b: Bench) -> None:
    b.healthy().remove("transformers")
    b.package("transformers", "4.50.0", {"transformers/__init__.py": ""})


# Models, space, settings, ComfyUI


@environment("checkpoint cut off", "model-files")
def _(b: Bench) -> None:
    stem = "ss_dec_conv3d_16l8_fp16"
    b.healthy().checkpoint(b.folder / "models" / "ckpts", stem, key_lists()[stem], cut=4096)
    b.models = b.folder / "models"


@environment("checkpoint is a Git LFS pointer", "model-files")
def _(b: Bench) -> None:
    b.healthy().write(
        b.folder / "models/ckpts/tex_dec_next_dc_f16c32_fp16.safetensors",
        "version https://git-lfs.github.com/spec/v1\n",
    )
    b.models = b.folder / "models"


@environment("checkpoint with keys missing and of other shapes", "model-files")
def _(b: Bench) -> None:
    stem = "slat_flow_img2shape_dit_1_3B_512_bf16"
    keys = dict(key_lists()[stem])
    name = next(iter(keys))
    keys[name + ".renamed"] = keys.pop(name)
    keys["adaLN_modulation.1.weight"] = ("bf16", (2, 2))
    b.healthy().checkpoint(b.folder / "models" / "ckpts", stem.replace("512", "1024"), keys)
    b.models = b.folder / "models"


@environment("checkpoint named in pipeline.json missing", "model-files")
def _(b: Bench) -> None:
    b.healthy().write(
        b.folder / "models/pipeline.json",
        '{"args": {"models": {"shape_slat_decoder": "ckpts/shape_dec_next_dc_f16c32_fp16"}}}',
    )
    b.models = b.folder / "models"


@environment("gated model refused", "gated-model")
def _(b: Bench) -> None:
    cache = b.healthy().home / ".cache/huggingface/hub/models--facebook--dinov3-vitl16-pretrain-lvd1689m"
    b.write(cache / "snapshots/ea8d/config.json", "{}")


@environment("no room for scratch files", "disk-space")
def _(b: Bench) -> None:
    b.healthy().env["TMPDIR"] = str(b.folder)
    b.free[str(b.folder)] = 1 << 30
    b.prefix_shown = Path("/opt/env")
    b.home = Path("/home/me")


@environment("no room for the models", "disk-space")
def _(b: Bench) -> None:
    b.healthy().free[str(b.home)] = 5 << 30
    assert not (b.home / MAIN).exists()


@environment("expandable_segments under WSL2", "memory-settings")
def _(b: Bench) -> None:
    _wsl(b).env["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"


@environment("allocator option that does not exist", "memory-settings")
def _(b: Bench) -> None:
    b.healthy().env["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segment:True"


@environment("ComfyUI nodes unpacked one level too deep", "comfyui")
def _(b: Bench) -> None:
    root = _comfyui(b, "")
    node = root / "custom_nodes" / "ComfyUI-TRELLIS.2"
    (node / "__init__.py").rename(b.write(node / "ComfyUI-TRELLIS.2" / "__init__.py", ""))


@environment("ComfyUI nodes whose packages are missing", "comfyui")
def _(b: Bench) -> None:
    _comfyui(b, "trimesh\nplyfile==1.0\n")


# What several of them share


def _interpreter(b: Bench, script: str) -> None:
    b.healthy().live = True
    (b.prefix / "bin" / "python").unlink()
    b.write(b.prefix / "bin" / "python", script, executable=True)


def _wsl(b: Bench) -> Bench:
    b.healthy().at("/proc/version", "Linux version 5.15.153.1-microsoft-standard-WSL2")
    return b


def _module(b: Bench, name: str, source: str) -> None:
    b.healthy().write(b.site / name / "__init__.py", source)
    b.live = True


def _torch(b: Bench, extra: str) -> Bench:
    b.healthy().torch(extra=extra)
    b.live = True
    # One live probe is enough: the others are not what is broken here.
    if "sleep" in extra or "SIGSEGV" in extra or "ImportError" in extra:
        b.remove("triton", "flex_gemm")
    return b


def _torchaudio(b: Bench) -> None:
    """As measured: libtorchaudio of 2.8.0 needs libcudart.so.12 and these, among ten, from its own torch."""
    b.library(
        "torchaudio/lib/libtorchaudio.so",
        needed=["libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so", "libc10_cuda.so", "libc10.so", "libcudart.so.12"],
        undefined=[
            NEW_CHECK_FAIL,
            *C10_CUDA,
            "_ZN3c1013MessageLoggerC1EPKcii",
            "_ZN3c104cuda21warn_or_error_on_syncEv",
        ],
    )
    b.package(
        "torchaudio", "2.8.0", {"torchaudio/__init__.py": ""}, ["torch==2.8.0"], ["torchaudio/lib/libtorchaudio.so"]
    )


def _comfyui(b: Bench, requirements: str) -> Path:
    b.healthy()
    root = b.folder / "ComfyUI"
    b.write(root / "main.py", "")
    b.write(root / "custom_nodes/ComfyUI-TRELLIS.2/__init__.py", "")
    b.write(root / "custom_nodes/ComfyUI-TRELLIS.2/requirements.txt", requirements)
    b.env["COMFYUI_PATH"] = str(root)
    return root
