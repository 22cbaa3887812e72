"""Environments of the self-test: healthy ones, and those in which machine, packages, models or settings are at fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ..checks.model_files import expected as key_lists
from ..hub import MAIN
from .bench import ATEN, C10, NEW_CHECK_FAIL, OTHER_ROW, ROW, Bench
from .environment import environment

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


@environment("control: editable installation by an import hook")
def _(b: Bench) -> None:
    b.healthy().remove("trimesh")
    elsewhere = b.write(b.folder / "src" / "trimesh" / "__init__.py", "")
    table = f"MAPPING: dict[str, str] = {{'trimesh': {str(elsewhere.parent)!r}}}\n"
    b.write(b.site / "__editable___trimesh_1_0_finder.py", table)


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


@environment("GPU that is too old", "driver", "extensions", "flash-attn-absent", "wrong-arch")
def _(b: Bench) -> None:
    b.healthy().gpu("NVIDIA GeForce GTX 1080 Ti", "6.1", 11264)


@environment("GPU with little memory", "driver")
def _(b: Bench) -> None:
    b.healthy().gpu("NVIDIA GeForce RTX 3050", "8.6", 6144)


@environment("healthy: 12 GiB, without upstream's pipeline")
def _(b: Bench) -> None:
    b.healthy().gpu("NVIDIA GeForce RTX 3060", "8.6", 12288)
    assert not (b.site / "trellis2").exists()


@environment("upstream's pipeline on a GPU of 12 GiB", "driver")
def _(b: Bench) -> None:
    b.healthy().gpu("NVIDIA GeForce RTX 3060", "8.6", 12288)
    b.package("trellis2", files={"trellis2/__init__.py": ""})


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


@environment("allocator setting under a name that this torch does not heed", "memory-settings")
def _(b: Bench) -> None:
    b.healthy().env["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"


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


def _comfyui(b: Bench, requirements: str) -> Path:
    b.healthy()
    root = b.folder / "ComfyUI"
    b.write(root / "main.py", "")
    b.write(root / "custom_nodes/ComfyUI-TRELLIS.2/__init__.py", "")
    b.write(root / "custom_nodes/ComfyUI-TRELLIS.2/requirements.txt", requirements)
    b.env["COMFYUI_PATH"] = str(root)
    return root
