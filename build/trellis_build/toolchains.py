"""Which compiler builds a row's CUDA flavour. Decided, and tried on one kernel, before anything is compiled.

CUDA 13 rows take the exact compiler that the matrix names, from packages; an installed nvcc of the same CUDA
version serves when it is asked for (`system_cuda`) or when the packages cannot be had. CUDA 12 rows take the
nvcc of CUDA_HOME when its major version matches, else clang with a toolkit folder laid out from packages.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import clang_toolkit, packages, shell
from .errors import BuildError
from .fatbin import order
from .layout import Checkout
from .matrix import Row, ToolchainSpec

_PROBE = """#include <cuda_runtime.h>
namespace { __global__ void probe(float* p) { p[threadIdx.x] *= 2.0f; } }
extern "C" int run(float* p) { probe<<<1, 1>>>(p); return cudaGetLastError(); }
"""


@dataclass(frozen=True)
class Toolchain:
    """A CUDA compiler that was found, and how to call it for some architectures."""

    flavour: str  # "cuda13"
    style: str  # "nvcc" or "clang": how flags are spelt
    command: tuple[str, ...]
    flags: tuple[str, ...]
    libraries: tuple[str, ...]
    architectures: tuple[str, ...]
    identity: str  # compiler and version, without any folder: goes into the binary's note
    origin: str  # where it came from, for the report
    allowed: tuple[str, ...] = ()  # libraries beyond the C library that the result may need
    load_before: tuple[Path, ...] = ()
    fixed_names: bool = True  # the compiler can be told a source's name, so its folder leaves no trace

    @property
    def major(self) -> str:
        return self.flavour.removeprefix("cuda")

    def defines(self) -> dict[str, str]:
        """The variables of csrc/native/cmake/TrellisExtension.cmake."""
        prefix = f"TRELLIS_CUDA{self.major}_"
        return {
            prefix + "COMPILER": ";".join(self.command),
            prefix + "COMPILER_ID": self.identity,
            prefix + "STYLE": self.style,
            prefix + "FLAGS": ";".join(self.flags),
            prefix + "FIXED_NAMES": "ON" if self.fixed_names else "OFF",
            prefix + "LIBRARIES": ";".join(self.libraries),
            prefix + "ARCHS": ";".join(self.architectures),
        }


@dataclass(frozen=True)
class Request:
    """What a toolchain is wanted for. `environment` is the machine's, so that tests can give any."""

    row: Row
    architectures: tuple[str, ...]
    environment: Mapping[str, str]
    system_cuda: bool = False


def resolve(checkout: Checkout, request: Request) -> Toolchain | None:
    """The toolchain for a row's CUDA flavour, or None for a row without one.

    Raises:
        BuildError: none serves; says what was found and what to do. Nothing was compiled.
    """
    spec = request.row.toolchain
    if spec is None:
        return None
    found = _nvcc_row(checkout, request, spec) if spec.kind == "nvcc-packages" else _cuda12(checkout, request, spec)
    return _tried(checkout, found)


def nvcc_version(nvcc: Path | str) -> tuple[str, str] | None:
    """(release, exact version) of an nvcc, ("13.0", "13.0.88"), or None where it does not run."""
    try:
        done = subprocess.run([str(nvcc), "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return None
    match = re.search(r"release (\d+\.\d+), V(\d+\.\d+\.\d+)", done.stdout)
    return (match[1], match[2]) if match else None


def system_nvcc(environment: Mapping[str, str]) -> tuple[Path, str] | None:
    """The installed nvcc and how it was found: CUDA_HOME or CUDA_PATH, else PATH."""
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if home := environment.get(variable):
            return Path(home) / "bin" / "nvcc", f"{variable}={home}"
    found = shutil.which("nvcc", path=environment.get("PATH", ""))
    return (Path(found), f"nvcc on PATH ({found})") if found else None


def describe_nvcc(found: tuple[Path, str] | None, version: tuple[str, str] | None) -> str | None:
    """What `system_nvcc` found, for messages; None when it found nothing."""
    if found is None:
        return None
    return f"{found[1]} is CUDA {version[0]}" if version else f"{found[1]} has no nvcc that runs"


def nvcc_flags(architectures: tuple[str, ...]) -> tuple[str, ...]:
    """Target flags of nvcc: every architecture from its own virtual one."""
    return tuple(f"-gencode=arch=compute_{a.split('_')[1]},code={a}" for a in architectures)


def _nvcc_row(checkout: Checkout, request: Request, spec: ToolchainSpec) -> Toolchain:
    if request.system_cuda:
        return _system(request, spec, exact_minor=True)
    try:
        root = packages.fetch(checkout, f"toolchain-{spec.name}")
    except BuildError as error:
        found = system_nvcc(request.environment)
        version = nvcc_version(found[0]) if found else None
        if found and version and version[0] == spec.cuda:
            print(
                f"  the packages of toolchain {spec.name} cannot be had; using {found[1]}, CUDA {version[1]}",
                flush=True,
            )
            return _system(request, spec, exact_minor=True)
        what = describe_nvcc(found, version) or "none was found"
        raise BuildError(
            f"row {request.row.name} needs nvcc {spec.nvcc}: its packages cannot be had, and no installed nvcc is of "
            f"CUDA {spec.cuda} ({what}). "
            f"Connect pip to a package index, or install CUDA {spec.cuda} and set CUDA_HOME.\n{error}"
        ) from None
    home = root / "nvidia" / f"cu{spec.cuda.split('.')[0]}"
    version = nvcc_version(home / "bin" / "nvcc")
    if version is None or version[1] != spec.nvcc:
        raise BuildError(
            f"toolchain {spec.name}: the packages hold nvcc {version[1] if version else 'that does not run'}, "
            f"matrix.toml says {spec.nvcc}; delete {root} or correct the matrix"
        )
    return _nvcc(request, spec, home, version[1], f"packages locked in build/locks/toolchain-{spec.name}.txt")


def _cuda12(checkout: Checkout, request: Request, spec: ToolchainSpec) -> Toolchain:
    home = request.environment.get("CUDA_HOME") or request.environment.get("CUDA_PATH")
    version = nvcc_version(Path(home) / "bin" / "nvcc") if home else None
    if request.system_cuda or (version and version[0].split(".")[0] == spec.cuda):
        return _system(request, spec, exact_minor=False)
    clang = shutil.which(f"clang++-{spec.clang}", path=request.environment.get("PATH", ""))
    if clang is None:
        said = f"CUDA_HOME={home} is CUDA {version[0]}" if version else f"CUDA_HOME={home} holds no nvcc that runs"
        raise BuildError(
            f"row {request.row.name} needs a compiler for CUDA {spec.cuda}: "
            f"{said if home else 'CUDA_HOME is not set'}, and clang++-{spec.clang} is not installed. "
            f"Set CUDA_HOME to a CUDA {spec.cuda}.x toolkit, or install clang "
            f"(Debian and Ubuntu: `apt-get install clang-{spec.clang}`)",
            fault="cuda-home" if home else None,
        )
    if home:
        print(f"  CUDA_HOME={home} is not CUDA {spec.cuda}; using clang-{spec.clang} and packages", flush=True)
    root = clang_toolkit.lay_out(packages.fetch(checkout, f"toolchain-{spec.name}"))
    text = subprocess.run([clang, "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"version (\d+\.\d+\.\d+)", text)
    ptx = {a.replace("compute", "sm") for a in request.architectures if a.startswith("compute_")}
    # clang gives PTX only beside the machine code of the same architecture.
    targets = {a for a in request.architectures if a.startswith("sm_")} | ptx
    return Toolchain(
        flavour=spec.flavour,
        style="clang",
        command=(clang,),
        flags=(
            f"--cuda-path={root}",
            *(f"--offload-arch={a}" for a in order(targets)),
            "--no-cuda-include-ptx=all",
            *(f"--cuda-include-ptx={a}" for a in order(ptx)),
            "-Wno-unknown-cuda-version",  # clang 19 knows CUDA 12.4 only partly; what is used here it does know
            "-Wno-unused-command-line-argument",  # an extension's .cpp files are compiled with the same flags
        ),
        libraries=(str(root / "lib" / "libcudart.so.12"),),
        architectures=order({*request.architectures, *targets}),
        identity=f"clang {match[1] if match else spec.clang} with CUDA {spec.clang_cuda}",
        origin=f"clang++-{spec.clang} and packages locked in build/locks/toolchain-{spec.name}.txt",
        # The packages hold the shared runtime only; torch's own CUDA 12 dependencies bring it to users.
        allowed=("libcudart.so.12",),
        load_before=(root / "lib" / "libcudart.so.12",),
    )


def _system(request: Request, spec: ToolchainSpec, *, exact_minor: bool) -> Toolchain:
    found = system_nvcc(request.environment)
    wish = f"an nvcc of CUDA {spec.cuda}" if exact_minor else f"an nvcc of CUDA {spec.cuda}.x"
    if found is None:
        raise BuildError(f"row {request.row.name} needs {wish}: CUDA_HOME is not set and PATH has no nvcc")
    version = nvcc_version(found[0])
    if version is None:
        raise BuildError(f"row {request.row.name} needs {wish}: {found[1]} has no nvcc that runs", fault="cuda-home")
    if (version[0] if exact_minor else version[0].split(".")[0]) != spec.cuda:
        raise BuildError(
            f"row {request.row.name} needs {wish}: {found[1]} is CUDA {version[0]}. "
            f"Set CUDA_HOME to a matching toolkit, or leave --system-cuda out",
            fault="cuda-home",
        )
    return _nvcc(request, spec, found[0].resolve().parent.parent, version[1], found[1], nvcc=found[0])


def _nvcc(
    request: Request, spec: ToolchainSpec, home: Path, version: str, origin: str, nvcc: Path | None = None
) -> Toolchain:
    nvcc = nvcc or home / "bin" / "nvcc"
    return Toolchain(
        flavour=spec.flavour,
        style="nvcc",
        command=(str(nvcc),),
        flags=nvcc_flags(request.architectures),
        libraries=(str(_static_runtime(nvcc, home)),),
        architectures=request.architectures,
        identity=f"nvcc {version}",
        origin=origin,
    )


def _static_runtime(nvcc: Path, home: Path) -> Path:
    """libcudart_static.a of a toolkit; an nvcc that is a wrapper elsewhere says itself where its toolkit lies."""
    homes = [home]
    dry = subprocess.run([str(nvcc), "--dryrun", "-c", "x.cu"], capture_output=True, text=True, check=False)
    if match := re.search(r"^#\$ TOP=(.+)$", dry.stderr, re.MULTILINE):
        homes.append(Path(match[1]))
    places = [h / p for h in homes for p in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib")]
    for folder in places:
        if (folder / "libcudart_static.a").is_file():
            return (folder / "libcudart_static.a").resolve()
    raise BuildError(f"the CUDA toolkit of {nvcc} has no libcudart_static.a (looked in {', '.join(map(str, places))})")


def _tried(checkout: Checkout, toolchain: Toolchain) -> Toolchain:
    """Compiles one kernel for every architecture; once for each compiler, as a success is remembered."""
    key = hashlib.sha256(repr((toolchain, _PROBE)).encode()).hexdigest()[:16]
    folder = checkout.out / "toolchains" / f"probe-{key}"
    for fixed in (True, False) if toolchain.style == "nvcc" else (True,):
        candidate = Toolchain(**{**toolchain.__dict__, "fixed_names": fixed})
        done = folder / f"ok-{fixed}"
        if done.is_file():
            return candidate
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "probe.cu").write_text(_PROBE)
        names = fixed_name_flags("probe.cu") if fixed and toolchain.style == "nvcc" else ()
        files = ("-c", str(folder / "probe.cu"), "-o", str(folder / "probe.o"))
        command = [*toolchain.command, *toolchain.flags, *names, "-std=c++17", *files]
        try:
            with shell.step(f"{toolchain.identity}: trying one kernel for {', '.join(toolchain.architectures)}"):
                shell.run(command, log=folder / f"{fixed}.log", what=f"{toolchain.identity} on one kernel")
        except BuildError as error:
            # An nvcc may not know the options for names; a real fault shows without them too.
            if fixed and toolchain.style == "nvcc":
                continue
            wish = ", ".join(toolchain.architectures)
            raise BuildError(f"{toolchain.origin}: the compiler cannot build for {wish}.\n{error}") from None
        done.touch()
        return candidate
    raise AssertionError("unreachable")


def fixed_name_flags(name: str) -> tuple[str, ...]:
    """What makes nvcc derive symbol names from `name` instead of the source's folder (as the CMake module does)."""
    each = [f"-X{stage}={flag}" for stage in ("cudafe", "cicc") for flag in ("--orig_src_path_name", name)]
    return (f"-frandom-seed={name}", *each)
