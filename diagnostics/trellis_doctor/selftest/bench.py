"""An environment on a workbench: a machine, an interpreter and packages, made of small files in one folder.

`Bench.healthy` is the clean control; the faults in `faults.py` each break one thing of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ..cache import LibraryCache
from ..context import Context
from ..interpreter import Interpreter, inspect
from ..machine import Machine
from ..matrix import Row
from ..process import Answer
from . import elf_writer, stubs

ROW = Row("bench", "the self-test's own", ("3.11",), "2.6.0", "12.4", "3.2.0", "2.7.4.post1")
OTHER_ROW = Row("bench-13", "the self-test's other", ("3.11",), "2.11.0", "13.0", "3.6.0", None)

NEW_CHECK_FAIL = "_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
OLD_CHECK_FAIL = "_ZN3c106detail14torchCheckFailEPKcS2_jRKSs"
C10 = (NEW_CHECK_FAIL, "_ZN3c105ErrorD1Ev", "_ZTIN3c105ErrorE", "_ZN3c1013MessageLoggerC1EPKciib")
ATEN = ("_ZN2at4_ops5empty4callEv", "_ZN5torch8autograd8VariableE", "aoti_torch_empty_strided", "torch_library_impl")
C10_CUDA = ("_ZN3c104cuda20getCurrentCUDAStreamEa", "_ZN3c104cuda14ExchangeDeviceEa")

MODULES = {
    "numpy": "numpy", "PIL": "pillow", "safetensors": "safetensors", "trimesh": "trimesh", "pygltflib": "pygltflib",
    "transformers": "transformers", "accelerate": "accelerate", "rembg": "rembg", "huggingface_hub": "huggingface-hub",
    "easydict": "easydict", "imageio": "imageio", "cv2": "opencv-python-headless", "tqdm": "tqdm", "kornia": "kornia",
    "timm": "timm", "zstandard": "zstandard", "einops": "einops", "pip": "pip",
}  # fmt: skip


class Bench:
    """A folder with an environment in it; change it, then take its `context`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "machine"
        self.prefix = folder / "env"
        self.site = self.prefix / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
        self.commands = self.root / "usr" / "bin"
        self.home = folder / "home"
        for place in (self.site, self.commands, self.home, self.prefix / "bin"):
            place.mkdir(parents=True)
        self.env: dict[str, str] = {"PATH": str(self.commands), "HOME": str(self.home), "LC_ALL": "C.UTF-8"}
        self.libc = ("glibc", "2.36")
        self.version = (3, 11, 7)
        self.prefix_shown: Path | None = None
        self.include: Path = self.prefix / "include"
        self.free: dict[str, int] = {}
        self.row: Row | None = None
        self.models: Path | None = None
        self.timeout = 60.0
        self.live = False
        """Whether the probes really run; else they answer as in the healthy environment."""

    # Files

    def write(self, path: Path, text: str, executable: bool = False) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if executable:
            path.chmod(0o755)
        return path

    def at(self, path: str, text: str) -> Path:
        """A file of the machine."""
        return self.write(self.root / path.lstrip("/"), text)

    def command(self, name: str, script: str = "#!/bin/sh\nexit 0\n") -> Path:
        return self.write(self.commands / name, script, executable=True)

    def package(
        self,
        distribution: str,
        version: str = "1.0",
        files: Mapping[str, str] | None = None,
        requires: Iterable[str] = (),
        record: Iterable[str] = (),
    ) -> Path:
        """Installs a distribution: its files, its metadata and its record."""
        files = files or {}
        for name, text in files.items():
            self.write(self.site / name, text)
        info = self.site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        head = [f"Name: {distribution}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        self.write(info / "METADATA", "Metadata-Version: 2.1\n" + "\n".join(head) + "\n\nText.\n")
        self.write(info / "RECORD", "".join(f"{f},,\n" for f in [*files, *record]))
        return info

    def library(
        self,
        path: str,
        *,
        needed: Iterable[str] = (),
        defined: Iterable[str] = (),
        undefined: Iterable[str] = (),
        versions_needed: Mapping[str, Iterable[str]] | None = None,
        code: Iterable[str] = (),
    ) -> Path:
        """A library in site-packages."""
        listed = list(code)
        return elf_writer.write(
            self.site / path, needed=needed, defined=defined, undefined=undefined, versions_needed=versions_needed,
            code=elf_writer.gpu_code(listed) if listed else b"",
        )  # fmt: skip

    def remove(self, *names: str) -> None:
        """Removes distributions: their metadata and everything they recorded."""
        for name in names:
            for info in self.site.glob(f"{name.replace('-', '_')}-*.dist-info"):
                for line in (info / "RECORD").read_text(encoding="utf-8").splitlines():
                    (self.site / line.split(",")[0]).unlink(missing_ok=True)
                for file in info.iterdir():
                    file.unlink()
                info.rmdir()
        for folder in sorted(self.site.rglob("*"), reverse=True):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    # Parts of a healthy environment

    def interpreter(self) -> None:
        """A virtual environment of the running Python, without anything in it."""
        base = Path(sys._base_executable if hasattr(sys, "_base_executable") else sys.executable)
        self.write(self.prefix / "pyvenv.cfg", f"home = {base.parent}\ninclude-system-site-packages = false\n")
        (self.prefix / "bin" / "python").symlink_to(base)
        self.write(self.include / "Python.h", "")

    def machine(self) -> None:
        self.at("/proc/version", "Linux version 6.1.0")
        self.at("/proc/meminfo", f"MemTotal:       {64 << 20} kB\n")
        self.command("gcc")
        elf_writer.write(
            self.root / "usr/lib/libstdc++.so.6", soname="libstdc++.so.6",
            versions_defined=["libstdc++.so.6", "GLIBCXX_3.4", "GLIBCXX_3.4.28", "CXXABI_1.3"],
        )  # fmt: skip

    def gpu(
        self,
        name: str = "NVIDIA GeForce RTX 3090",
        capability: str = "8.6",
        memory: int = 24576,
        driver: str = "550.54.14",
        cuda: str = "12.4",
    ) -> None:
        smi = stubs.NVIDIA_SMI.format(name=name, capability=capability, memory=memory, driver=driver, cuda=cuda)
        self.command("nvidia-smi", smi)
        elf_writer.write(self.root / "usr/lib/libcuda.so.1", soname="libcuda.so.1")

    def toolkit(self, version: str) -> Path:
        folder = self.root / "usr" / "local" / f"cuda-{version}"
        self.write(folder / "bin" / "nvcc", stubs.NVCC.format(version=version), executable=True)
        return folder

    def torch(self, version: str = "2.6.0", cuda: str | None = "12.4", extra: str = "") -> None:
        local = "cpu" if cuda is None else "cu" + cuda.replace(".", "")
        text = f"__version__ = '{version}+{local}'\ncuda = {cuda!r}\n"
        libraries = {
            "libc10.so": C10,
            "libtorch_cpu.so": ATEN,
            "libtorch.so": (),
            "libtorch_python.so": ("THPVariable_Wrap",),
        }
        requires = ["filelock"]
        if cuda:
            libraries |= {"libc10_cuda.so": C10_CUDA, "libtorch_cuda.so": ("_ZN2at4cuda3runEv",)}
            requires += [
                'nvidia-cudnn-cu12==9.1.0.70; platform_system == "Linux"',
                'triton==3.2.0; platform_system == "Linux"',
            ]
        for name, defined in libraries.items():
            self.library(f"torch/lib/{name}", defined=defined, needed=["libc.so.6"])
        files = {"torch/__init__.py": stubs.TORCH + extra, "torch/version.py": text}
        self.package("torch", version, files, requires, [f"torch/lib/{n}" for n in libraries])

    def nvidia(self) -> None:
        for name in ("libcudart.so.12", "libcublas.so.12"):
            folder = "cuda_runtime" if "cudart" in name else "cublas"
            self.library(f"nvidia/{folder}/lib/{name}")
            self.package(f"nvidia-{folder.replace('_', '-')}-cu12", "12.4.127", record=[f"nvidia/{folder}/lib/{name}"])
        self.library("nvidia/cudnn/lib/libcudnn.so.9")
        self.package("nvidia-cudnn-cu12", "9.1.0.70", record=["nvidia/cudnn/lib/libcudnn.so.9"])

    def triton(
        self, version: str = "3.2.0", autotuner: str = stubs.TRITON_AUTOTUNER, source: str = stubs.TRITON
    ) -> None:
        files = {
            "triton/__init__.py": source,
            "triton/language.py": stubs.TRITON_LANGUAGE,
            "triton/testing.py": stubs.TRITON_TESTING,
            "triton/runtime/__init__.py": "",
            "triton/runtime/autotuner.py": autotuner,
            "triton/backends/nvidia/bin/ptxas": "",
        }
        self.package("triton", version, files)

    def flash_attn(
        self, undefined: Iterable[str] = (*C10, *C10_CUDA), code: Iterable[str] = ("sm_80", "compute_80")
    ) -> None:
        library = "flash_attn_2_cuda.cpython-311-x86_64-linux-gnu.so"
        self.library(
            library, undefined=undefined, code=code,
            needed=["libc10.so", "libtorch_cuda.so", "libc10_cuda.so", "libcudart.so.12", "libstdc++.so.6"],
        )  # fmt: skip
        functions = "".join(
            f"def {n}(): ...\n"
            for n in (
                "flash_attn_func",
                "flash_attn_varlen_func",
                "flash_attn_varlen_kvpacked_func",
                "flash_attn_varlen_qkvpacked_func",
            )
        )
        files = {"flash_attn/__init__.py": "from .interface import *\n", "flash_attn/interface.py": functions}
        self.package("flash-attn", "2.7.4.post1", files, record=[library])

    def flash_attn_4(self) -> None:
        """Beside `flash_attn`, or alone: its files are below that one's folder, which then has no __init__."""
        self.package("flash-attn-4", "4.0.0", {"flash_attn/cute/__init__.py": "def flash_attn_func(): ...\n"})
        for module, distribution in (
            ("nvidia_cutlass_dsl", "nvidia-cutlass-dsl"),
            ("quack", "quack-kernels"),
            ("tvm_ffi", "apache-tvm-ffi"),
        ):
            self.package(distribution, "1.0", {f"{module}/__init__.py": ""})

    def flex_gemm(self, autotuner: str = stubs.FLEX_GEMM_AUTOTUNER) -> None:
        files = {
            "flex_gemm/__init__.py": "from . import ops\n",
            "flex_gemm/utils/autotuner.py": autotuner,
            "flex_gemm/utils/__init__.py": "",
            "flex_gemm/ops/__init__.py": "from . import spconv, grid_sample\n",
            "flex_gemm/ops/spconv/__init__.py": "def set_algorithm(a): ...\ndef set_hashmap_ratio(r): ...\n"
            "from .conv import sparse_submanifold_conv3d\n",
            "flex_gemm/ops/spconv/conv.py": "def sparse_submanifold_conv3d(): ...\n",
            "flex_gemm/ops/grid_sample/__init__.py": "from .grid_sample import grid_sample_3d\n",
            "flex_gemm/ops/grid_sample/grid_sample.py": "def grid_sample_3d(): ...\n",
        }
        self.package("flex_gemm", "1.0.0", files)

    def modules(self) -> None:
        for module, distribution in MODULES.items():
            self.package(distribution, "4.57.0" if module == "transformers" else "1.0", {f"{module}/__init__.py": ""})

    def extension(
        self, name: str, source: str | None = None, version: str = "0.1.0", symbols: Iterable[str] | None = None
    ) -> None:
        """One of our own extensions, with a CPU and a CUDA 12 flavour."""
        verbs = ("run", "abi", "version", "last_error")
        header = "#pragma once\n" + "".join(f"TK_API int tk_{name}_{v}(int device, void* stream);\n" for v in verbs)
        package = f"trellis_{name}"
        files = {
            f"{package}/__init__.py": stubs.EXTENSIONS[name] if source is None else source,
            f"{package}/include/{package}.h": header,
        }
        recorded = []
        for flavour, code in (("cpu", ["x86_64"]), ("cuda12", ["sm_80", "sm_86", "compute_90"])):
            note = {
                "flavour": flavour, "architectures": code, "version": version, "compiler": "g++",
                "abi": hashlib.sha256(header.encode()).hexdigest(),
            }  # fmt: skip
            files[f"{package}/lib/_{flavour}.json"] = json.dumps(note)
            self.library(
                f"{package}/lib/_{flavour}.so", code=[c for c in code if "_" in c and flavour != "cpu"],
                defined=[f"tk_{name}_{v}" for v in verbs] if symbols is None else symbols,
            )  # fmt: skip
            recorded.append(f"{package}/lib/_{flavour}.so")
        self.package(f"trellis-{name}", version, files, record=recorded)

    def extensions(self) -> None:
        self.package("trellis-native", "0.1.0", {"trellis_native/__init__.py": ""})
        for name in stubs.EXTENSIONS:
            self.extension(name)

    def checkpoint(
        self, folder: Path, stem: str, keys: Mapping[str, tuple[str, tuple[int, ...]]], cut: int = 0
    ) -> Path:
        """A safetensors file with these keys, its data a hole of the right size, `cut` bytes short."""
        sizes = {"f16": 2, "bf16": 2, "f32": 4}
        header: dict[str, object] = {}
        at = 0
        for name, (kind, shape) in keys.items():
            size = sizes[kind]
            for n in shape:
                size *= n
            header[name] = {"dtype": kind.upper(), "shape": list(shape), "data_offsets": [at, at + size]}
            at += size
        text = json.dumps(header).encode()
        path = folder / f"{stem}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            file.truncate(8 + len(text) + at - cut)
        return path

    # Whole environments

    def healthy(self) -> Bench:
        """RTX 3090 on Linux, torch 2.6.0 for CUDA 12.4, everything installed."""
        self.interpreter()
        self.machine()
        self.gpu()
        self.toolkit("12.4")
        self.torch()
        self.nvidia()
        self.triton()
        self.flash_attn()
        self.flex_gemm()
        self.modules()
        self.extensions()
        return self

    def healthy_cpu(self) -> Bench:
        """No GPU, the CPU build of torch."""
        self.interpreter()
        self.machine()
        self.torch(cuda=None)
        self.modules()
        self.extensions()
        return self

    # Looking at it

    def context(self, answers: Mapping[str, Answer]) -> Context:
        """What the doctor sees; `answers` are those of the healthy environment's probes."""
        machine = _Machine(self.root, self.env, self.libc, self.home, self.free)
        if self.live:
            python = inspect(self.prefix / "bin" / "python", machine, min(self.timeout, 20))
        else:
            python = Interpreter(
                self.prefix / "bin" / "python", self.version, self.prefix, (self.site,), (self.site,), self.include,
                os.uname().machine, 64, is_venv=True, trouble=None,
            )  # fmt: skip
        if python.version:  # the same on whichever Python the self-test runs
            python = replace(python, version=self.version, include=self.include)
        if self.prefix_shown:
            python = replace(python, prefix=self.prefix_shown)
        return Context(
            python, machine, LibraryCache(None), row=self.row, rows=(ROW, OTHER_ROW), models=self.models,
            timeout=self.timeout, answers=None if self.live else dict(answers),
        )  # fmt: skip


class _Machine(Machine):
    def __init__(
        self, root: Path, env: Mapping[str, str], libc: tuple[str, str], home: Path, free: Mapping[str, int]
    ) -> None:
        super().__init__(root, env, libc, home)
        self._free = free

    def free(self, path: Path) -> int | None:
        """As asked for by the longest prefix of `path`, else plenty."""
        return next((size for start, size in self._free.items() if str(path).startswith(start)), 1 << 40)
