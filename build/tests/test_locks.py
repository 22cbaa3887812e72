"""The locks say what the matrix says, and every way in which they could not is named."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from trellis_build import lock_check, locks, resolve
from trellis_build.errors import BuildError
from trellis_build.layout import Checkout, Member

HASH = "0" * 64


def test_the_repository_s_locks_agree_with_its_matrix(checkout: Checkout) -> None:
    assert lock_check.all_problems(checkout) == []


def test_every_row_has_a_lock_that_pins_its_versions(checkout: Checkout) -> None:
    for row in checkout.matrix.rows.values():
        pinned = {p.name: p.version for p in locks.pins(locks.read(checkout.locks / f"{row.name}.txt"))}
        assert pinned["torch"] == row.torch
        assert pinned.get("triton") == row.triton
        assert {"numpy", "trimesh", "xatlas", "pygltflib", "pillow", "safetensors", "pytest"} <= set(pinned)


def test_the_cpu_row_accepts_both_builds_of_torch(checkout: Checkout) -> None:
    torch = next(p for p in locks.pins(locks.read(checkout.locks / "cpu.txt")) if p.name == "torch")
    (extra,) = checkout.matrix.extra_files
    assert extra.sha256 in torch.hashes
    assert len(torch.hashes) > 1
    needed = {p.name for p in locks.pins(locks.read(checkout.locks / "cpu-cuda-torch.txt"))}
    assert {"triton", "nvidia-cublas", "nvidia-cudnn-cu13"} <= needed


def test_no_lock_names_a_place(checkout: Checkout) -> None:
    # Written without locks.names_a_place, which the validator uses.
    for path in checkout.locks.glob("*"):
        body = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
        assert not re.search(r"://|\.org|\.com|\.io|index-url|find-links|(^|\s)/", body), path.name


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, (path.name, old)
    path.write_text(text.replace(old, new))


def _drop(path: Path, package: str) -> None:
    text = path.read_text()
    block = next(b for b in locks.blocks(text) if b.startswith(f"{package}=="))
    path.write_text(text.replace(block + "\n", ""))


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: (d / "cu128.txt").unlink(), "locks/cu128.txt: missing; run `nox -s lock`"),
        (lambda d: (d / "cpu-cuda-torch.txt").unlink(), "locks/cpu-cuda-torch.txt: missing"),
        (lambda d: (d / "old.txt").touch(), "locks/old.txt: nothing in matrix.toml asks for it"),
        (
            lambda d: _replace(d / "cu128.txt", "# inputs: ", "# inputs: 0"),
            "locks/cu128.txt: made from another matrix.toml",
        ),
        (lambda d: _drop(d / "cu128.txt", "numpy"), "locks/cu128.txt: lacks numpy for Python 3.10"),
        (lambda d: _append(d / "cu128.txt", "requests>=2\n"), "locks/cu128.txt: not an exact pin: 'requests>=2'"),
        (lambda d: _append(d / "cu128.txt", "requests==2.0\n"), "locks/cu128.txt: requests==2.0 has no hash"),
        (
            lambda d: _append(d / "cu128.txt", "--index-url https://example.test/simple\n"),
            "names a package index or a folder",
        ),
        (lambda d: _append(d / "cu128.txt", "a @ file:///opt/a.whl\n"), "names a package index or a folder"),
        (lambda d: _replace(d / "cu128.txt", "torch==2.8.0", "torch==2.8.1"), "torch is 2.8.1, row cu128 says 2.8.0"),
        (
            lambda d: _replace(d / "cu128.txt", "triton==3.4.0", "triton==3.3.0"),
            "triton is 3.3.0, row cu128 says 3.4.0",
        ),
        (
            lambda d: _replace(d / "cu128.txt", "nvidia-cuda-runtime-cu12==12.8", "nvidia-cuda-runtime-cu12==12.6"),
            "torch 2.8.0 pins CUDA 12.6.90, row cu128 says 12.8",
        ),
        (lambda d: _drop(d / "cu130.txt", "nvidia-cuda-runtime"), "torch 2.11.0 brings no CUDA runtime for CUDA 13"),
        (
            lambda d: _append(d / "cpu.txt", f"nvidia-nvtx==13.0 --hash=sha256:{HASH}\n"),
            "holds nvidia-nvtx, which a CPU build",
        ),
        (lambda d: _replace(d / "cpu.txt", "6746dbcb", "00000000"), "does not accept torch-2.13.0+cpu-cp311"),
        (
            lambda d: _replace(d / "build.txt", "cmake==4.4.4", "cmake==4.4.3"),
            "cmake==4.4.3 does not satisfy 'cmake==4.4.4'",
        ),
        (
            lambda d: _replace(d / "toolchain-cuda13.0.txt", "nvidia-cuda-nvcc==13.0.88", "nvidia-cuda-nvcc==13.0.48"),
            "nvidia-cuda-nvcc is 13.0.48, toolchain cuda13.0 says 13.0.88",
        ),
    ],
)
def test_each_disagreement_is_named(
    checkout: Checkout, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    shutil.copytree(checkout.locks, tmp_path / "locks")
    damage(tmp_path / "locks")
    found = lock_check.problems(checkout.matrix, tmp_path / "locks")
    assert any(message in problem for problem in found), found


def test_a_lock_that_nothing_asks_for_is_refused(tiny: Checkout) -> None:
    with pytest.raises(BuildError, match="--only cu140: no such row or file; there are build, cpu, cu124, "):
        resolve.update(tiny, upgrade=False, only=["cpu", "cu140"])
    assert not tiny.out.exists()


def test_what_a_member_needs_must_be_locked(checkout: Checkout) -> None:
    needs = ("numpy>=1.24", "numpy<1", "no-such-thing>=2", "trellis-native==0.1.0", "tomli; python_version < '3.0'")
    member = Member("trellis-x", "0.1.0", checkout.root, None, "hatchling.build", needs)
    found = [
        p for p in lock_check.member_problems([member], checkout.matrix, checkout.locks) if "/cu13-latest.txt" in p
    ]
    assert "locks/cu13-latest.txt: trellis-x needs 'no-such-thing>=2': lacks no-such-thing for Python 3.11" in found
    assert any("trellis-x needs 'numpy<1': numpy==" in p and "does not satisfy" in p for p in found)
    assert not any("numpy>=1.24" in p or "trellis-native" in p or "tomli" in p for p in found)


LOCK = f"""# a comment
numpy==2.2.6 ; python_full_version < '3.11' \\
    --hash=sha256:{"1" * 64} \\
    --hash=sha256:{"2" * 64}
Foo.Bar[extra]==1.0 \\
    --hash=sha256:{"3" * 64}
nvidia-nvtx==13.0.85 ; sys_platform == 'linux' \\
    --hash=sha256:{"4" * 64}
torch==2.13.0 \\
    --hash=sha256:{"5" * 64}
"""


def test_pins_are_read() -> None:
    numpy, foo, nvtx, torch = locks.pins(LOCK)
    assert (numpy.name, numpy.version, numpy.marker) == ("numpy", "2.2.6", "python_full_version < '3.11'")
    assert numpy.hashes == ("1" * 64, "2" * 64)
    assert (foo.name, foo.marker, foo.hashes) == ("foo-bar", "", ("3" * 64,))
    assert nvtx.marker == "sys_platform == 'linux'"
    assert torch.hashes == ("5" * 64,)


def test_what_only_cuda_needs_is_split_off(checkout: Checkout) -> None:
    plain, cuda = locks.split_cuda_only(checkout.matrix, LOCK)
    assert [p.name for p in locks.pins(plain)] == ["numpy", "foo-bar", "torch"]
    assert [p.name for p in locks.pins(cuda)] == ["nvidia-nvtx"]


def test_extra_files_are_accepted_once(checkout: Checkout) -> None:
    (extra,) = checkout.matrix.extra_files
    once = locks.accept_extra_files(checkout.matrix, "cpu", LOCK)
    assert locks.pins(once)[-1].hashes == ("5" * 64, extra.sha256)
    assert locks.accept_extra_files(checkout.matrix, "cpu", once) == once
    assert locks.accept_extra_files(checkout.matrix, "cu130", LOCK) == LOCK


def test_an_extra_file_of_another_version_is_refused(checkout: Checkout) -> None:
    with pytest.raises(BuildError, match=r"is not version 2\.14\.0, which row cpu locks"):
        locks.accept_extra_files(checkout.matrix, "cpu", LOCK.replace("torch==2.13.0", "torch==2.14.0"))
    with pytest.raises(BuildError, match="locks no torch"):
        locks.accept_extra_files(checkout.matrix, "cpu", "numpy==1.0\n")
