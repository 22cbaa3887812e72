"""What the tests of trellis_build share: this checkout, and small checkouts made for one test."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trellis_build.layout import Checkout, find_checkout

TINY_HEADER = """#ifndef TRELLIS_{name}_H
#define TRELLIS_{name}_H
#include "trellis/abi.h"
TK_API const char* tk_{name}_last_error(void);
TK_API const char* tk_{name}_version(void);
TK_API const char* tk_{name}_abi(void);
/* Twice the number. TK_API int tk_{name}_commented_out(int x); */
TK_API int tk_{name}_twice(const float* in, float* out, int device, void* stream);
#endif
"""
TINY_CPU = """#include "trellis_{name}.h"
#include "trellis/error.hpp"
TK_DEFINE_COMMON({name})
TK_API int tk_{name}_twice(const float* in, float* out, int, void*) {{
    return tk::guarded([&] {{
        tk::require(in != nullptr, tk::format("%s: in is null", __FILE__));  // holds a path for the test of equal bits
        *out = 2 * *in;
    }});
}}
"""
TINY_CUDA = """#include "trellis_{name}.h"
#include "trellis/cuda.cuh"
TK_DEFINE_COMMON({name})
namespace {{
__global__ void twice(const float* in, float* out) {{ *out = 2 * *in; }}
}}
TK_API int tk_{name}_twice(const float* in, float* out, int device, void* stream) {{
    return tk::guarded_on(device, [&] {{ twice<<<1, 1, 0, static_cast<cudaStream_t>(stream)>>>(in, out); }});
}}
"""
TINY_CMAKE = """cmake_minimum_required(VERSION 3.24)
project(trellis_{name} LANGUAGES CXX)
include("${{CMAKE_CURRENT_SOURCE_DIR}}/../native/cmake/TrellisExtension.cmake")
trellis_extension({name} CPU src/cpu.cpp CUDA src/kernel.cu)
"""
TINY_PROJECT = """[build-system]
requires = ["scikit-build-core"]
build-backend = "scikit_build_core.build"
[project]
name = "trellis-{name}"
version = "0.1.0"
[tool.scikit-build]
wheel.py-api = "py3"
wheel.packages = ["python/trellis_{name}"]
"""


@pytest.fixture(scope="session")
def checkout() -> Checkout:
    """The checkout that these tests lie in."""
    return find_checkout(Path(__file__))


def _add_extension(root: Path, name: str) -> Path:
    """A small but complete extension in csrc/<name>, built by the real CMake module."""
    folder = root / "csrc" / name
    contents = {
        f"include/trellis_{name}.h": TINY_HEADER,
        "src/cpu.cpp": TINY_CPU,
        "src/kernel.cu": TINY_CUDA,
        "CMakeLists.txt": TINY_CMAKE,
        "pyproject.toml": TINY_PROJECT,
        f"python/trellis_{name}/__init__.py": "",
    }
    for path, text in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text.format(name=name))
    return folder


@pytest.fixture
def tiny(checkout: Checkout, tmp_path: Path) -> Checkout:
    """A checkout with this one's matrix, locks and CMake module, and one small extension named sparse."""
    root = tmp_path / "checkout"
    shutil.copytree(checkout.locks, root / "build" / "locks")
    shutil.copy(checkout.root / "build" / "matrix.toml", root / "build")
    for part in ("include", "cmake"):
        shutil.copytree(checkout.root / "csrc" / "native" / part, root / "csrc" / "native" / part)
    _add_extension(root, "sparse")
    return Checkout(root)


def _cannot(reason: str) -> None:
    """Skips a test that this machine cannot run; where CI promised that it can, fails instead."""
    if os.environ.get("TRELLIS_CI"):
        pytest.fail(f"TRELLIS_CI is set, but {reason}")
    pytest.skip(reason)


# Answers --version and --dryrun as nvcc does, and "compiles" unless an option matches REJECTS.
NVCC = """#!/bin/sh
case "$*" in
  --version) echo "Cuda compilation tools, release {release}, V{release}.{patch}"; exit 0 ;;
  --dryrun*) echo '#$ TOP={top}' >&2; exit 0 ;;
esac
for argument do case "$argument" in {rejects}) echo "nvcc fatal: Unknown option '$argument'"; exit 1 ;; esac; done
echo "$*" >> {log}
"""


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def _toolkit(home: Path, release: str, patch: str = "88", rejects: str = "--never", runtime: bool = True) -> Path:
    """A folder that looks like an installed CUDA toolkit."""
    text = NVCC.format(release=release, patch=patch, top=home, rejects=rejects, log=home / "calls")
    _program(home / "bin" / "nvcc", text)
    if runtime:
        (home / "lib64").mkdir(exist_ok=True)
        (home / "lib64" / "libcudart_static.a").touch()
    return home


# Helpers as fixtures, because test modules cannot import one another in pytest's importlib mode.


@pytest.fixture
def add_extension() -> Callable[[Path, str], Path]:
    return _add_extension


@pytest.fixture
def cannot() -> Callable[[str], None]:
    return _cannot


@pytest.fixture
def program() -> Callable[[Path, str], Path]:
    """Writes an executable script."""
    return _program


@pytest.fixture
def toolkit() -> Callable[..., Path]:
    """Makes a folder that looks like an installed CUDA toolkit: (home, release, patch=, rejects=, runtime=)."""
    return _toolkit
