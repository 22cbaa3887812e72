"""The validator: the real matrix passes, and each thing that can be wrong is named."""

import pytest
from trellis_build import matrix
from trellis_build.errors import BuildError, MatrixError
from trellis_build.layout import Checkout

BASE = """
schema = 1
epoch = 1767225600
cuda-only = ["nvidia-*"]
[groups]
runtime = ["numpy>=1.26"]
generate = ["transformers>=4.56"]
test = ["pytest>=8"]
lint = ["ruff>=0.9"]
build = ["cmake==4.4.4"]
lock = ["uv==0.13.9"]
flash-attn = ["ninja==1.13.2"]
[architectures]
cuda13 = ["sm_90", "compute_90"]
[toolchains."cuda13.0"]
kind = "nvcc-packages"
cuda = "13.0"
nvcc = "13.0.88"
requirements = ["cuda-toolkit[nvcc]==13.0.2"]
[[row]]
name = "cpu"
why = "laptops"
python = ["3.10", "3.11"]
torch = "2.13.0"
groups = ["runtime"]
[[row]]
name = "cu130"
why = "servers"
python = ["3.11"]
torch = "2.11.0"
cuda = "13.0"
triton = "3.6.0"
toolchain = "cuda13.0"
groups = ["runtime", "test"]
automatic = true
"""
ANOTHER = """
[[row]]
name = "{}"
why = "x"
python = ["3.11"]
torch = "{}"
cuda = "{}"
triton = "3.6.0"
toolchain = "cuda13.0"
groups = ["test"]
"""


def test_the_real_matrix_holds_the_rows_of_the_design(checkout: Checkout) -> None:
    rows = checkout.matrix.rows
    assert list(rows) == ["cpu", "cu124-seed", "cu124", "cu128", "cu130", "cu13-latest"]
    flavours = {name: row.toolchain.flavour if row.toolchain else None for name, row in rows.items()}
    assert (flavours["cpu"], flavours["cu124"], flavours["cu130"]) == (None, "cuda12", "cuda13")


def test_base_is_valid() -> None:
    parsed = matrix.parse(BASE)
    assert parsed.row("cu130").toolchain is parsed.toolchains["cuda13.0"]
    assert parsed.row("cu130").automatic and not parsed.row("cpu").automatic


def test_unknown_row_names_the_rows() -> None:
    with pytest.raises(BuildError, match=r"no row 'cu99'; its rows are cpu, cu130"):
        matrix.parse(BASE).row("cu99")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema = 1", "schema = 2", "matrix.toml: schema is 2; expected 1"),
        ("schema = 1", "schema = true", "matrix.toml: schema is True; expected 1"),
        ("schema = 1\n", "", "matrix.toml: schema is missing; expected 1"),
        ("schema = 1", "schema = 1\ncolour = 3", "matrix.toml: unknown key 'colour'"),
        ("epoch = 1767225600", "epoch = 0", "epoch is 0; expected seconds since 1970, not before 1980"),
        ('cuda-only = ["nvidia-*"]', "cuda-only = []", "cuda-only is []; expected a list of package name patterns"),
        ('lint = ["ruff>=0.9"]\n', "", "groups: lint is missing"),
        ("lint = [", "linters = [", "groups: unknown group 'linters'"),
        ('"ruff>=0.9"', '"ruff>>0.9"', "groups.lint: 'ruff>>0.9' is not a requirement"),
        ('"ruff>=0.9"', '"torch>=2"', "groups.lint: torch belongs to the rows, not to a group"),
        ('"ruff>=0.9"', '"numpy>=2"', "groups.lint: numpy is '>=2' here and '>=1.26' in groups.runtime"),
        ('"cmake==4.4.4"', '"cmake>=4"', "groups.build: 'cmake>=4' must be exact (==)"),
        ('lint = ["ruff>=0.9"]', "lint = 3", "groups.lint: expected a list of requirements, got 3"),
        ("cuda13 = [", "rocm = [", "architectures: unknown flavour 'rocm'"),
        (
            '["sm_90", "compute_90"]',
            '["sm90"]',
            "architectures.cuda13: ['sm90']; expected a list of sm_XX and compute_XX",
        ),
        ('["sm_90", "compute_90"]', '["sm_90", "sm_90"]', "architectures.cuda13: an architecture is listed twice"),
        ('kind = "nvcc-packages"', 'kind = "magic"', "kind is 'magic'; expected nvcc-packages or home-or-clang"),
        ('nvcc = "13.0.88"\n', "", "nvcc belongs to kind nvcc-packages, and this is nvcc-packages"),
        (
            'nvcc = "13.0.88"',
            'nvcc = "13.0.88"\nclang = "19"',
            "clang belongs to kind home-or-clang, and this is nvcc-packages",
        ),
        ("[nvcc]==13.0.2", "[nvcc]>=13.0.2", "'cuda-toolkit[nvcc]>=13.0.2' must be exact (==)"),
        ('name = "cpu"', 'name = "CPU"', "row 'CPU': name is 'CPU'; expected cpu, cu<major><minor>"),
        ('name = "cpu"\n', "", "row number 1: name is missing"),
        ('name = "cu130"', 'name = "cpu"', "row 'cpu': defined 2 times"),
        ('name = "cu130"', 'name = "cu128"', "row 'cu128': its name says CUDA 128, its cuda is 13.0"),
        ('name = "cu130"', 'name = "cu12-latest"', "row 'cu12-latest': its name says CUDA 12, its cuda is 13.0"),
        ('torch = "2.13.0"', 'torch = "2"', "row 'cpu': torch is '2'; expected a version such as 2.11.0"),
        ('torch = "2.13.0"', 'torch = "2.13.0"\ncuda = "13.0"', "row 'cpu': cuda does not belong to the cpu row"),
        (
            'torch = "2.13.0"',
            'torch = "2.13.0"\nflash-attn = "2.8.3"',
            "row 'cpu': flash-attn does not belong to the cpu row",
        ),
        ('torch = "2.13.0"', 'torch = "2.13.0"\ncolour = 1', "row 'cpu': unknown key 'colour'"),
        ('triton = "3.6.0"\n', "", "row 'cu130': triton is missing; a CUDA row needs cuda, triton and toolchain"),
        (
            'toolchain = "cuda13.0"',
            'toolchain = "cuda14"',
            "row 'cu130': toolchain 'cuda14' does not exist; there are cuda13.0",
        ),
        (
            'cuda = "13.0"\ntriton',
            'cuda = "13"\ntriton',
            "row 'cu130': cuda is '13'; expected major.minor, such as 13.0",
        ),
        (
            'cuda = "13.0"\nnvcc',
            'cuda = "13.2"\nnvcc',
            "row 'cu130': its cuda is 13.0, its toolchain 'cuda13.0' is for CUDA 13.2",
        ),
        ("cuda13 = [", "cuda12 = [", "row 'cu130': architectures.cuda13 is missing"),
        ('["runtime", "test"]', '["fun"]', "row 'cu130': group 'fun' does not exist"),
        ('["3.10", "3.11"]', '["3.11", "3.11"]', "row 'cpu': a Python version is listed twice"),
        ('["3.10", "3.11"]', "[]", "row 'cpu': python is []; expected a list such as"),
        ("automatic = true", 'automatic = "yes"', "row 'cu130': automatic is 'yes'; expected true or false"),
        ("schema = 1", "schema = ", "not TOML"),
    ],
)
def test_each_problem_is_named(old: str, new: str, message: str) -> None:
    assert old in BASE
    with pytest.raises(MatrixError) as caught:
        matrix.parse(BASE.replace(old, new, 1))
    assert any(message in problem for problem in caught.value.problems), caught.value.problems


def test_two_rows_of_equal_contents() -> None:
    with pytest.raises(MatrixError, match=r"row 'cu130-again': same torch, CUDA and Triton as row 'cu130'"):
        matrix.parse(BASE + ANOTHER.format("cu130-again", "2.11.0", "13.0"))
    assert "cu130-other" in matrix.parse(BASE + ANOTHER.format("cu130-other", "2.12.0", "13.0")).rows


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("row", "cu99", "extra-file number 1: row 'cu99' does not exist"),
        ("file", "a/b.whl", "file is 'a/b.whl'; expected the bare name of a wheel"),
        ("sha256", "abc", "sha256 is 'abc'; expected 64 lower-case hexadecimal digits"),
        ("colour", "red", "extra-file number 1: unknown key 'colour'"),
    ],
)
def test_extra_files(field: str, value: str, message: str) -> None:
    good = {"row": "cpu", "package": "torch", "file": "torch-2.13.0-x.whl", "sha256": "0" * 64}
    text = BASE + "[[extra-file]]\n" + "".join(f'{k} = "{v}"\n' for k, v in {**good, field: value}.items())
    with pytest.raises(MatrixError) as caught:
        matrix.parse(text)
    assert any(message in problem for problem in caught.value.problems), caught.value.problems


def test_all_problems_are_reported_at_once() -> None:
    broken = BASE.replace('"ruff>=0.9"', '"ruff>>0.9"').replace('name = "cu130"', 'name = "cu128"')
    with pytest.raises(MatrixError) as caught:
        matrix.parse(broken)
    assert len(caught.value.problems) == 2
