"""What is importable after `install`, what refuses, and what is said about names that are missing."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trellis_compat

MODULES = Path(trellis_compat.__file__).parent / "modules"


def served_modules():
    for file in sorted(MODULES.rglob("*.py")):
        parts = file.relative_to(MODULES).with_suffix("").parts
        if not any(part.startswith("_") and part != "__init__" for part in parts):
            yield ".".join(part for part in parts if part != "__init__")


def run(*arguments, cwd=None):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize("name", list(served_modules()))
def test_modules_say_what_they_are(name):
    module = importlib.import_module(name)
    assert module.__name__ == name == module.__spec__.name
    assert Path(module.__file__).is_relative_to(MODULES)
    assert all(hasattr(module, public) for public in module.__all__)


def test_the_five_names_are_served():
    assert {name.split(".")[0] for name in served_modules()} == set(trellis_compat.NAMES)


def test_uninstall_gives_the_names_back():
    import cumesh

    trellis_compat.uninstall()
    trellis_compat.uninstall()
    assert "cumesh" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="No module named 'cumesh'"):
        importlib.import_module("cumesh")
    trellis_compat.install()
    assert importlib.import_module("cumesh") is not cumesh


def test_install_twice_keeps_what_was_imported():
    import o_voxel

    trellis_compat.install()
    assert importlib.import_module("o_voxel") is o_voxel
    assert sum(type(finder).__module__ == "trellis_compat._finder" for finder in sys.meta_path) == 1


@pytest.mark.parametrize("name", trellis_compat.NAMES)
def test_a_real_module_that_is_imported_already_is_refused(name, tmp_path, monkeypatch):
    trellis_compat.uninstall()
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    real = importlib.import_module(name)
    try:
        with pytest.raises(ImportError, match=rf"{name} is already imported, from {re.escape(real.__file__)}"):
            trellis_compat.install()
        other = next(n for n in trellis_compat.NAMES if n != name)
        with pytest.raises(ModuleNotFoundError):  # nothing was installed
            importlib.import_module(other)
    finally:
        del sys.modules[name]


def test_a_real_module_that_is_only_installed_gives_way(tmp_path, monkeypatch):
    (tmp_path / "cumesh.py").write_text("raise AssertionError")
    monkeypatch.syspath_prepend(tmp_path)
    assert hasattr(importlib.import_module("cumesh"), "CuMesh")


def test_missing_names_are_named_with_what_there_is():
    import cumesh
    import flex_gemm.ops.spconv

    expected = (
        r"flex_gemm\.ops\.spconv\.sparse_pool3d is not provided by trellis_compat.* has: .*sparse_submanifold_conv3d"
    )
    with pytest.raises(AttributeError, match=expected) as caught:
        _ = flex_gemm.ops.spconv.sparse_pool3d
    assert caught.value.name == "sparse_pool3d"
    assert not hasattr(flex_gemm.ops.spconv, "sparse_pool3d")
    with pytest.raises(ImportError, match=expected):
        exec("from flex_gemm.ops.spconv import sparse_pool3d")
    with pytest.raises(ImportError, match=r"flex_gemm\.kernels is not provided by trellis_compat.* has: ops"):
        importlib.import_module("flex_gemm.kernels")
    with pytest.raises(AttributeError, match=r"CuMesh\.read_atlas_charts is not provided .* has: .*uv_unwrap"):
        cumesh.CuMesh().read_atlas_charts()


def test_a_script_gets_its_arguments_its_folder_and_our_modules(tmp_path):
    (tmp_path / "beside.py").write_text("VALUE = 7")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, beside, flex_gemm\n"
        "print(__name__, __file__, sys.argv, beside.VALUE, flex_gemm.__file__)\n"
        "if __name__ == '__main__': sys.exit(5)\n"
    )
    done = run("-m", "trellis_compat", str(script), "--flag", "x")
    assert done.returncode == 5, done.stderr
    assert done.stdout.split(" ", 2)[:2] == ["__main__", str(script)]
    assert f"{[str(script), '--flag', 'x']} 7 {MODULES}" in done.stdout


def test_usage(tmp_path):
    assert "usage: python -m trellis_compat SCRIPT" in run("-m", "trellis_compat", "--help").stdout
    for arguments, text in (([], "expected a script"), (["none.py"], "no such script: none.py")):
        done = run("-m", "trellis_compat", *arguments, cwd=tmp_path)
        assert done.returncode == 2 and text in done.stderr


def test_importing_the_package_serves_nothing():
    done = run("-c", "import trellis_compat, cumesh")
    assert "No module named 'cumesh'" in done.stderr
