"""A CUDA 12 toolkit folder for clang, laid out from packages.

The packages of CUDA 12 hold headers, libdevice, ptxas and the shared runtime, but neither nvcc nor fatbinary.
clang needs no nvcc. For fatbinary the one of CUDA 13 serves, behind a few lines that spell its arguments anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .errors import BuildError

_FATBINARY = """#!/bin/sh
# clang says --image=profile=sm_86,file=F (or compute_86); this fatbinary wants --image3=kind=elf,sm=86,file=F.
for argument do
  shift
  case "$argument" in
    --image=profile=sm_*) argument="--image3=kind=elf,sm=${argument#--image=profile=sm_}" ;;
    --image=profile=compute_*) argument="--image3=kind=ptx,sm=${argument#--image=profile=compute_}" ;;
  esac
  set -- "$@" "$argument"
done
exec "$(dirname "$0")/fatbinary-13" "$@"
"""
# package folder -> place in the toolkit
_PARTS = {
    "nvidia/cuda_runtime/include": "include",
    "nvidia/cuda_nvcc/include": "include",
    "nvidia/curand/include": "include",
    "nvidia/cuda_cccl/include": "include",
    "nvidia/cuda_runtime/lib": "lib",
    "nvidia/cuda_nvcc/nvvm": "nvvm",
    "nvidia/cuda_nvcc/bin/ptxas": "bin/ptxas",
    "nvidia/cu13/bin/fatbinary": "bin/fatbinary-13",
}


def lay_out(packages: Path) -> Path:
    """The toolkit folder beside the unpacked `packages`; made at the first call."""
    toolkit = packages / "toolkit"
    if (toolkit / "bin" / "fatbinary").is_file():
        return toolkit
    for part, place in _PARTS.items():
        source, target = packages / part, toolkit / place
        if not source.exists():
            raise BuildError(f"{packages.name}: {part} is missing from the packages of the CUDA 12 toolkit")
        if source.is_dir():
            shutil.copytree(
                source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__init__.py", "__pycache__")
            )
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
            target.chmod(0o755)
    fatbinary = toolkit / "bin" / "fatbinary"
    fatbinary.write_text(_FATBINARY, encoding="utf-8")
    fatbinary.chmod(0o755)
    return toolkit
