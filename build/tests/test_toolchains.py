"""Which compiler serves a row, on machines that are made up: fake toolkits, fake clang, no network."""

from collections.abc import Callable
from pathlib import Path

import pytest
from trellis_build import clang_toolkit, packages, toolchains
from trellis_build.errors import BuildError
from trellis_build.layout import Checkout
from trellis_build.toolchains import Request

CLANG = """#!/bin/sh
case "$*" in --version) echo "Debian clang version 19.1.7 (3)"; exit 0 ;; esac
echo "$*" >> {log}
"""


Toolkit = Callable[..., Path]
Program = Callable[[Path, str], Path]


def request(
    checkout: Checkout, row: str, *architectures: str, system_cuda: bool = False, **environment: str
) -> Request:
    return Request(checkout.matrix.row(row), architectures or ("sm_90",), {"PATH": "", **environment}, system_cuda)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(checkout: Checkout, lock: str) -> Path:
        raise BuildError(f"installing {lock} failed: no network")

    monkeypatch.setattr(packages, "fetch", fail)


def _fetched(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(packages, "fetch", lambda checkout, lock: folder)


def test_cpu_row_needs_no_toolchain(tiny: Checkout, offline: None) -> None:
    assert toolchains.resolve(tiny, request(tiny, "cpu")) is None


def test_cuda13_takes_the_packages_whatever_is_installed(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = toolkit(tmp_path / "fetched" / "nvidia" / "cu13", "13.0")
    _fetched(monkeypatch, tmp_path / "fetched")
    other = toolkit(tmp_path / "cuda-12.8", "12.8")
    found = toolchains.resolve(tiny, request(tiny, "cu130", "sm_90", "compute_90", CUDA_HOME=str(other)))
    assert found is not None
    assert found.command == (str(home / "bin" / "nvcc"),)
    assert found.identity == "nvcc 13.0.88"
    assert found.flags == ("-gencode=arch=compute_90,code=sm_90", "-gencode=arch=compute_90,code=compute_90")
    assert found.libraries == (str(home / "lib64" / "libcudart_static.a"),)
    assert "locked in build/locks/toolchain-cuda13.0.txt" in found.origin
    assert not (other / "calls").exists()


def test_packages_of_another_version_are_refused(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toolkit(tmp_path / "nvidia" / "cu13", "13.0", patch="48")
    _fetched(monkeypatch, tmp_path)
    with pytest.raises(BuildError, match=r"hold nvcc 13\.0\.48, matrix\.toml says 13\.0\.88"):
        toolchains.resolve(tiny, request(tiny, "cu130"))


def test_offline_takes_an_installed_nvcc_of_the_same_cuda(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    home = toolkit(tmp_path / "cuda", "13.0", patch="48")
    found = toolchains.resolve(tiny, request(tiny, "cu130", CUDA_HOME=str(home)))
    assert found is not None and found.identity == "nvcc 13.0.48"
    assert found.origin == f"CUDA_HOME={home}"
    assert "cannot be had; using CUDA_HOME" in capsys.readouterr().out


def test_offline_without_a_matching_nvcc_names_the_remedy(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None
) -> None:
    with pytest.raises(
        BuildError, match=r"needs nvcc 13\.0\.88.*none was found.*Connect pip to a package index, or install CUDA 13\.0"
    ):
        toolchains.resolve(tiny, request(tiny, "cu130"))
    home = toolkit(tmp_path / "cuda", "13.2")
    with pytest.raises(BuildError, match=r"CUDA_HOME=.* is CUDA 13\.2"):
        toolchains.resolve(tiny, request(tiny, "cu130", CUDA_HOME=str(home)))
    assert not (home / "calls").exists()


def test_system_cuda_must_match_the_row(toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None) -> None:
    home = toolkit(tmp_path / "cuda", "13.2")
    with pytest.raises(
        BuildError, match=r"\[cuda-home\] row cu130 needs an nvcc of CUDA 13\.0: CUDA_HOME=.* is CUDA 13\.2"
    ) as caught:
        toolchains.resolve(tiny, request(tiny, "cu130", system_cuda=True, CUDA_HOME=str(home)))
    assert caught.value.fault == "cuda-home"
    with pytest.raises(BuildError, match="CUDA_HOME is not set and PATH has no nvcc"):
        toolchains.resolve(tiny, request(tiny, "cu130", system_cuda=True))
    with pytest.raises(BuildError, match=r"CUDA_HOME=.*nowhere has no nvcc that runs"):
        toolchains.resolve(tiny, request(tiny, "cu130", system_cuda=True, CUDA_HOME=str(tmp_path / "nowhere")))
    found = toolchains.resolve(tiny, request(tiny, "cu13-latest", system_cuda=True, PATH=str(home / "bin")))
    assert found is not None and found.identity == "nvcc 13.2.88"


def test_cuda12_takes_cuda_home_of_the_same_major(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None
) -> None:
    home = toolkit(tmp_path / "cuda", "12.6", patch="20")
    found = toolchains.resolve(tiny, request(tiny, "cu124", CUDA_HOME=str(home)))
    assert found is not None
    assert (found.flavour, found.style, found.identity) == ("cuda12", "nvcc", "nvcc 12.6.20")
    assert found.allowed == ()  # the runtime is linked in


def test_cuda12_with_another_cuda_home_and_no_clang_refuses(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None
) -> None:
    home = toolkit(tmp_path / "cuda", "13.0")
    with pytest.raises(BuildError) as caught:
        toolchains.resolve(tiny, request(tiny, "cu124", CUDA_HOME=str(home)))
    text = str(caught.value)
    assert caught.value.fault == "cuda-home"
    assert f"CUDA_HOME={home} is CUDA 13.0" in text and "clang++-19 is not installed" in text
    assert "Set CUDA_HOME to a CUDA 12.x toolkit" in text and "apt-get install clang-19" in text
    assert not (home / "calls").exists(), "something was compiled before the refusal"


def test_cuda12_with_nothing_refuses(tiny: Checkout, offline: None) -> None:
    with pytest.raises(BuildError, match=r"row cu128 needs a compiler for CUDA 12: CUDA_HOME is not set, and clang"):
        toolchains.resolve(tiny, request(tiny, "cu128"))


def _cuda12_packages(program: Program, folder: Path) -> Path:
    for part in clang_toolkit._PARTS:
        target = folder / part
        if part.endswith(("ptxas", "fatbinary")):
            program(target, '#!/bin/sh\nprintf "%s\\n" "$@"\n')
        else:
            target.mkdir(parents=True)
            (target / "file").write_text(part)
    return folder


def test_cuda12_takes_clang_and_packages(
    toolkit: Toolkit,
    program: Program,
    tiny: Checkout,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _fetched(monkeypatch, _cuda12_packages(program, tmp_path / "packages"))
    program(tmp_path / "bin" / "clang++-19", CLANG.format(log=tmp_path / "calls"))
    home = toolkit(tmp_path / "cuda", "13.0")
    wanted = request(tiny, "cu124", "sm_86", "sm_90", "compute_90", PATH=str(tmp_path / "bin"), CUDA_HOME=str(home))
    found = toolchains.resolve(tiny, wanted)
    assert found is not None
    root = tmp_path / "packages" / "toolkit"
    assert (found.style, found.identity) == ("clang", "clang 19.1.7 with CUDA 12.4")
    assert f"--cuda-path={root}" in found.flags
    assert [f for f in found.flags if "arch" in f] == ["--offload-arch=sm_86", "--offload-arch=sm_90"]
    assert "--no-cuda-include-ptx=all" in found.flags and "--cuda-include-ptx=sm_90" in found.flags
    assert found.allowed == ("libcudart.so.12",)
    assert "not CUDA 12; using clang-19" in capsys.readouterr().out


def test_fatbinary_speaks_to_its_successor(program: Program, tmp_path: Path) -> None:
    from trellis_build.shell import run

    root = clang_toolkit.lay_out(_cuda12_packages(program, tmp_path))
    out = run(
        [
            *(root / "bin" / "fatbinary", "-64", "--create", "/tmp/with space.fatbin"),
            "--image=profile=sm_86,file=/tmp/a b.o",
            "--image=profile=compute_90,file=/tmp/c.s",
        ]
    )
    assert out.splitlines() == [
        *("-64", "--create", "/tmp/with space.fatbin"),
        "--image3=kind=elf,sm=86,file=/tmp/a b.o",
        "--image3=kind=ptx,sm=90,file=/tmp/c.s",
    ]


def test_packages_that_lack_a_part_are_named(program: Program, tmp_path: Path) -> None:
    folder = _cuda12_packages(program, tmp_path)
    (folder / "nvidia/cuda_nvcc/bin/ptxas").unlink()
    with pytest.raises(BuildError, match="nvidia/cuda_nvcc/bin/ptxas is missing"):
        clang_toolkit.lay_out(folder)


def test_a_compiler_that_cannot_build_is_refused_before_the_build(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None
) -> None:
    home = toolkit(tmp_path / "cuda", "12.4", rejects="-gencode*")
    with pytest.raises(BuildError, match=r"the compiler cannot build for sm_90(.|\n)*Unknown option"):
        toolchains.resolve(tiny, request(tiny, "cu124", CUDA_HOME=str(home)))


def test_a_compiler_without_fixed_names_is_used_without_them(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None
) -> None:
    home = toolkit(tmp_path / "cuda", "12.4", rejects="-Xcudafe*")
    found = toolchains.resolve(tiny, request(tiny, "cu124", CUDA_HOME=str(home)))
    assert found is not None and not found.fixed_names
    assert found.defines()["TRELLIS_CUDA12_FIXED_NAMES"] == "OFF"


def test_a_toolkit_without_the_static_runtime_is_refused(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None
) -> None:
    home = toolkit(tmp_path / "cuda", "12.4", runtime=False)
    with pytest.raises(BuildError, match=r"has no libcudart_static\.a"):
        toolchains.resolve(tiny, request(tiny, "cu124", CUDA_HOME=str(home)))


def test_the_trial_is_remembered(toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None) -> None:
    home = toolkit(tmp_path / "cuda", "12.4")
    for _ in range(2):
        toolchains.resolve(tiny, request(tiny, "cu124", CUDA_HOME=str(home)))
    assert len((home / "calls").read_text().splitlines()) == 1


def test_the_note_in_the_binary_names_no_folder(
    toolkit: Toolkit, tiny: Checkout, tmp_path: Path, offline: None
) -> None:
    found = toolchains.resolve(tiny, request(tiny, "cu124", CUDA_HOME=str(toolkit(tmp_path / "cuda", "12.4"))))
    assert found is not None
    assert "/" not in found.defines()["TRELLIS_CUDA12_COMPILER_ID"]
