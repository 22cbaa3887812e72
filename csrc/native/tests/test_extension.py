"""Loading a real, tiny extension: what works, and each way in which an installation can be broken."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from trellis_native import EXTENSIONS, Extension, OpLibrary, check, report
from trellis_native.testing import assert_header_matches_cpu_library, bits

NATIVE = Path(__file__).parents[1]
CPU = torch.device("cpu")

HEADER = """
TK_API const char* tk_toy_last_error(void);
TK_API const char* tk_toy_version(void);
TK_API const char* tk_toy_abi(void);
TK_API int tk_toy_double(const float* values, int64_t n, float* out, int device, void* stream);
"""
SOURCE = """
#include "trellis/error.hpp"
TK_DEFINE_COMMON(toy)
TK_API int tk_toy_double(const float* values, int64_t n, float* out, int device, void* stream) {
    return tk::guarded([&] {
        tk::require(device == TK_DEVICE_CPU && stream == nullptr, "device: expected the CPU");
        tk::require(n < 5, tk::format("values: expected fewer than 5, got %d", int(n)));
        for (int64_t i = 0; i < n; ++i) out[i] = 2 * values[i];
    });
}
"""


def build_toy(folder, *, header=HEADER, source=SOURCE, abi=None, version="1.2"):
    """Compiles the toy as an installed package's folder and returns it."""
    (folder / "include").mkdir(parents=True)
    (folder / "lib").mkdir()
    (folder / "include/trellis_toy.h").write_text(header)
    (folder / "toy.cpp").write_text(source)
    abi = abi or hashlib.sha256(header.encode()).hexdigest()
    (folder / "exports.map").write_text("{ global: tk_toy_*; local: *; };")
    subprocess.run(
        [shutil.which("g++"), "-std=c++17", "-shared", "-fPIC", "-pthread", "-I", NATIVE / "include",
         f'-DTK_ABI="{abi}"', f'-DTK_VERSION="{version}"', folder / "toy.cpp",
         f"-Wl,--version-script={folder / 'exports.map'}", "-o", folder / "lib/_cpu.so"],
        check=True,
    )  # fmt: skip
    note = {"flavour": "cpu", "architectures": ["x86_64"], "abi": abi, "version": "1.2", "compiler": "g++"}
    (folder / "lib/_cpu.json").write_text(json.dumps(note))
    return folder


@pytest.fixture(scope="module")
def toy_folder(tmp_path_factory):
    return build_toy(tmp_path_factory.mktemp("toy") / "package")


@pytest.fixture
def load(monkeypatch):
    monkeypatch.delenv("TRELLIS_NATIVE_DIR", raising=False)
    yield lambda folder: Extension("toy", folder)
    EXTENSIONS.pop("toy", None)


def test_call_passes_tensors_and_adds_device_and_stream(load, toy_folder):
    toy = load(toy_folder)
    out = torch.empty(3)
    toy.call("double", torch.tensor([1.0, 2, 3]), 3, out, device=CPU)
    assert out.tolist() == [2, 4, 6]
    toy.call("double", torch.empty(0), 0, torch.empty(0), device=CPU)


def test_native_errors_become_exceptions_with_the_native_text(load, toy_folder):
    with pytest.raises(ValueError, match="values: expected fewer than 5, got 9"):
        load(toy_folder).call("double", torch.zeros(9), 9, torch.zeros(9), device=CPU)


def test_calls_that_would_corrupt_memory_are_refused(load, toy_folder):
    toy = load(toy_folder)
    with pytest.raises(ValueError, match="not contiguous"):
        toy.call("double", torch.zeros(4, 4)[:, 0], 4, torch.zeros(4), device=CPU)
    with pytest.raises(ValueError, match="on meta, expected cpu"):
        toy.call("double", torch.zeros(4, device="meta"), 4, torch.zeros(4), device=CPU)
    with pytest.raises(TypeError, match="tk_toy_double takes 5 arguments, got 4"):
        toy.call("double", torch.zeros(4), 4, device=CPU)


def test_header_and_library_agree_and_the_check_sees_when_not(load, toy_folder, tmp_path):
    assert_header_matches_cpu_library(load(toy_folder))
    extra = build_toy(tmp_path / "extra", source=SOURCE + "TK_API int tk_toy_surprise(void) { return 0; }")
    with pytest.raises(AssertionError, match=r"only exported: \['tk_toy_surprise'\]"):
        assert_header_matches_cpu_library(load(extra))
    missing = build_toy(tmp_path / "missing", header=HEADER + "TK_API int tk_toy_absent(void);")
    with pytest.raises(AssertionError, match=r"only declared: \['tk_toy_absent'\]"):
        assert_header_matches_cpu_library(load(missing))
    other = build_toy(tmp_path / "other", version="9")
    with pytest.raises(AssertionError):
        assert_header_matches_cpu_library(load(other))


def test_a_declared_function_without_kernel_names_the_operation(load, tmp_path):
    toy = load(build_toy(tmp_path / "toy", header=HEADER + "TK_API int tk_toy_absent(int device, void* stream);"))
    with pytest.raises(NotImplementedError, match=r"toy\.absent has no cpu kernel in this release"):
        toy.call("absent", device=CPU)
    with pytest.raises(AttributeError, match="tk_toy_unknown is not declared"):
        toy.call("unknown", device=CPU)


def test_library_of_another_header_is_refused(load, tmp_path):
    toy = load(build_toy(tmp_path / "toy", abi="0" * 64))
    with pytest.raises(ImportError, match=r"built from another header .*library 000000000000"):
        toy.library(CPU)


@pytest.mark.parametrize("keep", [0, 10, 1000, -1])
def test_truncated_library_is_a_clear_import_error(load, tmp_path, toy_folder, keep):
    folder = tmp_path / "toy"
    shutil.copytree(toy_folder, folder)
    library = folder / "lib/_cpu.so"
    library.write_bytes(library.read_bytes()[:keep])
    with pytest.raises(ImportError, match=r"trellis_toy: _cpu\.so is not a whole ELF file: reinstall trellis-toy"):
        load(folder).library(CPU)


def test_missing_parts_name_the_remedy(load, tmp_path, toy_folder):
    with pytest.raises(ImportError, match=r"trellis_toy\.h is missing: .* run `nox -s build`"):
        load(tmp_path)
    folder = tmp_path / "toy"
    shutil.copytree(toy_folder, folder)
    (folder / "lib/_cpu.so").unlink()
    with pytest.raises(RuntimeError, match=r"trellis_toy cannot serve cpu: no _cpu\.so .*: reinstall trellis-toy"):
        load(folder).library(CPU)
    with pytest.raises(RuntimeError, match="trellis_toy cannot serve meta: device type 'meta' is not supported"):
        load(toy_folder).library(torch.device("meta"))


def test_development_folder_overrides_the_package_and_report_says_so(monkeypatch, toy_folder, tmp_path):
    shutil.copytree(toy_folder, tmp_path / "trellis_toy")
    monkeypatch.setenv("TRELLIS_NATIVE_DIR", str(tmp_path))
    try:
        Extension("toy", Path("/nowhere"))
        row = next(r for r in report() if r["extension"] == "trellis_toy")
        assert row["folder"] == str(tmp_path / "trellis_toy")
        assert row["devices"]["cpu"] == {"flavour": "cpu", "reason": "tensors on the CPU"}
    finally:
        EXTENSIONS.pop("toy", None)


def test_operators_have_schema_fake_and_autograd():
    ops = OpLibrary("trellis_test_toy")

    @ops.define("twice(Tensor x) -> Tensor")
    def twice(x):
        return x * 2

    @ops.fake("twice")
    def _(x):
        return torch.empty_like(x)

    ops.autograd("twice", lambda ctx, g: g * 2, setup_context=lambda ctx, inputs, output: None)
    x = torch.randn(3, requires_grad=True)
    twice(x).sum().backward()
    assert x.grad.tolist() == [2, 2, 2]
    torch.library.opcheck(twice, (torch.randn(3, requires_grad=True),))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: check.tensor("x", [1], dtype=torch.float32, shape=[1]), TypeError, "x: expected a torch.Tensor, got list"),
        (lambda: check.tensor("x", torch.zeros(1), dtype=[torch.int32, torch.int64], shape=[1]), TypeError,
         "x: expected dtype int32 or int64, got float32"),
        (lambda: check.tensor("x", torch.zeros(2, 4), dtype=torch.float32, shape=["N", 3]), ValueError,
         "x: expected shape [N, 3], got [2, 4]"),
        (lambda: check.tensor("x", torch.zeros(2, 4), dtype=torch.float32, shape=["N", "N"]), ValueError,
         "x: expected shape [N, N], got [2, 4]"),
        (lambda: check.tensor("x", torch.zeros(3), dtype=torch.float32, shape=["N", 3]), ValueError, "x: expected shape [N, 3], got [3]"),
        (lambda: check.tensor("x", torch.zeros(3), dtype=torch.float32, shape=[3], like=torch.zeros(1, device="meta")), ValueError,
         "x: expected a tensor on meta like the other arguments, got one on cpu"),
        (lambda: check.positive_int("n", True), TypeError, "n: expected an int, got bool"),
        (lambda: check.positive_int("n", 2.0), TypeError, "n: expected an int, got float"),
        (lambda: check.positive_int("n", np.bool_(True)), TypeError, "n: expected an int, got "),
        (lambda: check.positive_int("n", 0), ValueError, "n: expected at least 1, got 0"),
        (lambda: check.positive_int("n", 9, maximum=8), ValueError, "n: expected in [1, 8], got 9"),
        (lambda: check.number("s", "1"), TypeError, "s: expected a number, got str"),
        (lambda: check.number("s", float("nan")), ValueError, "s: expected a finite number, got nan"),
        (lambda: check.number("s", -1, minimum=0), ValueError, "s: expected a number of at least 0, got -1.0"),
        (lambda: check.choice("m", "c", ["a", "b"]), ValueError, "m: expected 'a' or 'b', got 'c'"),
        (lambda: check.mesh(torch.zeros(2, 3), torch.tensor([[0, 1, 2]])), ValueError,
         "faces: expected vertex indices in [0, 2), got 0 to 2"),
        (lambda: check.mesh(torch.zeros(2, 3), torch.tensor([[0, 1, -1]])), ValueError, "got -1 to 1"),
    ],
)  # fmt: skip
def test_argument_checks_name_argument_expected_and_actual(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert text in str(caught.value)


def test_argument_checks_pass_what_is_right():
    x = torch.zeros(4, 6)[:, ::2]
    assert check.tensor("x", x, dtype=torch.float32, shape=["N", 3]).is_contiguous()
    assert check.positive_int("n", 8, maximum=8) == 8
    for given in (np.int64(8), np.uint8(8)):
        assert type(check.positive_int("n", given)) is int  # ctypes takes no other
    assert type(check.number("x", np.float32(0.5))) is float
    assert check.number("s", 1) == 1.0
    assert check.choice("m", "a", ["a"]) == "a"
    v, f = check.mesh(torch.zeros(2, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert f.dtype == torch.int32 and len(v) == 2


def test_bits_tell_values_dtypes_and_shapes_apart():
    zero, negative = torch.tensor([0.0]), torch.tensor([-0.0])
    assert bits(zero) != bits(negative)
    assert bits(torch.zeros(2, 1)) != bits(torch.zeros(1, 2))
    assert bits({"a": torch.zeros(1)}) != bits({"b": torch.zeros(1)})
    assert bits((zero, 1)) == bits((zero.clone(), 1))
