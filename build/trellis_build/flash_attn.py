"""`nox -s flash_attn`: a flash-attn wheel from its source release, against the row's own torch.

Optional: attention works without it. Its kernels take about 9 GB of memory each to compile and hours in all,
so everything that can be known beforehand is checked beforehand, and a build that was stopped goes on.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from . import environments, machine, packages, shell, toolchains
from .builder import targets
from .environments import Environment
from .errors import BuildError
from .layout import Checkout
from .matrix import Row

_JOB_BYTES = 9 * 10**9
# What its build knows; cards of 8.6 and 8.9 run the code for 8.0, older ones are not supported.
_KERNELS = {"sm_80": "80", "sm_86": "80", "sm_89": "80", "sm_90": "90", "sm_100": "100", "sm_120": "120"}


def kernels(architectures: Sequence[str]) -> tuple[str, ...]:
    """The kernels that serve `architectures`, as flash-attn numbers them.

    Raises:
        BuildError: none of them is one that flash-attn has kernels for.
    """
    found = sorted({_KERNELS[a] for a in architectures if a in _KERNELS}, key=int)
    if not found:
        raise BuildError(
            f"flash-attn has no kernels for {', '.join(architectures)}; it needs one of {', '.join(_KERNELS)}"
        )
    return tuple(found)


def jobs(memory: int, processors: int) -> int:
    """How many kernels to compile at a time.

    Raises:
        BuildError: the memory does not hold one.
    """
    fitting = memory // _JOB_BYTES
    if fitting < 1:
        raise BuildError(f"compiling flash-attn needs about 9 GB of memory; {memory / 1e9:.1f} GB are available")
    return int(min(fitting, processors))


def compiler_home(checkout: Checkout, row: Row, system_cuda: bool) -> Path:
    """A CUDA toolkit with nvcc of the very CUDA version that the row's torch was built with.

    Raises:
        BuildError: there is none. clang cannot build flash-attn, so CUDA 12 rows need an installed toolkit.
    """
    spec = row.toolchain
    if spec is None or row.cuda is None or row.flash_attn is None:
        raise BuildError(f"row {row.name} has no flash-attn: it is a CUDA library")
    if spec.kind == "nvcc-packages" and not system_cuda:
        return packages.fetch(checkout, f"toolchain-{spec.name}") / "nvidia" / f"cu{row.cuda.split('.')[0]}"
    found = toolchains.system_nvcc(os.environ)
    version = toolchains.nvcc_version(found[0]) if found else None
    if found is None or version is None or version[0] != row.cuda:
        have = toolchains.describe_nvcc(found, version) or "no nvcc was found"
        raise BuildError(
            f"flash-attn for row {row.name} needs nvcc of CUDA {row.cuda}, as its torch {row.torch} was built with; {have}. "
            f"Install the CUDA {row.cuda} toolkit and set CUDA_HOME to it",
            fault="cuda-home",
        )
    return found[0].resolve().parent.parent


def build(checkout: Checkout, row: Row, *, architectures: Sequence[str] = (), system_cuda: bool = False) -> Path:
    """The wheel of the row's flash-attn, in dist/flash-attn/<row>/.

    Raises:
        BuildError: compiler, torch or memory do not fit (before anything is compiled), or the build failed.
    """
    home = compiler_home(checkout, row, system_cuda)
    wanted = kernels(targets(checkout.matrix, row, architectures))
    number = jobs(machine.memory_available(), machine.cores())
    environment = environments.for_row(checkout, row)
    built_for = shell.run(
        [environment.python, "-c", "import torch; print(torch.__version__.split('+')[0], torch.version.cuda)"],
        env=environment.variables(),
        what="asking torch for its CUDA",
    ).split()[-2:]
    if built_for != [row.torch, str(row.cuda)]:
        have = " for CUDA ".join(built_for)
        raise BuildError(f"row {row.name} is torch {row.torch} for CUDA {row.cuda}; its environment holds torch {have}")
    lock = checkout.locks / f"{row.name}-flash-attn.txt"
    source = _source(checkout, row, environment, lock)
    print(
        f"  flash-attn {row.flash_attn}: kernels {', '.join(wanted)}, {number} at a time; stop and start again at will",
        flush=True,
    )
    code = shell.passthrough(
        [environment.python, "setup.py", "bdist_wheel"],  # in the source tree, so that finished objects are kept
        cwd=source,
        env={
            **environment.variables(),
            "CUDA_HOME": str(_complete(checkout, environment, home, row)),
            "MAX_JOBS": str(number),
            "NVCC_THREADS": "1",
            "FLASH_ATTENTION_FORCE_BUILD": "TRUE",  # never a wheel that somebody else built for another torch
            "FLASH_ATTN_CUDA_ARCHS": ";".join(wanted),
        },
    )
    if code != 0:
        raise BuildError(f"flash-attn did not build (exit status {code}); what was compiled is kept in {source}")
    target = checkout.dist("flash-attn") / row.name
    target.mkdir(parents=True, exist_ok=True)
    newest = max((source / "dist").glob("*.whl"), key=lambda p: p.stat().st_mtime)
    return Path(shutil.copy2(newest, target / newest.name))


def _source(checkout: Checkout, row: Row, environment: Environment, lock: Path) -> Path:
    """The unpacked source release, its hash checked by pip, and the tools of its build installed."""
    base = checkout.out / "flash-attn" / row.name
    source = base / f"flash_attn-{row.flash_attn}"
    if (base / "lock").is_file() and (base / "lock").read_text() == hashlib.sha256(lock.read_bytes()).hexdigest():
        return source
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir(parents=True)
    blocks = lock.read_text(encoding="utf-8").split("\n")
    start = next(i for i, line in enumerate(blocks) if line.startswith("flash-attn=="))
    end = next((i for i in range(start + 1, len(blocks)) if not blocks[i].startswith(" ")), len(blocks))
    (base / "source.txt").write_text("\n".join(blocks[start:end]) + "\n")
    (base / "tools.txt").write_text("\n".join(blocks[:start] + blocks[end:]) + "\n")
    environments.install_lock(environment, base / "tools.txt", checkout.out / "logs" / "envs")
    with shell.step(f"flash-attn {row.flash_attn}: getting its source"):
        pip = (str(environment.python), "-m", "pip", "download", "--no-deps", "--no-binary=:all:")
        shell.run(
            [*pip, "--no-build-isolation", "--require-hashes", "-d", str(base), "-r", str(base / "source.txt")],
            env={**environment.variables(), "FLASH_ATTENTION_SKIP_CUDA_BUILD": "TRUE"},
            what="downloading flash-attn",
        )
        with tarfile.open(next(base.glob("flash_attn-*.tar.gz"))) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(base, filter="data")
            else:  # pragma: no cover  (Python before 3.10.12; the archive's hash was checked)
                archive.extractall(base)
    (base / "lock").write_text(hashlib.sha256(lock.read_bytes()).hexdigest())
    return source


def _complete(checkout: Checkout, environment: Environment, home: Path, row: Row) -> Path:
    """A toolkit that also has the headers of the CUDA libraries that torch's own headers include.

    The compiler's packages lack them, but torch's CUDA 13 dependencies bring them into the same layout; both
    are joined with links.
    """
    if row.toolchain is None or row.toolchain.kind != "nvcc-packages" or (home / "include" / "cusparse.h").is_file():
        return home
    joined = checkout.out / "flash-attn" / row.name / "cuda"
    shutil.rmtree(joined, ignore_errors=True)
    libraries = next(environment.folder.glob(f"lib/python*/site-packages/nvidia/{home.name}"))
    for part in ("include", "lib"):
        (joined / part).mkdir(parents=True)
        for folder in (home / part, libraries / part):
            for entry in folder.iterdir():
                if not (joined / part / entry.name).exists():
                    (joined / part / entry.name).symlink_to(entry)
    for part in ("bin", "nvvm"):
        shutil.copytree(home / part, joined / part)  # nvcc looks for its parts beside where it really lies
    (joined / "lib64").symlink_to("lib")
    return joined
