"""Building: through the real backends and the real CMake module, on small extensions made for the test."""

import ctypes
import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from trellis_build import builder, checks, packages, toolchains
from trellis_build import compile as compiling
from trellis_build.__main__ import main
from trellis_build.compile import Settings
from trellis_build.errors import BuildError
from trellis_build.fatbin import order
from trellis_build.layout import EXTENSIONS, Checkout, Member
from trellis_build.toolchains import Request, Toolchain


@pytest.fixture(autouse=True)
def _few_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


def report(checkout: Checkout, row: str = "cpu") -> dict[str, object]:
    parsed: dict[str, object] = json.loads((checkout.dist(row) / builder.REPORT).read_text())
    return parsed


@pytest.fixture
def cuda13(checkout: Checkout, cannot: Callable[[str], None]) -> Toolchain:
    """A CUDA 13.0 compiler: the one already fetched into the checkout, else an installed one."""
    row = checkout.matrix.row("cu130")
    lock = checkout.locks / "toolchain-cuda13.0.txt"
    version = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    fetched = (checkout.out / "toolchains" / f"cuda13.0-{version}" / ".complete").is_file()
    found = toolchains.system_nvcc(os.environ)
    release = toolchains.nvcc_version(found[0]) if found else None
    if not fetched and (release is None or release[0] != "13.0"):
        cannot("there is no nvcc 13.0 here; `nox -s build -- --row cu130` fetches one")
    chosen = toolchains.resolve(checkout, Request(row, ("sm_90",), os.environ, system_cuda=not fetched))
    assert chosen is not None
    return chosen


def settings(checkout: Checkout, toolchain: Toolchain | None) -> Settings:
    tools = hashlib.sha256((checkout.locks / "build.txt").read_bytes()).hexdigest()
    return Settings(checkout.matrix.epoch, tools, compiling.cxx_compiler(), toolchain)


def test_a_row_is_built_with_its_provenance(tiny: Checkout) -> None:
    outcome = builder.build_row(tiny, tiny.matrix.row("cpu"))
    assert outcome.ok
    (wheel,) = outcome.wheels
    facts = report(tiny)
    assert facts["row"] == "cpu" and facts["ok"] is True and facts["cuda"] is None
    (entry,) = facts["wheels"]  # type: ignore[misc]
    assert entry["file"] == wheel.name and entry["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    (library,) = entry["libraries"]
    assert library["exports"] == [f"tk_sparse_{v}" for v in ("abi", "last_error", "twice", "version")]
    assert "-ffp-contract=off" in library["flags"] and "/" not in library["flags"]
    assert set(library["needed"]) <= checks.SYSTEM_LIBRARIES
    major, minor = library["glibc_floor"].split(".")
    assert wheel.name == f"trellis_sparse-0.1.0-py3-none-manylinux_{major}_{minor}_{os.uname().machine}.whl"
    names = {line.split("  ")[1] for line in (outcome.folder / "SHA256SUMS").read_text().splitlines()}
    assert names == {wheel.name, "sbom.cdx.json", builder.REPORT}
    for line in (outcome.folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((outcome.folder / name).read_bytes()).hexdigest() == digest
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tiny.out / "x")
    loaded = ctypes.CDLL(str(tiny.out / "x" / "trellis_sparse" / "lib" / "_cpu.so"))
    given, got = ctypes.c_float(21), ctypes.c_float(0)
    assert loaded.tk_sparse_twice(ctypes.byref(given), ctypes.byref(got), -1, None) == 0
    assert got.value == 42


def test_an_unchanged_wheel_is_not_built_again(tiny: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    row = tiny.matrix.row("cpu")
    first = builder.build_row(tiny, row).wheels[0].read_bytes()
    assert "compiling" in capsys.readouterr().out
    second = builder.build_row(tiny, row).wheels[0].read_bytes()
    out = capsys.readouterr().out
    assert "compiling" not in out and "1 wheels unchanged" in out and first == second
    cached = next((tiny.out / "wheels" / "trellis-sparse").glob("*/*.whl"))
    cached.write_bytes(cached.read_bytes()[:-1])  # a damaged cache is not used
    assert builder.build_row(tiny, row).wheels[0].read_bytes() == first
    assert "compiling" in capsys.readouterr().out
    source = tiny.root / "csrc" / "sparse" / "src" / "cpu.cpp"
    source.write_text(source.read_text().replace("2 * *in", "3 * *in"))
    assert builder.build_row(tiny, row).wheels[0].read_bytes() != first


def test_a_failed_extension_is_reported_beside_the_good_ones(
    tiny: Checkout,
    add_extension: Callable[[Path, str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    broken = add_extension(tiny.root, "mesh") / "src" / "cpu.cpp"
    broken.write_text(broken.read_text() + "int broken = undeclared_name;\n")
    monkeypatch.chdir(tiny.root)
    assert main(["build", "--row", "cpu"]) == 1
    out = capfd.readouterr().out
    assert "trellis-mesh: compiling cpu ... FAILED after" in out
    assert "cpu.cpp" in out and "undeclared_name" in out
    assert "row cpu: FAILED for trellis-mesh" in out
    facts = report(tiny)
    assert facts["ok"] is False
    assert list(facts["failures"]) == ["trellis-mesh"]  # type: ignore[call-overload]
    assert [w["member"] for w in facts["wheels"]] == ["trellis-sparse"]  # type: ignore[attr-defined]
    assert main(["verify", "--row", "cpu"]) == 2
    assert "the last build of row cpu failed for trellis-mesh" in capfd.readouterr().err


CPU = "src/cpu.cpp"
HEADER = "include/trellis_sparse.h"


LAST = "CUDA src/kernel.cu)"
DEFINE = "TK_DEFINE_COMMON"
INCLUDE = '#include "trellis_sparse.h"'


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            HEADER,
            "#endif",
            "TK_API int tk_sparse_absent(void);\n#endif",
            "does not export what trellis_sparse.h declares: tk_sparse_absent",
        ),
        (
            CPU,
            DEFINE,
            "TK_API int tk_sparse_more(void) { return 0; }\n" + DEFINE,
            "exports what trellis_sparse.h does not declare: tk_sparse_more",
        ),
        (
            "CMakeLists.txt",
            LAST,
            LAST + "\ntarget_link_libraries(trellis_sparse_cpu PRIVATE -Wl,--no-as-needed -lresolv)",
            "needs libraries that a user's machine may lack: libresolv.so.2",
        ),
        (
            "CMakeLists.txt",
            LAST,
            LAST + "\ntarget_link_options(trellis_sparse_cpu PRIVATE -Wl,-rpath,/somewhere)",
            "tells the loader to search /somewhere",
        ),
        (
            CPU,
            DEFINE,
            "__attribute__((constructor)) static void dies() { __builtin_trap(); }\n" + DEFINE,
            "does not load: the process ended with",
        ),
        (
            CPU,
            INCLUDE,
            INCLUDE + '\n#undef TK_ABI\n#define TK_ABI "another"',
            "reports header another, the header is",
        ),
    ],
)
def test_a_library_that_breaks_its_promise_does_not_ship(
    tiny: Checkout, file: str, old: str, new: str, message: str
) -> None:
    path = tiny.root / "csrc" / "sparse" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    outcome = builder.build_row(tiny, tiny.matrix.row("cpu"))
    assert not outcome.ok and outcome.wheels == ()
    assert message in outcome.failures["trellis-sparse"]


def test_declared_functions_are_read_without_comments(tiny: Checkout) -> None:
    assert checks.declared_functions(tiny.root / "csrc" / "sparse" / HEADER) == {
        f"tk_sparse_{v}" for v in ("abi", "last_error", "twice", "version")
    }


def test_two_folders_give_equal_bits(tiny: Checkout, tmp_path: Path) -> None:
    copy = Checkout(tmp_path / "somewhere" / "else" / "entirely")
    shutil.copytree(tiny.root, copy.root)
    row = tiny.matrix.row("cpu")
    assert builder.build_row(tiny, row).wheels[0].read_bytes() == builder.build_row(copy, row).wheels[0].read_bytes()


@pytest.mark.parametrize("name", EXTENSIONS)
def test_cuda_flavour_compiles(checkout: Checkout, cuda13: Toolchain, name: str) -> None:
    """The real extensions' CUDA flavour for one architecture, with every check that a release gets."""
    member = next(m for m in checkout.members() if m.extension == name)
    _, built, _ = compiling.build(checkout, member, settings(checkout, cuda13))
    facts = {f.flavour: f for f in built.libraries}
    assert set(facts) == {"cpu", "cuda13"}
    assert facts["cuda13"].architectures == ("sm_90",)
    assert set(facts["cuda13"].exports) <= set(facts["cpu"].exports)
    # More than the functions that every library has: at least one operation has a kernel.
    assert len(facts["cuda13"].exports) > 3


def test_cuda_flavour_has_equal_bits_in_two_folders(cuda13: Toolchain, tiny: Checkout, tmp_path: Path) -> None:
    copy = Checkout(tmp_path / "somewhere" / "else" / "entirely")
    shutil.copytree(tiny.root, copy.root)
    wheels = [compiling.build(c, c.members()[0], settings(c, cuda13))[0] for c in (tiny, copy)]
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(wheels[0]) as archive:
        note = json.loads(archive.read("trellis_sparse/lib/_cuda13.json"))
        binary = archive.read("trellis_sparse/lib/_cuda13.so")
    assert note["compiler"] == cuda13.identity and note["architectures"] == ["sm_90"]
    assert str(tmp_path).encode() not in binary


def test_cuda_library_without_a_kernel_does_not_ship(cuda13: Toolchain, tiny: Checkout) -> None:
    kernel = tiny.root / "csrc" / "sparse" / "src" / "kernel.cu"
    kernel.write_text('#include "trellis_sparse.h"\n#include "trellis/cuda.cuh"\nTK_DEFINE_COMMON(sparse)\n')
    with pytest.raises(
        BuildError, match="offers no operation on the GPU: every extension needs at least one CUDA kernel"
    ):
        compiling.build(tiny, tiny.members()[0], settings(tiny, cuda13))


def test_cuda_library_for_other_architectures_does_not_ship(cuda13: Toolchain, tiny: Checkout) -> None:
    lying = Toolchain(**{**cuda13.__dict__, "architectures": ("sm_90", "sm_100")})
    with pytest.raises(BuildError, match="holds code for sm_90; asked for sm_90, sm_100"):
        compiling.build(tiny, tiny.members()[0], settings(tiny, lying))


def test_nothing_is_compiled_when_no_compiler_serves(
    tiny: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(checkout: Checkout, lock: str) -> Path:
        raise BuildError("no network")

    monkeypatch.setattr(packages, "fetch", fail)
    monkeypatch.setattr(toolchains, "system_nvcc", lambda environment: None)
    monkeypatch.chdir(tiny.root)
    assert main(["build", "--row", "cu130"]) == 2
    assert "error: row cu130 needs nvcc 13.0.88" in capfd.readouterr().err
    assert not tiny.dist("cu130").exists() and not (tiny.out / "cmake").exists()


def test_architectures_can_be_narrowed(checkout: Checkout) -> None:
    matrix = checkout.matrix
    row = matrix.row("cu130")
    everything = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120", "compute_120")
    assert builder.targets(matrix, row, []) == everything
    assert builder.targets(matrix, row, ["sm_90"]) == ("sm_90",)
    assert builder.targets(matrix, row, ["compute_90", "sm_90", "sm_90"]) == ("sm_90", "compute_90")
    assert order(reversed(everything)) == everything
    with pytest.raises(BuildError, match="--arch sm_70: expected one of sm_75, sm_80"):
        builder.targets(matrix, row, ["sm_70"])
    with pytest.raises(BuildError, match="row cpu has no CUDA flavour, so --arch sm_90 means nothing"):
        builder.targets(matrix, matrix.row("cpu"), ["sm_90"])


def test_no_c_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError, match=r"no C\+\+ compiler was found.*apt-get install g\+\+"):
        compiling.cxx_compiler()
    monkeypatch.setenv("CXX", sys.executable)
    monkeypatch.setenv("CXXFLAGS", "-O1")
    assert compiling.cxx_compiler() == f"Python {sys.version.split()[0]}, CXXFLAGS=-O1"
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(BuildError, match="'/nowhere/g\\+\\+' does not run"):
        compiling.cxx_compiler()


def test_members_of_this_checkout(checkout: Checkout) -> None:
    members: list[Member] = checkout.members()
    assert [m.extension for m in members[:5]] == list(EXTENSIONS)
    assert {"trellis-native", "trellis-build", "trellis-forge"} <= {m.name for m in members}
