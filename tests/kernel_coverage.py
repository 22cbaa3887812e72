#!/usr/bin/env python3
"""Which kernels of the extensions a choice of tests launches, and which it leaves out.

    tests/from_source.sh --cuda sm_90 -- python3 tests/kernel_coverage.py [EXTENSION ...] [-- PYTEST ARGUMENTS]

The tests (by default the small CUDA cases, those of tests/sanitize.sh) run in this process under torch's profiler; the
kernels that exist are read from the machine code of the libraries, by cuobjdump (PATH or CUDA_HOME). Every
instantiation of a template counts. Prints a line for each extension, then every kernel that was not launched, and fails
if there is one (but for those that LARGE gives a reason for) or if a test failed.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

ROOT = Path(__file__).resolve().parents[1]
EXTENSIONS = ("sparse", "mesh", "voxel", "raster", "shade")
LARGE = {"copy_words<long>": "for images of 2^31 bytes and more alone"}
"""Kernels that the choice leaves out, and why."""
SMALL = ("-q", "-p", "no:cacheprovider", "-m", "cuda", "-k", (ROOT / "tests" / "small_cases.txt").read_text().strip())


def demangled(names: set[str]) -> set[str]:
    """Names as the C++ runtime spells them, which is how the profiler gives them."""
    runtime = ctypes.CDLL("libstdc++.so.6")
    spell = runtime.__cxa_demangle
    spell.restype, spell.argtypes = ctypes.c_void_p, [ctypes.c_char_p] + [ctypes.c_void_p] * 3
    found = set()
    for name in names:
        text = spell(name.encode(), None, None, None)
        found.add(ctypes.string_at(text).decode() if text else name)
    return found


def kernels_of(library: Path) -> set[str]:
    """Kernels in the machine code of `library`, without those of CUB and Thrust."""
    tool = shutil.which("cuobjdump") or str(Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin" / "cuobjdump")
    text = subprocess.run([tool, "-symbols", str(library)], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"STT_FUNC\s+STB_\w+\s+STO_ENTRY\s+(\S+)", text))
    return {plain(name) for name in demangled(names) if not re.match(r"(void )?(cub|thrust)::", name)}


def plain(name: str) -> str:
    """One spelling for unnamed namespaces, which nvcc names after the source."""
    return re.sub(r"\(anonymous namespace\)|_GLOBAL__N__\w+", "{}", name)


def template(kernel: str) -> str:
    """A kernel's name without its return type, template arguments and parameters."""
    return re.sub(r"^void ", "", kernel).replace("{}::", "").split("<")[0].split("(")[0]


def launched(arguments: list[str]) -> tuple[set[str], int]:
    """Names of the kernels that pytest's tests start, and pytest's status."""
    torch.ones(1, device="cuda")
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        status = pytest.main(arguments)
        torch.cuda.synchronize()
    return {plain(event.name) for event in record.events()}, int(status)


def main() -> int:
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    extensions, arguments = words[:split] or list(EXTENSIONS), words[split + 1 :]
    tests = [file for name in extensions for file in sorted((ROOT / "csrc" / name / "tests").glob("test_*.py"))]
    files = [str(file) for file in tests if "mark.cuda" in file.read_text()]
    prefix = Path(os.environ.get("TRELLIS_NATIVE_DIR", ROOT / "out" / "native"))
    there = {name: set().union(*map(kernels_of, prefix.glob(f"trellis_{name}/lib/_cuda*.so"))) for name in extensions}
    if not all(there.values()):
        print("no kernels in", ", ".join(name for name, found in there.items() if not found), "below", prefix)
        return 2
    used, status = launched([*SMALL, *(arguments or files)])
    missing = {name: sorted(kernels - used) for name, kernels in there.items()}
    left_out = set().union(*missing.values())
    excused = {kernel: reason for kernel in left_out for what, reason in LARGE.items() if what in kernel}
    for name, kernels in there.items():
        print(f"{name}: {len(kernels) - len(missing[name])} of {len(kernels)} kernels launched")
        by_template: dict[str, list[str]] = {}
        for kernel in missing[name]:
            if kernel in excused:
                print(f"  left out, {excused[kernel]}: {template(kernel)}")
                continue
            by_template.setdefault(template(kernel), []).append(kernel)
        for what, some in sorted(by_template.items()):
            none = not any(template(kernel) == what for kernel in kernels & used)
            print(f"  {'no instantiation' if none else f'{len(some)} instantiations'} of {what}: {some[0][:160]}")
    return int(status != 0 or left_out > set(excused))


if __name__ == "__main__":
    sys.exit(main())
