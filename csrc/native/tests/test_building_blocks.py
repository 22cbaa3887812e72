"""The shared C++ building blocks against NumPy, for any number of threads."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent
THREADS = (1, 2, 3, 7)


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    compiler = shutil.which("g++") or shutil.which("c++")
    assert compiler, "a C++ compiler is needed to build the project at all"
    library = tmp_path_factory.mktemp("probe") / "probe.so"
    subprocess.run(
        [compiler, "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread",
         "-I", HERE.parent / "include", HERE / "probe.cpp", "-o", library],
        check=True,
    )  # fmt: skip
    loaded = ctypes.CDLL(str(library))
    loaded.tk_probe_last_error.restype = ctypes.c_char_p
    yield loaded
    loaded.tk_probe_set_num_threads(0)


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("n", [0, 1, 65536, 65537, 300_001])
def test_exclusive_scan_equals_cumsum(probe, threads, n):
    probe.tk_probe_set_num_threads(threads)
    values = np.random.default_rng(n).integers(0, 1000, n)
    expected = np.concatenate([[0], np.cumsum(values)])
    total = ctypes.c_int64(-1)
    assert probe.tk_probe_scan(pointer(values), ctypes.c_int64(n), ctypes.byref(total)) == 0
    np.testing.assert_array_equal(values, expected[:-1])
    assert total.value == expected[-1]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(("n", "high"), [(0, 2), (1, 2), (200_003, 5), (200_003, 2**63), (65_537, 2**22)])
def test_sort_is_stable(probe, threads, n, high):
    probe.tk_probe_set_num_threads(threads)
    keys = np.random.default_rng(n).integers(0, high, n, dtype=np.uint64)
    payload = np.arange(n)
    order = np.argsort(keys, kind="stable")
    expected = keys[order]
    assert probe.tk_probe_sort(pointer(keys), pointer(payload), ctypes.c_int64(n)) == 0
    np.testing.assert_array_equal(keys, expected)
    np.testing.assert_array_equal(payload, order)


def test_float_sums_have_the_same_bits_for_any_thread_count(probe):
    values = np.random.default_rng(0).normal(size=123_457).astype(np.float32)
    sums = set()
    for threads in THREADS:
        probe.tk_probe_set_num_threads(threads)
        for _ in range(5):
            result = ctypes.c_float()
            probe.tk_probe_sum(pointer(values), ctypes.c_int64(len(values)), ctypes.byref(result))
            sums.add(result.value)
    assert len(sums) == 1
    assert sums.pop() == pytest.approx(values.astype(np.float64).sum(), rel=1e-4)


@pytest.mark.parametrize("threads", THREADS)
def test_coord_map_finds_first_row_of_each_key(probe, threads):
    probe.tk_probe_set_num_threads(threads)
    generator = np.random.default_rng(5)
    keys = generator.integers(0, 50_000, 100_000, dtype=np.uint64)
    wanted = generator.integers(0, 60_000, 20_000, dtype=np.uint64)
    first = {}
    for row, key in enumerate(keys.tolist()):
        first.setdefault(key, row)
    rows = np.empty(len(wanted), np.int64)
    arguments = pointer(keys), ctypes.c_int64(len(keys)), pointer(wanted), ctypes.c_int64(len(wanted)), pointer(rows)
    assert probe.tk_probe_find(*arguments) == 0
    np.testing.assert_array_equal(rows, [first.get(k, -1) for k in wanted.tolist()])
    assert (rows == -1).any()


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        (1, 1, b"index: expected anything but 700"),
        (2, 2, b"out of host memory"),
        (3, 4, b"plain"),
        (4, 4, b"unknown error"),
    ],
)
def test_exceptions_on_pool_threads_become_codes(probe, threads, kind, code, text):
    probe.tk_probe_set_num_threads(threads)
    assert probe.tk_probe_throw(kind) == code
    assert probe.tk_probe_last_error() == text
    assert probe.tk_probe_throw(0) == 0
    assert probe.tk_probe_last_error() == b""


@pytest.mark.parametrize("threads", THREADS)
def test_nested_loops_do_all_their_work(probe, threads):
    probe.tk_probe_set_num_threads(threads)
    counts = np.zeros(300, np.int64)
    assert probe.tk_probe_nested(ctypes.c_int64(300), pointer(counts)) == 0
    assert (counts == 300).all()


def test_forked_child_gets_its_own_pool(probe):
    probe.tk_probe_set_num_threads(4)
    values = np.ones(300_000, np.int64)
    total = ctypes.c_int64()
    probe.tk_probe_scan(pointer(values), ctypes.c_int64(len(values)), ctypes.byref(total))
    child = os.fork()
    if child == 0:
        ones = np.ones(300_000, np.int64)
        probe.tk_probe_scan(pointer(ones), ctypes.c_int64(len(ones)), ctypes.byref(total))
        os._exit(0 if total.value == 300_000 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
