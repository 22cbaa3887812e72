"""Environments of the self-test in which torch, what is linked against it, Triton or flash-attn are at fault."""

from __future__ import annotations

from . import elf_writer, stubs
from .bench import C10, C10_CUDA, NEW_CHECK_FAIL, OLD_CHECK_FAIL, Bench
from .environment import environment


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


# What several of them share


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
