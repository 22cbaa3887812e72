"""What the benchmark of the whole command says of bytecode and of its runs."""

import os
import py_compile
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import cold


@pytest.fixture
def thing(tmp_path, monkeypatch):
    """The folder of a module without bytecode, in a process that writes none."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    monkeypatch.syspath_prepend(str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    (tmp_path / "here/thing.py").write_text("import json\nprint(json.__spec__.cached, __spec__.cached)\n")
    return tmp_path / "here"


def test_processes_find_bytecode_where_there_was_none(thing, tmp_path):
    cache = tmp_path / "cache"
    environment, how = cold.with_bytecode(cache, "thing")
    assert "no bytecode of thing was there" in how and not list(thing.rglob("*.pyc"))
    (written,) = cache.rglob("thing.*.pyc")
    environment["PYTHONPATH"] = str(thing)
    before = written.stat().st_mtime_ns
    _, _, said = cold.times([sys.executable, "-c", "import thing, sys; print(sys.dont_write_bytecode)"], 1, environment)
    found, wrote_none = said.split()[1:]
    assert Path(found) == written and wrote_none == "False" and written.stat().st_mtime_ns == before


def test_bytecode_of_the_installation_is_left_as_it_is(thing, tmp_path):
    py_compile.compile(str(thing / "thing.py"))
    assert cold.has_bytecode("thing")
    environment, how = cold.with_bytecode(tmp_path / "cache", "thing")
    assert environment == dict(os.environ) and how == "bytecode of the installation"
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_is_an_error(thing, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(RuntimeError, match="no bytecode of thing was written"):
        cold.with_bytecode(tmp_path / "cache", "thing")


def test_runs_are_counted_without_the_first():
    said = cold.line("it", [9.0, 1.0, 2.0, 3.0, 4.0, 5.0], [99.0, 7.0, 6.0, 8.0, 6.5, 7.5])
    assert "least 1.00, quartiles 2.00 3.00 4.00, most 5.00 s of 5" in said
    assert "the first before them 9.00 s" in said and "processor 7.00 s" in said
    assert "least 2.00, quartiles 2.00 2.00 2.00" in cold.line("it", [9.0, 2.0], [1.0, 1.0])


def test_times_are_those_of_the_process_and_what_it_began():
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.3: pass'])"
    walls, processor, _ = cold.times([sys.executable, "-c", script], 1, dict(os.environ))
    assert len(walls) == len(processor) == 2 and min(walls) >= 0.3 and min(processor) >= 0.3


def test_a_run_that_fails_is_no_time():
    with pytest.raises(RuntimeError, match=r"exit status 3: why"):
        cold.times([sys.executable, "-c", "import sys; print('why'); sys.exit(3)"], 1, dict(os.environ))
