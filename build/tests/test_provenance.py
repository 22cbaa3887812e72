"""The bill of materials, verification's refusals, flash-attn's refusals, and the command line."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from trellis_build import builder, flash_attn, locks, machine, sbom, verify
from trellis_build.__main__ import main
from trellis_build.checks import LibraryFacts
from trellis_build.compile import Built
from trellis_build.errors import BuildError
from trellis_build.layout import Checkout, find_checkout
from trellis_build.machine import Machine

BUILT = [
    Built("trellis-sparse", "trellis_sparse-0.1.0-py3-none-manylinux_2_34_x86_64.whl", "a" * 64, 1.0, ()),
    Built("trellis-native", "trellis_native-0.1.0-py3-none-any.whl", "b" * 64, 0.1, ()),
]


def bill(checkout: Checkout, row: str, built: list[Built] = BUILT) -> str:
    entries = locks.pins(locks.read(checkout.locks / f"{row}.txt"))
    return sbom.document(checkout.matrix.row(row), built, entries, None, "g++ 12.2.0", 1767225600)


@pytest.mark.parametrize("row", ["cpu", "cu130"])
def test_the_bill_is_valid_cyclonedx(checkout: Checkout, row: str) -> None:
    text = bill(checkout, row)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {c["name"]: c for c in json.loads(text)["components"]}
    assert components["torch"]["version"] == checkout.matrix.row(row).torch
    assert components["trellis-sparse"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]


def test_the_validator_would_notice(checkout: Checkout) -> None:
    broken = json.loads(bill(checkout, "cpu"))
    broken["components"][0]["type"] = "potato"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(broken)) is not None


def test_the_bill_depends_on_its_inputs_only(checkout: Checkout) -> None:
    assert bill(checkout, "cpu") == bill(checkout, "cpu")
    other = [Built("trellis-sparse", BUILT[0].wheel, "c" * 64, 9.0, ()), BUILT[1]]
    assert json.loads(bill(checkout, "cpu"))["serialNumber"] != json.loads(bill(checkout, "cpu", other))["serialNumber"]


GPU = Machine((13, 0), ((9, 0),))
LOTS = 100 * 2**30


@pytest.mark.parametrize(
    ("row", "here", "free", "without_gpu", "why"),
    [
        ("cpu", Machine(None, ()), LOTS, False, None),
        ("cu130", GPU, LOTS, False, None),
        ("cu124", GPU, LOTS, False, None),  # a newer driver runs an older CUDA
        ("cu130", Machine(None, ()), LOTS, False, "needs an NVIDIA driver for CUDA 13, and this machine has none"),
        ("cu130", Machine(None, ()), LOTS, True, None),
        ("cu130", Machine((12, 8), ((9, 0),)), LOTS, False, "needs a driver for CUDA 13; this one is for CUDA 12.8"),
        ("cu130", Machine((13, 0), ()), LOTS, False, "the driver sees no GPU"),
        ("cu130", GPU, 2**30, False, "needs about 14 GB of disk, and 1.0 GB are free"),
        ("cpu", GPU, 2**30, False, "needs about 4 GB of disk"),
    ],
)
def test_why_a_row_cannot_be_verified(
    checkout: Checkout, row: str, here: Machine, free: int, without_gpu: bool, why: str | None
) -> None:
    found = verify.refusal(checkout.matrix.row(row), here, free, without_gpu=without_gpu)
    assert (found is None) if why is None else (found is not None and why in found)


def _dist(checkout: Checkout, row: str) -> Path:
    folder = checkout.dist(row)
    folder.mkdir(parents=True)
    (folder / builder.REPORT).write_text(json.dumps({"ok": True, "failures": {}}))
    (folder / "a-1-py3-none-any.whl").write_bytes(b"wheel")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'wheel').hexdigest()}  a-1-py3-none-any.whl\n")
    return folder


def test_only_the_wheels_that_were_built_are_verified(tiny: Checkout) -> None:
    row = tiny.matrix.row("cpu")
    with pytest.raises(BuildError, match=r"dist/cpu holds no build; run `nox -s build -- --row cpu`"):
        verify.wheels(tiny, row)
    folder = _dist(tiny, "cpu")
    assert [p.name for p in verify.wheels(tiny, row)] == ["a-1-py3-none-any.whl"]
    (folder / "a-1-py3-none-any.whl").write_bytes(b"other")
    with pytest.raises(BuildError, match="is not the file that SHA256SUMS names"):
        verify.wheels(tiny, row)


def test_a_row_that_cannot_be_verified_here_exits_with_2(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    _dist(tiny, "cu130")
    monkeypatch.setattr(machine, "detect", lambda: Machine(None, ()))
    monkeypatch.chdir(tiny.root)
    assert main(["verify", "--row", "cu130"]) == 2
    assert "error: row cu130 cannot be verified here: it needs an NVIDIA driver for CUDA 13" in capfd.readouterr().err


def test_flash_attn_kernels() -> None:
    assert flash_attn.kernels(["sm_75", "sm_86", "sm_89", "sm_90", "compute_90"]) == ("80", "90")
    assert flash_attn.kernels(["sm_100", "sm_90"]) == ("90", "100")
    with pytest.raises(BuildError, match="flash-attn has no kernels for sm_75"):
        flash_attn.kernels(["sm_75"])


@pytest.mark.parametrize(
    ("gigabytes", "cores", "jobs"), [(24, 16, 2), (24, 1, 1), (9, 4, 1), (200, 16, 16), (128, 16, 14)]
)
def test_flash_attn_jobs_fit_in_memory(gigabytes: int, cores: int, jobs: int) -> None:
    assert flash_attn.jobs(gigabytes * 10**9, cores) == jobs


def test_flash_attn_refuses_too_little_memory() -> None:
    with pytest.raises(BuildError, match=r"needs about 9 GB of memory; 8\.0 GB are available"):
        flash_attn.jobs(8 * 10**9, 4)


def test_flash_attn_refuses_another_compiler_early(
    tiny: Checkout, toolkit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match="row cpu has no flash-attn"):
        flash_attn.build(tiny, tiny.matrix.row("cpu"))
    monkeypatch.setenv("CUDA_HOME", str(toolkit(tmp_path / "cuda", "12.8")))
    with pytest.raises(
        BuildError, match=r"\[cuda-home\] flash-attn for row cu124 needs nvcc of CUDA 12\.4.*is CUDA 12\.8"
    ):
        flash_attn.build(tiny, tiny.matrix.row("cu124"))
    assert flash_attn.compiler_home(tiny, tiny.matrix.row("cu128"), False) == tmp_path / "cuda"
    assert not tiny.out.exists() and not tiny.dist("flash-attn").exists()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["build", "--row", "cu99"], "matrix.toml has no row 'cu99'"),
        (["build", "--row", "cpu", "--all"], "--all and --row exclude each other"),
        (["build", "--row", "cpu", "--arch", "sm_90"], "row cpu has no CUDA flavour"),
        (["verify", "--row", "cu128"], "dist/cu128 holds no build"),
        (["run", "--"], "nothing to run"),
    ],
)
def test_refusals_are_one_line_and_status_2(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], arguments: list[str], error: str
) -> None:
    monkeypatch.chdir(tiny.root)
    assert main(arguments) == 2
    printed = capfd.readouterr().err
    assert printed.startswith("trellis-build: error: ") and error in printed and len(printed.splitlines()) == 1


def test_validate_exits_with_1_and_names_the_problem(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny.root)
    assert main(["validate"]) == 0
    (tiny.locks / "cu128.txt").unlink()
    assert main(["validate"]) == 1
    assert "locks/cu128.txt: missing" in capfd.readouterr().out
    matrix = tiny.root / "build" / "matrix.toml"
    matrix.write_text(matrix.read_text().replace("epoch", "epoque"))
    assert main(["validate"]) == 2
    assert "unknown key 'epoque'" in capfd.readouterr().err


def test_rows_marks_the_one_for_this_machine(
    tiny: Checkout, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny.root)
    monkeypatch.setattr(machine, "detect", lambda: Machine((12, 8), ((8, 9),)))
    assert main(["rows"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert (
        len(lines) == 7 and [line for line in lines[:-1] if line.startswith("*")] == [lines[3]] and "cu128" in lines[3]
    )


def test_outside_a_checkout(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="is not inside a checkout of the repository"):
        find_checkout(tmp_path)


def test_facts_survive_the_cache() -> None:
    from dataclasses import asdict

    from trellis_build.compile import _facts

    facts = LibraryFacts("cuda13", ("a", "b"), ("libc.so.6",), (2, 34), "x86_64", ("sm_90",), 12, "-O3")
    assert _facts(json.loads(json.dumps(asdict(facts)))) == facts


def test_the_lint_session_covers_every_package(checkout: Checkout) -> None:
    from trellis_build.sessions import _PACKAGES

    found: Callable[[Path], str] = lambda p: p.parent.relative_to(checkout.root).as_posix()  # noqa: E731
    typed = {found(p) for p in checkout.root.glob("*/trellis_*/__init__.py")} | {
        found(p) for p in checkout.root.glob("csrc/*/python/trellis_*/__init__.py")
    }
    assert typed <= set(_PACKAGES)
