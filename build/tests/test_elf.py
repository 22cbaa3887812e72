"""ELF and GPU-code facts, on libraries that the test compiles or composes."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_build import elf, fatbin
from trellis_build.errors import BuildError

SOURCE = """#include <math.h>
#include <pthread.h>
#include <string.h>
int shown(void) { return 1; }
__attribute__((weak)) int weak_too(double x) { return (int)pow(x, x) + (int)strlen("x"); }
static int hidden_static(void) { return 2; }
__attribute__((visibility("hidden"))) int hidden(void) { return hidden_static(); }
extern int missing(void);
int calls_missing(void) { return missing(); }
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    (folder / "a.c").write_text(SOURCE)
    flags = ["-shared", "-fPIC", "-fno-builtin", "-Wl,-rpath,/somewhere"]
    subprocess.run(["gcc", *flags, "-o", folder / "a.so", folder / "a.c", "-lm"], check=True)
    return folder / "a.so"


def test_facts_of_a_library(library: Path) -> None:
    facts = elf.read(library)
    assert {"shown", "weak_too", "calls_missing"} <= facts.exports
    assert not {"hidden", "hidden_static", "missing"} & facts.exports
    assert set(facts.needed) == {"libm.so.6", "libc.so.6"}
    assert facts.runpath == "/somewhere"
    assert facts.machine == subprocess.run(["uname", "-m"], check=True, capture_output=True, text=True).stdout.strip()


def test_symbols_agree_with_nm(library: Path) -> None:
    nm = shutil.which("nm")
    assert nm is not None, "binutils come with gcc"
    facts = elf.read(library)
    text = subprocess.run([nm, "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    assert facts.exports == {line.split()[-1].split("@")[0] for line in text.splitlines()}


def test_glibc_floor_agrees_with_objdump(library: Path) -> None:
    objdump = shutil.which("objdump")
    assert objdump is not None, "binutils come with gcc"
    text = subprocess.run([objdump, "-T", library], check=True, capture_output=True, text=True).stdout
    versions = [tuple(map(int, v.split(")")[0].split(".")[:2])) for v in text.split("GLIBC_")[1:] if v[0].isdigit()]
    assert elf.read(library).glibc_floor == max(versions)


@pytest.mark.parametrize(
    ("versions", "floor"),
    [
        ([], (2, 0)),
        (["GLIBC_2.2.5"], (2, 2)),
        (["GLIBC_2.9", "GLIBC_2.34", "GLIBC_2.17"], (2, 34)),  # by number, not by text
        (["GLIBCXX_3.4.30", "GCC_3.0", "GLIBC_PRIVATE"], (2, 0)),
        (["GLIBC_2.17", "GLIBC_ABI_DT_RELR"], (2, 36)),
    ],
)
def test_floor_of_versions(versions: list[str], floor: tuple[int, int]) -> None:
    assert elf.glibc_floor(versions) == floor


def test_files_that_are_no_library(tmp_path: Path) -> None:
    with pytest.raises(elf.ElfError, match="No such file"):
        elf.read(tmp_path / "missing.so")
    (tmp_path / "text.so").write_text("GROUP ( libc.so.6 )")
    with pytest.raises(elf.ElfError, match="not a readable ELF file"):
        elf.read(tmp_path / "text.so")
    (tmp_path / "a.c").write_text("int f(void) { return 1; }")
    subprocess.run(["gcc", "-c", "-o", tmp_path / "a.o", tmp_path / "a.c"], check=True)
    with pytest.raises(elf.ElfError, match="not a shared library"):
        elf.read(tmp_path / "a.o")


@settings(deadline=None, max_examples=60)
@given(share=st.floats(0, 1), damage=st.binary(max_size=8))
def test_truncated_and_damaged_files_are_named(library: Path, share: float, damage: bytes) -> None:
    data = library.read_bytes()
    cut = int(share * (len(data) - 1))
    broken = library.with_name("broken.so")
    for contents in (data[:cut], data[:cut] + damage + data[cut + len(damage) :]):
        broken.write_bytes(contents)
        try:
            elf.read(broken)
        except elf.ElfError as error:
            assert "broken.so" in str(error)


def container(*entries: tuple[int, int, bytes]) -> bytes:
    """GPU code as a compiler embeds it: (kind, architecture, payload)."""
    body = b""
    for kind, architecture, payload in entries:
        header = struct.pack("<HHIQIIHHI", kind, 0x101, 64, len(payload), 0, 0, 0, 1, architecture)
        body += header.ljust(64, b"\0") + payload
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def test_gpu_code_is_read_back() -> None:
    data = (
        container((2, 90, b"e" * 24), (1, 90, b"p" * 40))
        + b"\0" * 8
        + container((2, 100, b""), (2, 75, b"x" * 8), (2, 90, b""))
    )
    assert fatbin.parse(data, "x") == ("sm_75", "sm_90", "sm_100", "compute_90")
    assert fatbin.parse(b"", "x") == ()


def test_damaged_gpu_code_is_named() -> None:
    data = container((2, 90, b"e" * 24))
    with pytest.raises(BuildError, match=r"x\.so: a container of GPU code at byte 0 reaches past its section"):
        fatbin.parse(data[:-1], "x.so")
    lying = bytearray(data)
    lying[20:24] = struct.pack("<I", 0)  # the entry's header size: a reader that trusts it never ends
    with pytest.raises(BuildError, match="has a header of 0 bytes"):
        fatbin.parse(bytes(lying), "x.so")


def test_a_library_without_gpu_code(library: Path) -> None:
    assert fatbin.architectures(library) == ()
