"""The ELF reader against binutils on libraries made by gcc, and on damaged files."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest
from trellis_doctor import elf
from trellis_doctor.cache import LibraryCache
from trellis_doctor.selftest import elf_writer

SOURCE = """
#include <stdio.h>
#include <stdlib.h>
extern int strong_elsewhere(int);
extern int weak_elsewhere(int) __attribute__((weak));
__attribute__((visibility("hidden"))) int hidden_one(int x) { return x; }
static int local_one(int x) { return x + 1; }
int _ZN3c105ErrorE = 3;
int weak_here(int x) __attribute__((weak));
int weak_here(int x) { return x; }
int first(int x) { return strong_elsewhere(x) + (weak_elsewhere ? weak_elsewhere(x) : 0) + hidden_one(x) + local_one(x); }
""" + "".join(f'int many_{i}(void) {{ return printf("%d", {i}); }}\n' for i in range(200))


@pytest.fixture(scope="module", params=["gnu", "sysv", "both"])
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("elf")
    (folder / "a.c").write_text(SOURCE)
    out = folder / "libfirst.so"
    flags = ["-shared", "-fPIC", f"-Wl,--hash-style={request.param}", "-Wl,-soname,libfirst.so.1", "-Wl,--build-id"]
    flags += ["-Wl,-rpath,$ORIGIN/../other:/opt/x", "-Wl,--no-as-needed", "-lm"]
    subprocess.run(["gcc", *flags, str(folder / "a.c"), "-o", str(out)], check=True, timeout=60)
    return out


def _nm(library: Path, *flags: str) -> set[str]:
    text = subprocess.run(["nm", "-D", *flags, str(library)], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1].split("@")[0] for line in text.splitlines()}


def test_symbols_agree_with_nm(library: Path) -> None:
    facts = elf.read(library)
    defined = _nm(library, "--defined-only")
    undefined = _nm(library, "--undefined-only")
    weak = {
        "weak_elsewhere",
        "__cxa_finalize",
        "__gmon_start__",
        "_ITM_registerTMCloneTable",
        "_ITM_deregisterTMCloneTable",
    }
    assert set(facts.undefined) == undefined - weak
    assert "strong_elsewhere" in facts.undefined
    with elf.ElfFile(library) as file:
        assert file.defined(defined | undefined | {"hidden_one", "local_one", "absent", ""}) == defined
    assert {"first", "weak_here", "_ZN3c105ErrorE", "many_199"} <= defined  # the oracle itself


def test_dynamic_section_agrees_with_readelf(library: Path) -> None:
    facts = elf.read(library)
    text = subprocess.run(["readelf", "-dVW", str(library)], check=True, capture_output=True, text=True).stdout
    assert list(facts.needed) == re.findall(r"NEEDED.*\[(.*)\]", text)
    assert facts.soname == "libfirst.so.1"
    assert facts.runpath == ("$ORIGIN/../other", "/opt/x")
    assert set(facts.versions_needed) == set(re.findall(r"Name: (GLIBC\S+)", text))
    assert facts.machine == "x86_64" or facts.machine == "aarch64"
    assert facts.compilers and facts.build_id


def test_versions_that_a_library_defines(tmp_path: Path) -> None:
    (tmp_path / "a.c").write_text("int one(void) { return 1; }\nint two(void) { return 2; }\n")
    (tmp_path / "map").write_text("V_1.0 { global: one; };\nV_2.0 { global: two; local: *; } V_1.0;\n")
    out = tmp_path / "libv.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", f"-Wl,--version-script={tmp_path / 'map'}", str(tmp_path / "a.c"), "-o", str(out)],
        check=True, timeout=60,
    )  # fmt: skip
    assert elf.read(out).versions_defined == ("libv.so", "V_1.0", "V_2.0")


def test_a_file_cut_off_anywhere_is_refused(library: Path, tmp_path: Path) -> None:
    data = library.read_bytes()
    cut = tmp_path / "cut.so"
    for size in [*range(0, 200, 7), *range(200, len(data), 331), len(data) - 1]:
        cut.write_bytes(data[:size])
        with pytest.raises(elf.ElfError, match=r"cut off|too short|empty|no section table"):
            elf.read(cut)


def test_damaged_bytes_never_give_anything_but_facts_or_elf_error(library: Path, tmp_path: Path) -> None:
    data = library.read_bytes()
    generator = random.Random(4)
    file = tmp_path / "damaged.so"
    table = int.from_bytes(data[40:48], "little")
    places = [*range(64), *range(table, len(data))]
    for round_number in range(400):
        damaged = bytearray(data)
        for _ in range(3):
            at = generator.choice(places) if round_number % 2 else generator.randrange(len(data))
            damaged[at] = generator.randrange(256)
        file.write_bytes(damaged)
        try:
            elf.read(file)
            with elf.ElfFile(file) as opened:
                opened.defined({"first", "absent"})
        except elf.ElfError as error:
            assert str(error)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "too short"),
        (b"x" * 100, "does not begin as an ELF"),
        (b"version https://git-lfs.github.com/spec/v1\n" + b" " * 64, "Git LFS pointer"),
        (b"\x7fELF\x01\x01" + b"\0" * 100, "64-bit"),
        (b"\x7fELF\x02\x01" + b"\0" * 100, "no shared library"),
    ],
)
def test_what_is_no_library_is_named(content: bytes, text: str, tmp_path: Path) -> None:
    file = tmp_path / "x.so"
    file.write_bytes(content)
    with pytest.raises(elf.ElfError, match=text):
        elf.read(file)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.so", tmp_path):
        with pytest.raises(elf.ElfError, match="cannot be read"):
            elf.read(path)


def test_the_writer_of_the_self_test_makes_what_readelf_reads(tmp_path: Path) -> None:
    path = elf_writer.write(
        tmp_path / "w.so", soname="w.so.1", needed=["libc10.so", "libc.so.6"], runpath="$ORIGIN",
        defined=["one", "two"], undefined=["three"],
        versions_needed={"libc.so.6": ["GLIBC_2.17", "GLIBC_2.38"], "libstdc++.so.6": ["GLIBCXX_3.4"]},
        versions_defined=["w.so.1", "W_1"], code=elf_writer.gpu_code(["sm_80", "compute_90"]),
    )  # fmt: skip
    facts = elf.read(path)
    assert facts.soname == "w.so.1" and facts.needed == ("libc10.so", "libc.so.6") and facts.undefined == ("three",)
    assert facts.versions_needed == ("GLIBCXX_3.4", "GLIBC_2.17", "GLIBC_2.38")
    assert facts.versions_defined == ("w.so.1", "W_1") and facts.architectures == ("sm_80", "compute_90")
    done = subprocess.run(["readelf", "-SW", str(path)], capture_output=True, text=True, check=True)
    assert ".nv_fatbin" in done.stdout and "Error" not in done.stderr


def test_cxx11_abi_is_told_by_names() -> None:
    prefix = re.compile("_ZN")
    base = dict.fromkeys(("size", "machine", "soname", "needed", "runpath", "versions_needed", "versions_defined"), ())
    rest = {"architectures": (), "gpu_code_damaged": None, "build_id": None, "compilers": ()}

    def abi(*names: str) -> bool | None:
        return elf.LibraryFacts(**base, **rest, undefined=names).cxx11_abi(prefix)  # type: ignore[arg-type]

    assert abi("_ZN3c106detail14torchCheckFailEPKcS2_jRKSs") is False
    assert abi("_ZN3c106detail14torchCheckFailEPKcS2_jRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE") is True
    assert abi("_ZN3c105ErrorD1Ev") is None
    assert abi("_ZN2at7ClassSsEv") is None  # Ss inside an identifier is no string


def test_the_cache_is_used_while_a_file_stays_and_not_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = elf_writer.write(tmp_path / "a.so", soname="one", needed=["x"])
    first = LibraryCache(tmp_path / "cache")
    known = first.facts(file)
    first.save()
    reads: list[Path] = []
    real = elf.read

    def counted(path: Path) -> elf.LibraryFacts:
        reads.append(path)
        return real(path)

    monkeypatch.setattr("trellis_doctor.cache.read", counted)
    assert LibraryCache(tmp_path / "cache").facts(file) == known
    assert reads == []
    elf_writer.write(file, soname="another", needed=["x"])
    assert LibraryCache(tmp_path / "cache").facts(file).soname == "another"
    assert reads == [file]
    for damage in ("{", "[]", '{"x": 1}', ""):
        next((tmp_path / "cache").glob("*.json")).write_text(damage)
        assert LibraryCache(tmp_path / "cache").facts(file).soname == "another"
