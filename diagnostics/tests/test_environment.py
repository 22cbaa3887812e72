"""Reading of metadata, syntax trees, the matrix and processes."""

from __future__ import annotations

import ast
import os
import sys
import time
from pathlib import Path

import pytest
from trellis_doctor import calls, matrix
from trellis_doctor.checks import extensions, module_imports, modules, torch_import
from trellis_doctor.interpreter import UsageError, find, inspect
from trellis_doctor.machine import Machine
from trellis_doctor.process import ask
from trellis_doctor.selftest.bench import Bench
from trellis_doctor.site import BrokenDistribution, Distribution, Site, normalised, read_distribution, version_key

MATRIX = Path(__file__).parents[2] / "build" / "matrix.toml"


# Metadata


def _dist_info(folder: Path, name: str, metadata: str | None, record: str = "") -> Path:
    info = folder / name
    info.mkdir(parents=True)
    if metadata is not None:
        (info / "METADATA").write_text(metadata)
    (info / "RECORD").write_text(record)
    return info


def test_requirements_are_read_in_both_styles(tmp_path: Path) -> None:
    lines = [
        "torch (==2.8.0)",
        "nvidia-cudnn-cu12==9.1.0.70; platform_system == 'Linux'",
        "gdown (>=4.7.3) ; extra == 'gdown'",
        "Foo.Bar[x,y]>=1,<2",
        "plain",
    ]
    metadata = "Metadata-Version: 2.1\nName: a\nVersion: 1\n" + "".join(f"Requires-Dist: {x}\n" for x in lines)
    info = _dist_info(tmp_path, "a-1.dist-info", metadata + "\nRequires-Dist: not-a-header\n")
    found = read_distribution(info)
    assert isinstance(found, Distribution)
    assert [(r.name, r.exact) for r in found.requires] == [
        ("torch", "2.8.0"), ("nvidia-cudnn-cu12", "9.1.0.70"), ("gdown", None), ("foo-bar", None), ("plain", None),
    ]  # fmt: skip
    assert found.requires[1].marker == "platform_system == 'Linux'"


@pytest.mark.parametrize("metadata", [None, "", "Name: x\n", "Version: 1\n", "\x00\xff"])
def test_damaged_metadata_is_reported(metadata: str | None, tmp_path: Path) -> None:
    assert isinstance(read_distribution(_dist_info(tmp_path, "x-1.dist-info", metadata)), BrokenDistribution)


def test_two_records_of_one_package_and_leftovers(tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        _dist_info(tmp_path, f"some_pkg-{version}.dist-info", f"Name: Some.Pkg\nVersion: {version}\n")
    (tmp_path / "~orch").mkdir()
    site = Site((tmp_path,), ())
    assert [b.is_leftover for b in site.broken] == [False, True] and "twice" in site.broken[0].why
    assert site.get("some-PKG") is not None


def test_modules_and_owners(tmp_path: Path) -> None:
    files = {
        "pkg/__init__.py": "",
        "pkg/sub/mod.py": "",
        "single.py": "",
        "ext.cpython-311-x86_64-linux-gnu.so": "",
        "space/inner.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    _dist_info(
        tmp_path,
        "p-1.dist-info",
        "Name: p\nVersion: 1\n",
        "pkg/__init__.py,sha256=x,1\next.cpython-311-x86_64-linux-gnu.so,,\n",
    )
    site = Site((tmp_path,), ())
    assert site.module("pkg") == tmp_path / "pkg/__init__.py"
    assert site.module("pkg.sub.mod") == tmp_path / "pkg/sub/mod.py"
    assert site.module("single") == tmp_path / "single.py"
    assert site.module("ext") == tmp_path / "ext.cpython-311-x86_64-linux-gnu.so"
    assert site.module("space") == tmp_path / "space"
    assert site.module("absent") is None and site.module("pkg.absent") is None
    owner = site.owner(tmp_path / "ext.cpython-311-x86_64-linux-gnu.so")
    assert owner is not None and owner.name == "p"
    assert [d.name for d in site.owners_of_import("pkg")] == ["p"] and site.owners_of_import("single") == []


def test_names_and_versions() -> None:
    assert normalised("Foo_.Bar") == "foo-bar"
    assert version_key("2.10.0+cu128") == (2, 10, 0) and version_key("2.9.1") < version_key("2.10")
    assert version_key("nonsense") == ()


# Syntax trees


def test_names_are_found_through_stars_conditions_and_submodules(tmp_path: Path) -> None:
    files = {
        "p/__init__.py": "from .a import *\nfrom . import b\nif True:\n    X = 1\nelse:\n    def y(): ...\n",
        "p/a.py": "def star(): ...\nclass Star: ...\n",
        "p/b.py": "try:\n    import fast as impl\nexcept ImportError:\n    from .a import star as impl\n",
        "p/c.py": "def __getattr__(name): ...\n",
        "p/d.py": "def broken(:\n",
        "p/e.py": "from compiled_elsewhere import *\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    site = Site((tmp_path,), ())
    for name in ("star", "Star", "b", "X", "y", "b.impl", "a"):
        assert calls.has(site, f"p.{name}") is True, name
    for name in ("absent", "a.absent", "b.star", "absent.deeper"):
        assert calls.has(site, f"p.{name}") is False, name
    for name in ("c.anything", "d.anything", "e.anything"):
        assert calls.has(site, f"p.{name}") is None, name


@pytest.mark.parametrize(
    ("call", "fits"),
    [
        ("f(1, 2)", True),
        ("f(1, 2, 3)", False),
        ("f(1, c=2)", True),
        ("f(1, d=2)", False),
        ("f(*x)", True),
        ("f(1, **x)", True),
    ],
)
def test_calls_against_a_signature(call: str, fits: bool, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("def f(a, b=1, *, c=0): ...\nclass C:\n    def g(self, a): ...\n")
    takes = calls.signature(tmp_path / "m.py", "f")
    assert takes is not None and takes.positional == ("a", "b")
    method = calls.signature(tmp_path / "m.py", "g", inside="C")
    assert method is not None and method.positional == ("a",)
    node = ast.parse(call, mode="eval").body
    assert isinstance(node, ast.Call)
    assert (calls.misfit(node, takes) is None) is fits


# The matrix


def test_the_small_reader_agrees_with_tomllib() -> None:
    rows = matrix._rows_of(MATRIX.read_text())
    assert [r["name"] for r in rows] == [r.name for r in matrix.load(MATRIX)]
    if sys.version_info >= (3, 11):
        import tomllib

        assert rows == tomllib.loads(MATRIX.read_text())["row"]


def test_a_row_that_lacks_something_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "m.toml").write_text('[[row]]\nname = "x"\n')
    with pytest.raises(ValueError, match="a row has no 'why'"):
        matrix.load(tmp_path / "m.toml")


# The machine


def _machine(tmp_path: Path, rows: str) -> Machine:
    bench = Bench(tmp_path / "bench")
    bench.at("/proc/meminfo", "MemTotal:       131072 kB\n")
    bench.command(
        "nvidia-smi", f"#!/bin/sh\ncase \"$1\" in --query*) printf '{rows}' ;; *) echo 'CUDA Version: 13.0' ;; esac\n"
    )
    return Machine(bench.root, bench.env, ("glibc", "2.36"), bench.home)


def test_gpus_are_read_from_nvidia_smi(tmp_path: Path) -> None:
    driver = _machine(tmp_path, "NVIDIA RTX 3090, 8.6, 24576, 580.1\\nNVIDIA GB10, 12.1, [N/A], 580.1\\n").driver
    assert driver is not None and driver.problem is None and driver.cuda == (13, 0) and driver.version == "580.1"
    assert [(g.capability, g.memory) for g in driver.gpus] == [((8, 6), 24 << 30), ((12, 1), 128 << 20)]


@pytest.mark.parametrize("rows", ["", "No devices were found\\n", "a, b, c, d\\n"])
def test_an_nvidia_smi_that_names_no_gpu_is_a_problem(rows: str, tmp_path: Path) -> None:
    driver = _machine(tmp_path, rows).driver
    assert driver is not None and driver.gpus == () and driver.problem and "names no GPU" in driver.problem


def test_libraries_are_found_through_the_loaders_cache(tmp_path: Path) -> None:
    machine = _machine(tmp_path, "")
    assert machine.library("libcuda.so.1") is None
    odd = machine.at("/run/driver/lib/libcuda.so.1")
    odd.parent.mkdir(parents=True)
    odd.write_bytes(b"")
    machine.at("/etc/ld.so.cache").parent.mkdir()
    machine.at("/etc/ld.so.cache").write_bytes(
        b"glibc-ld.so.cache1.1\0\1\2/run/driver/lib/libcuda.so.1\0/gone/libx.so\0"
    )
    assert machine.library("libcuda.so.1") == odd
    assert machine.library("libx.so") is None


# Processes and interpreters


def _ask(code: str, timeout: float = 20) -> tuple[dict[str, object], str | None]:
    answer = ask([sys.executable, "-I", "-S", "-c", code], os.environ, timeout)
    return answer.data, answer.died


def test_answers_survive_what_comes_after_them() -> None:
    said = "print('noise'); print('TRELLIS-DOCTOR {\"a\": 1}', flush=True); "
    assert _ask(said) == ({"a": 1}, None)
    data, died = _ask(said + "import os; os.abort()")
    assert data == {"a": 1} and died == "it was killed by SIGABRT"
    data, died = _ask(said + "raise SystemExit(3)")
    assert data == {"a": 1} and died == "it ended with status 3"
    crash = ask([sys.executable, "-I", "-X", "faulthandler", "-c", "import os; os.abort()"], os.environ, 20)
    assert crash.last_words == "Fatal Python error: Aborted"
    assert _ask("pass") == ({}, "it ended without an answer")
    assert _ask("print('TRELLIS-DOCTOR {\"a\"')") == ({}, "its answer was cut off")


def test_a_hang_is_stopped_with_its_children() -> None:
    began = time.monotonic()
    code = "import json, subprocess; p = subprocess.Popen(['sleep', '60'])\n"
    code += "print('TRELLIS-DOCTOR ' + json.dumps({'child': p.pid}), flush=True); p.wait()"
    data, died = _ask(code, timeout=6)
    assert died == "it gave no answer in 6 s and was stopped"
    assert time.monotonic() - began < 30  # far below the child's 60
    try:
        status = Path(f"/proc/{data['child']}/stat").read_text()
    except FileNotFoundError:
        return
    assert status.rpartition(")")[2].split()[0] in "ZX"  # dead, though nobody may have collected it yet


def test_find_takes_files_folders_commands_and_dangling_links(tmp_path: Path) -> None:
    assert find(None) == Path(sys.executable)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert find(str(tmp_path)) == tmp_path / "bin" / "python"
    assert find("sh").name == "sh"
    (tmp_path / "gone").symlink_to("/nowhere/python")
    assert find(str(tmp_path / "gone")) == tmp_path / "gone"
    for wrong in ("/nowhere/python", "no-such-command", str(tmp_path / "bin" / "absent"), str(MATRIX)):
        with pytest.raises(UsageError):
            find(wrong)
    for inside in (".venv/bin/python", "python_embeded/python.exe"):  # ComfyUI's folder, or its portable edition's
        program = tmp_path / inside.split("/")[0].strip(".")
        (program / inside).parent.mkdir(parents=True)
        (program / inside).symlink_to(sys.executable)
        assert find(str(program)) == program / inside
    (program / "ComfyUI").mkdir()
    assert find(str(program / "ComfyUI")).resolve() == Path(sys.executable).resolve()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no Python"):
        find(str(tmp_path / "empty"))


def test_remedies_serve_an_environment_without_pip(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.healthy().remove("pip", "trimesh")
    bench.live = True
    python = bench.prefix / "bin" / "python"

    def remedy() -> tuple[str, ...]:
        (finding,) = modules.CHECK.run(bench.context({})).findings
        return finding.remedy

    install = f"{python} -m pip install trimesh"
    assert remedy() == (f"{python} -m ensurepip", install)
    bench.command("uv")
    assert remedy() == (f"uv pip install --python {python} trimesh",)
    bench.package("pip", files={"pip/__init__.py": ""})
    assert remedy() == (install,)


def test_a_module_that_fails_says_what_it_lacks(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.healthy().live = True
    bench.write(bench.site / "cv2" / "__init__.py", "raise ImportError('numpy.core.multiarray failed to import')\n")
    bench.write(bench.site / "PIL" / "__init__.py", "import os\nos.abort()\n")
    bench.write(
        bench.site / "zstandard" / "__init__.py", "raise ImportError('libzzz.so.1: cannot open shared object file')\n"
    )
    outcome = module_imports.CHECK.run(bench.context({}))
    # Those after the one that ended the process are tried all the same.
    found = {f.summary: (f.severity, f.remedy) for f in outcome.findings}
    python = bench.prefix / "bin" / "python"
    assert set(found) == {
        "cv2 1.0 was made for another numpy than 1.0",
        "PIL is installed and cannot be imported",
        "zstandard needs libzzz.so.1, which is not on this machine",
    }
    assert found["cv2 1.0 was made for another numpy than 1.0"] == (
        "warning",
        (
            f"{python} -m pip install --upgrade opencv-python-headless",
            f"# or, if other packages need it, the older numpy: {python} -m pip install 'numpy<2'",
        ),
    )
    assert found["PIL is installed and cannot be imported"][0] == "error"
    assert outcome.summary == "4 of 7 imported"


def test_a_torch_before_the_environments_own_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.healthy().live = True
    assert not torch_import.CHECK.run(bench.context({})).findings
    other = bench.write(tmp_path / "other" / "torch" / "__init__.py", "")
    bench.write(other.with_name("version.py"), "__version__ = '2.1.0+cu118'\ncuda = '11.8'\n")
    bench.env["PYTHONPATH"] = str(tmp_path / "other")
    finding = torch_import.CHECK.run(bench.context({})).findings[0]
    assert finding.summary == f"torch 2.1.0+cu118 in {tmp_path / 'other'} hides the environment's own"
    assert f"take {tmp_path / 'other'} out of PYTHONPATH" in finding.remedy[0]


def test_sources_with_their_libraries_elsewhere_are_no_damage(tmp_path: Path) -> None:
    """As `nox -s dev` makes it: a start-up file puts sources first and says where the libraries are."""
    bench = Bench(tmp_path)
    bench.healthy().live = True
    bench.write(tmp_path / "sources" / "trellis_mesh" / "__init__.py", "")
    start = f"import sys, os; sys.path.insert(0, {str(tmp_path / 'sources')!r}); "
    bench.write(bench.site / "dev.pth", start + f"os.environ.setdefault('TRELLIS_NATIVE_DIR', {str(bench.site)!r})\n")
    context = bench.context({})
    assert context.site.module("trellis_mesh") == tmp_path / "sources" / "trellis_mesh" / "__init__.py"
    assert not [f for f in extensions.CHECK.run(context).findings if "damaged" in f.summary]
    assert context.native_folder == str(bench.site)


def test_the_running_interpreter_is_described() -> None:
    python = inspect(Path(sys.executable), Machine())
    assert python.works and python.version == sys.version_info[:3] and python.bits == 64
    assert Path(sys.prefix) == python.prefix
    assert any(Path(pytest.__file__).is_relative_to(f) for f in python.folders)
