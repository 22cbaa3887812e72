"""The packer: equal contents give equal bits, names follow from what the libraries need."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trellis_build import reproduce, wheels
from trellis_build.errors import BuildError

EPOCH = 1767225600
NAME = wheels.Wheel("thing", "1.0", "py3-none-any")
DESCRIBED = "thing-1.0.dist-info/WHEEL"
META = {
    DESCRIBED: (b"Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: false\nTag: py3-none-any\n", False),
    "thing-1.0.dist-info/METADATA": (b"Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n", False),
}


@pytest.mark.parametrize(
    ("floors", "tag"),
    [
        ([(2, 34), (2, 14)], "py3-none-manylinux_2_34_x86_64"),
        ([(2, 5)], "py3-none-manylinux_2_17_x86_64"),
        ([], "py3-none-manylinux_2_17_x86_64"),
        ([(2, 9), (2, 28)], "py3-none-manylinux_2_28_x86_64"),
    ],
)
def test_tag_follows_the_newest_symbol(floors: list[tuple[int, int]], tag: str) -> None:
    assert wheels.manylinux_tag(floors, "x86_64") == tag


def test_names() -> None:
    wheel = wheels.parse_name("trellis_mesh-0.1.0-py3-none-manylinux_2_34_x86_64.whl")
    assert (wheel.name, wheel.version, wheel.tag) == ("trellis_mesh", "0.1.0", "py3-none-manylinux_2_34_x86_64")
    assert wheels.parse_name(wheel.file) == wheel
    for bad in ("thing.whl", "thing-1.0.tar.gz", "thing-1.0-1-py3-none-any.whl"):
        with pytest.raises(BuildError, match="not the name of a wheel"):
            wheels.parse_name(bad)


files = st.dictionaries(
    st.from_regex(r"thing/[a-z]{1,6}(/[a-z]{1,6})?\.(py|so)", fullmatch=True),
    st.tuples(st.binary(max_size=64), st.booleans()),
    max_size=6,
)


@settings(deadline=None, max_examples=30)
@given(contents=files, data=st.data())
def test_order_of_contents_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, tuple[bytes, bool]], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("w")
    everything = {**contents, **META}
    shuffled = dict(data.draw(st.permutations(list(everything.items()))))
    one = wheels.pack(everything, NAME, folder / "a", epoch=EPOCH)
    two = wheels.pack(shuffled, NAME, folder / "b", epoch=EPOCH)
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert archive.testzip() is None
        for name, (content, executable) in contents.items():
            assert archive.read(name) == content
            assert bool(archive.getinfo(name).external_attr >> 16 & 0o100) == executable
        assert archive.namelist()[-1] == "thing-1.0.dist-info/RECORD"


def test_repacking_forgets_what_the_first_packer_knew(tmp_path: Path) -> None:
    packed = []
    for number, level in enumerate((0, 9)):
        source = tmp_path / str(number) / NAME.file
        source.parent.mkdir()
        with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
            items = [("thing/a.py", (b"x = 1\n" * 40, False)), *META.items()]
            for name, (content, _) in items if number else reversed(items):
                archive.writestr(zipfile.ZipInfo(name, (1990 + number, 1, 1, 0, 0, 0)), content)
            archive.writestr("thing-1.0.dist-info/RECORD", f"nonsense {number}")
        packed.append(
            wheels.repack(source, tmp_path / "out" / str(number), epoch=EPOCH, tag="py3-none-manylinux_2_17_x86_64")
        )
    assert packed[0].read_bytes() == packed[1].read_bytes()
    assert packed[0].name == "thing-1.0-py3-none-manylinux_2_17_x86_64.whl"
    with zipfile.ZipFile(packed[0]) as archive:
        lines = archive.read(DESCRIBED).decode().splitlines()
        assert [line for line in lines if line.startswith("Tag")] == ["Tag: py3-none-manylinux_2_17_x86_64"]
        assert "Root-Is-Purelib: false" in lines
        assert {entry.date_time for entry in archive.infolist()} == {(2026, 1, 1, 0, 0, 0)}


def test_pip_accepts_the_wheel(tmp_path: Path) -> None:
    path = wheels.pack({**META, "thing/__init__.py": (b"x = 1\n", False)}, NAME, tmp_path, epoch=EPOCH)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps"]
    done = subprocess.run([*pip, "--target", tmp_path / "site", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "thing" / "__init__.py").read_text() == "x = 1\n"


def test_a_wheel_without_its_description_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"thing-1\.0\.dist-info/WHEEL is missing"):
        wheels.pack({"thing/a.py": (b"", False)}, NAME, tmp_path, epoch=EPOCH)


def _dist(folder: Path, contents: dict[str, bytes], bill: str = "{}") -> Path:
    wheels.pack({**META, **{k: (v, False) for k, v in contents.items()}}, NAME, folder, epoch=EPOCH)
    (folder / "sbom.cdx.json").write_text(bill)
    return folder


def test_the_first_differing_file_and_byte_are_named(tmp_path: Path) -> None:
    left = _dist(tmp_path / "a", {"thing/a.so": b"same", "thing/b.so": b"0123456789"})
    reproduce.compare(left, _dist(tmp_path / "b", {"thing/a.so": b"same", "thing/b.so": b"0123456789"}))
    with pytest.raises(BuildError, match=r"thing/b\.so differs first at byte 7 \(10 and 10 bytes\)"):
        reproduce.compare(left, _dist(tmp_path / "c", {"thing/a.so": b"same", "thing/b.so": b"0123456x89"}))
    with pytest.raises(BuildError, match=r"thing/b\.so differs first at byte 4 \(10 and 4 bytes\)"):
        reproduce.compare(left, _dist(tmp_path / "d", {"thing/a.so": b"same", "thing/b.so": b"0123"}))
    with pytest.raises(BuildError, match=r"thing/b\.so is in one of the two only"):
        reproduce.compare(left, _dist(tmp_path / "e", {"thing/a.so": b"same"}))
    with pytest.raises(BuildError, match=r"sbom\.cdx\.json differs"):
        reproduce.compare(left, _dist(tmp_path / "f", {"thing/a.so": b"same", "thing/b.so": b"0123456789"}, "[]"))
    (tmp_path / "g").mkdir()
    with pytest.raises(BuildError, match=r"one build gives .*thing-1\.0-py3-none-any\.whl; the other"):
        reproduce.compare(left, tmp_path / "g")
